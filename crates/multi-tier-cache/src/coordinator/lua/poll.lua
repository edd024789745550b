-- KEYS bus, log   ARGV epoch, and for a fork: the epoch that it is to end
-- Answers {epoch, seq, nonce, server ms}.

return answer(function()
  -- A server that was demoted answers reads for ever: whoever polls must learn that this is not the master.
  local persisted = redis.pcall('PERSIST', KEYS[1])
  if type(persisted) == 'table' and persisted.err and string.find(persisted.err, 'READONLY', 1, true) then
    call('PERSIST', KEYS[1])
  end
  local bus = open_bus(KEYS[1], KEYS[2], ARGV[1])
  if bus.epoch == ARGV[2] then bus = begin_epoch(KEYS[1], KEYS[2], ARGV[1]) end
  return { bus.epoch, bus.seq, bus.nonce, number(now()) }
end)
