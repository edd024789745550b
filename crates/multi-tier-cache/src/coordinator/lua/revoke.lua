-- KEYS bus, log, values…, leases…, tombstones…, tag revoked, audit stream, tags of a put…
-- ARGV  1 epoch   2 nonce   3 announced   4 log length   5 channel   6 message without its chain
--       7 values  8 tombstone ms   9 put token  10 put lease ms   11 tag ms   12 is a tag revoked
--      13 audit type  14 audit field  15 its value  16 audit length
-- Tombstones are there if their ms is not 0, the tag if ARGV 12 is 1, the audit stream if its type is not empty.
-- Answers {epoch, seq, nonce, fence, error of the audit}.

local UNPACKED = 500

return answer(function()
  local values = tonumber(ARGV[7])
  local last = 2 + 2 * values
  for from = 3, last, UNPACKED do
    call('UNLINK', unpack(KEYS, from, math.min(from + UNPACKED - 1, last)))
  end
  write_even_when_full(KEYS[1])
  local bus = open_bus(KEYS[1], KEYS[2], ARGV[1])

  if ARGV[8] ~= '0' then
    for at = last + 1, last + values do call('SET', KEYS[at], '1', 'PX', ARGV[8]) end
    last = last + values
  end
  if ARGV[9] ~= '' then call('SET', KEYS[3 + values], lease_of(ARGV[9], bus), 'PX', ARGV[10]) end
  local audited_at = last + tonumber(ARGV[12]) + 1
  local tags_from = audited_at
  if ARGV[13] ~= '' then tags_from = tags_from + 1 end
  for at = tags_from, #KEYS do tag_seq(KEYS[at], bus, ARGV[11]) end
  if ARGV[3] == '0' then return { bus.epoch, bus.seq, bus.nonce, bus.fence, '' } end

  local function logged()
    local seq = number(tonumber(bus.seq) + 1)
    local text = string.sub(ARGV[6], 1, -2) .. ',"mtc":{"v":1,"epoch":"' .. bus.epoch .. '","seq":' .. seq
      .. ',"prev":"' .. bus.nonce .. '","nonce":"' .. ARGV[2] .. '"}}'
    local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], seq .. '-0', 'm', text)
    return seq, text, type(added) == 'table' and added.err
  end
  local seq, message, refused = logged()
  if refused and string.find(refused, 'equal or smaller', 1, true) then
    -- Somebody else wrote into the log: this one is spoilt.
    bus = begin_epoch(KEYS[1], KEYS[2], ARGV[1])
    seq, message, refused = logged()
  end
  if refused then call('XADD', KEYS[2], seq .. '-0', 'm', message) end
  if ARGV[12] == '1' then
    call('SET', KEYS[last + 1], bus.epoch .. '-' .. seq, 'PX', ARGV[11])
  end
  call('HSET', KEYS[1], 'seq', seq, 'nonce', ARGV[2])
  call('PUBLISH', ARGV[5], message)

  local audited = {}
  if ARGV[13] ~= '' then
    local add = { 'XADD', KEYS[audited_at] }
    if ARGV[16] ~= '' then add = { 'XADD', KEYS[audited_at], 'MAXLEN', '~', ARGV[16] } end
    for _, part in ipairs({ '*', 'type', ARGV[13], 'timestamp', call('TIME')[1], ARGV[14], ARGV[15] }) do
      add[#add + 1] = part
    end
    -- The removal stands whatever becomes of its audit.
    audited = redis.pcall(unpack(add))
  end
  return { bus.epoch, seq, ARGV[2], bus.fence, type(audited) == 'table' and audited.err or '' }
end)
