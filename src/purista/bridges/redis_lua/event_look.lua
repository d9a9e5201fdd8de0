-- Take over what is due: retries whose time has come, and entries whose lease ran out.
-- ARGV: group, consumer, lease ms, room, longest ms until the next look,
-- then, after a connection was lost, 'mine' and the entries that are at work.
-- Returns ms until the next look, and (entry, delivery, fields) each.
local group, consumer, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local room, longest = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = milliseconds()
local taken = {}

local function take(entry, stream, id, delivery, idle)
  local got = redis.call('XCLAIM', stream, group, consumer, idle, id, 'RETRYCOUNT', delivery)[1]
  if got then
    taken[#taken + 1] = {entry, delivery, got[2]}
  elseif #redis.call('XRANGE', stream, id, id) == 0 then
    settle(group, stream, id) -- it was trimmed away
  end
end

local function take_due()
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', digits(now), 'LIMIT', 0, room)) do
    local stream, id = split(entry)
    local owner, delivery = holder(group, stream, id)
    redis.call('ZREM', KEYS[3], entry)
    if owner == WAITING then
      take(entry, stream, id, delivery + 1, 0)
    end
  end
end

local function take_unknown(at_work)
  for number = 1, 2 do
    for _, one in ipairs(redis.call('XPENDING', KEYS[number], group, '-', '+', 1000, consumer)) do
      local entry = number .. ':' .. one[1]
      if not at_work[entry] and #taken < room then
        take(entry, KEYS[number], one[1], one[4], 0)
      end
    end
  end
end

-- Take what a consumer has left alone for too long; return ms until more can be that.
local function take_left(number, name)
  local stream, soonest = KEYS[number], lease
  if #taken < room then
    for _, one in ipairs(redis.call('XPENDING', stream, group, 'IDLE', lease, '-', '+', room - #taken, name)) do
      take(number .. ':' .. one[1], stream, one[1], one[4] + 1, lease)
    end
  end
  for _, one in ipairs(redis.call('XPENDING', stream, group, '-', '+', 100, name)) do
    soonest = math.min(soonest, lease - one[3])
  end
  return soonest
end

local function pending_consumers(stream)
  local names = {}
  if redis.call('XPENDING', stream, group)[1] > 0 then
    for _, one in ipairs(redis.call('XPENDING', stream, group)[4]) do
      if one[1] ~= WAITING then
        names[#names + 1] = one[1]
      end
    end
  end
  return names
end

local soonest = math.min(longest, lease)
if ARGV[6] then
  local at_work = {}
  for at = 7, #ARGV do
    at_work[ARGV[at]] = true
  end
  take_unknown(at_work)
end
if #taken < room then
  take_due()
end
for number = 1, 2 do
  for _, name in ipairs(pending_consumers(KEYS[number])) do
    soonest = math.min(soonest, take_left(number, name))
  end
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then
  soonest = math.min(soonest, first[2] - now)
end
return {math.max(math.ceil(soonest), 0), taken}
