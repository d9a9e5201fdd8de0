-- What the scripts of a subscription share.
-- KEYS: the event's stream, the subscriber's own stream, its retries
-- An entry is told by the number of its stream and its id: "1:1700000000000-0".

-- The consumer that holds what waits for its next attempt.
local WAITING = 'waiting'

local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digits(number)
  return string.format('%.0f', number)
end

local function split(entry)
  return KEYS[tonumber(string.sub(entry, 1, 1))], string.sub(entry, 3)
end

-- Who has an entry in hand, and in which delivery; nil: nobody, it was settled.
local function holder(group, stream, id)
  local found = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if found then
    return found[2], found[4]
  end
end

-- Whether a delivery may still be settled: 1; 0: it was settled, -1: it is another's.
local function standing(group, consumer, stream, id, delivery)
  local owner, count = holder(group, stream, id)
  if not owner then
    return 0
  end
  if owner == consumer and count == tonumber(delivery) then
    return 1
  end
  return -1
end

-- Forget an entry; one in the subscriber's own stream is nobody else's.
local function settle(group, stream, id)
  redis.call('XACK', stream, group, id)
  if stream == KEYS[2] then
    redis.call('XDEL', stream, id)
  end
end

-- Let one of the receivers that wait for events look for what is due.
local function wake()
  redis.call('XADD', KEYS[2], '*', 'purista:wake', '1')
end

-- Put an entry by until an instant; the next delivery counts on from the given number.
local function wait(group, stream, id, entry, delivery, due)
  redis.call('XCLAIM', stream, group, WAITING, 0, id, 'RETRYCOUNT', delivery, 'JUSTID')
  redis.call('ZADD', KEYS[3], due, entry)
end
