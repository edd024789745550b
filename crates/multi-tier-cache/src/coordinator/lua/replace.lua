-- KEYS value, lease   ARGV bytes, ms

return answer(function()
  if ARGV[2] == '0' then
    call('UNLINK', KEYS[1], KEYS[2])
  else
    call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    call('UNLINK', KEYS[2])
  end
  return 1
end)
