-- KEYS bus, log, value, lease, tags…   ARGV epoch, token, granted epoch, granted seq, bytes, ms, tag ms
-- Answers 1 if the value was stored.

return answer(function()
  local value, lease, token, ttl = KEYS[3], KEYS[4], ARGV[2], ARGV[6]
  local held = call('GET', lease)
  if not is_held_by(held, token) then return 0 end
  local bus = open_bus(KEYS[1], KEYS[2], ARGV[1])
  local admitted = held == lease_of(token, bus) and ARGV[3] == bus.epoch and ttl ~= '0'
  for at = 5, #KEYS do
    if tag_seq(KEYS[at], bus, ARGV[7]) > tonumber(ARGV[4]) then admitted = false end
  end
  if admitted then
    -- Before any other write: one that takes no memory would let this one pass when the server is full.
    call('SET', value, ARGV[5], 'PX', ttl)
    for at = 5, #KEYS do
      local left = call('PTTL', KEYS[at])
      if left >= 0 and left < tonumber(ARGV[7]) then call('PEXPIRE', KEYS[at], ARGV[7]) end
    end
  end
  call('UNLINK', lease)
  return admitted and 1 or 0
end)
