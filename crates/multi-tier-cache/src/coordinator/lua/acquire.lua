-- KEYS bus, log, value, lease, tombstone, tags…   ARGV epoch, token, lease ms, refresh, tag ms
-- Answers {value, bytes, ms} or {busy, ms} or {granted, epoch, fence, seq, open below}.

return answer(function()
  local value, lease, tombstone, token = KEYS[3], KEYS[4], KEYS[5], ARGV[2]
  if ARGV[4] == '0' then
    local present = call('GET', value)
    if present then return { 'value', present, number(call('PTTL', value)) } end
  end
  local held = call('GET', lease)
  if held and not is_held_by(held, token) then return { 'busy', number(call('PTTL', lease)) } end
  local bus = open_bus(KEYS[1], KEYS[2], ARGV[1])
  -- Who asks again keeps the fence of the first grant: it may have begun to read under that one.
  call('SET', lease, held or lease_of(token, bus), 'PX', ARGV[3])
  for at = 6, #KEYS do tag_seq(KEYS[at], bus, ARGV[5]) end
  local open = is_open_below(tombstone, bus.closed) and '1' or '0'
  return { 'granted', bus.epoch, bus.fence, bus.seq, open }
end)
