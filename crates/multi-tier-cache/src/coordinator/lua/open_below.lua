-- KEYS tombstone, bus   Answers 1 if the tiers below may be read.

return answer(function()
  return is_open_below(KEYS[1], call('HGET', KEYS[2], 'closed')) and 1 or 0
end)
