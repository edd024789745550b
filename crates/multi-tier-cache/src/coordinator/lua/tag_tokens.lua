-- KEYS bus, log, tags…   ARGV epoch   Answers {epoch, seq or nothing, …}.

local UNPACKED = 500

return answer(function()
  local bus = open_bus(KEYS[1], KEYS[2], ARGV[1])
  local reply = { bus.epoch }
  for from = 3, #KEYS, UNPACKED do
    for _, token in ipairs(call('MGET', unpack(KEYS, from, math.min(from + UNPACKED - 1, #KEYS)))) do
      local seq = token_seq(token, bus.epoch)
      reply[#reply + 1] = seq and number(seq) or false
    end
  end
  return reply
end)
