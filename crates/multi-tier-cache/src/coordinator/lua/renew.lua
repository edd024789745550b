-- KEYS lease   ARGV token, lease ms
-- Answers 1 if the lease was held, and lasts so long from now on.

return answer(function()
  if not is_held_by(call('GET', KEYS[1]), ARGV[1]) then return 0 end
  call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end)
