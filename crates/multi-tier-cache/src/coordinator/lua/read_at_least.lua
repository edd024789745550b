-- KEYS bus, log, value   ARGV epoch, seq, nonce   Answers {unknown}, {reached} or {reached, bytes, ms}.

local function is_reached(bus, log, epoch, seq, nonce)
  local tail = call('HMGET', bus, 'epoch', 'seq', 'nonce')
  if tail[1] ~= epoch then return false end
  if tail[2] == seq and tail[3] == nonce or seq == '0' and nonce == ZERO then return true end
  local entry = call('XRANGE', log, seq .. '-0', seq .. '-0')[1]
  local ending = '"nonce":"' .. nonce .. '"}}'
  return entry and string.sub(entry[2][2], -#ending) == ending
end

return answer(function()
  if not is_reached(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]) then return { 'unknown' } end
  local value = call('GET', KEYS[3])
  if not value then return { 'reached' } end
  return { 'reached', value, number(call('PTTL', KEYS[3])) }
end)
