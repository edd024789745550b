-- KEYS lease   ARGV token

return answer(function()
  if is_held_by(call('GET', KEYS[1]), ARGV[1]) then call('UNLINK', KEYS[1]) end
  return 1
end)
