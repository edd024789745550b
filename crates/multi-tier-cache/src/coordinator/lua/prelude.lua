-- What every script begins with: errors, and the state of a namespace. PROTOCOL.md describes keys and fields.

local ZERO = '0000000000000000'

-- The error of the command that failed.
local failure

-- redis.call, but the error keeps its code: Redis 6.2 puts the line of the script before OOM and READONLY.
local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    failure = { err = string.match(reply.err, '^@%S+: %d+: %-?(.*)$') or reply.err }
    error(failure)
  end
  return reply
end

-- What `body` answers, or the error of the command that failed in it. Redis 7 lets pcall see the text only.
local function answer(body)
  local finished, reply = pcall(body)
  if finished then return reply end
  return failure or error(reply)
end

local function number(value)
  return string.format('%.0f', value)
end

local function now()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- OOM refuses commands that take memory only until a script has written. A removal must not be refused, so it begins
-- with a write that takes none.
local function write_even_when_full(bus)
  call('PERSIST', bus)
end

local function begin_epoch(bus, log, epoch)
  call('UNLINK', log)
  call('HSET', bus, 'epoch', epoch, 'seq', '0', 'nonce', ZERO, 'fence', '0')
  return { epoch = epoch, seq = '0', nonce = ZERO, fence = '0' }
end

-- A bus that is missing or has lost a field begins a new epoch.
local function open_bus(bus, log, candidate)
  local field = call('HMGET', bus, 'epoch', 'seq', 'nonce', 'fence', 'closed')
  if not (field[1] and field[2] and field[3] and field[4]) then return begin_epoch(bus, log, candidate) end
  return { epoch = field[1], seq = field[2], nonce = field[3], fence = field[4], closed = field[5] }
end

local function is_open_below(tombstone, closed)
  return call('EXISTS', tombstone) == 0 and not (closed and tonumber(closed) > now())
end

-- What a lease holds: its owner, and the fence it was granted under.
local function lease_of(token, bus)
  return token .. ':' .. bus.epoch .. ':' .. bus.fence
end

local function is_held_by(lease, token)
  return lease and string.sub(lease, 1, 32) == token
end

-- The sequence number in the token of a tag. One of another epoch is none.
local function token_seq(token, epoch)
  if token and string.sub(token, 1, 17) == epoch .. '-' then return tonumber(string.sub(token, 18)) end
end

-- The same; a missing token is created.
local function tag_seq(tag, bus, ttl)
  local seq = token_seq(call('GET', tag), bus.epoch)
  if seq then return seq end
  call('SET', tag, bus.epoch .. '-' .. bus.seq, 'PX', ttl)
  return tonumber(bus.seq)
end
