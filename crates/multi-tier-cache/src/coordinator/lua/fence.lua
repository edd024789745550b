-- KEYS bus, log   ARGV epoch, ms for which nothing is to be read below

return answer(function()
  write_even_when_full(KEYS[1])
  local bus = open_bus(KEYS[1], KEYS[2], ARGV[1])
  local closed = math.max(tonumber(bus.closed or '0'), now() + tonumber(ARGV[2]))
  call('HSET', KEYS[1], 'fence', number(tonumber(bus.fence) + 1), 'closed', number(closed))
  return 1
end)
