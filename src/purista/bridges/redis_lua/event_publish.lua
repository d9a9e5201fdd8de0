-- Store an event once, however often it is sent.
-- KEYS: the event's stream, the bits of what its publisher has sent
-- ARGV: which bit, how long the bits are kept, how long events, how long those that nobody subscribes
-- to (all in ms), then the fields
-- Returns the entry's id; an empty text when it was stored before.
if redis.call('SETBIT', KEYS[2], ARGV[1], 1) == 1 then
  return ''
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A stream without an expiry has had a subscriber; what nobody subscribes to is soon forgotten.
local subscribed = redis.call('PTTL', KEYS[1]) == -1
local oldest = string.format('%.0f', math.max(now - (subscribed and ARGV[3] or ARGV[4]), 0))
local id = redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', unpack(ARGV, 5))
if not subscribed then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return id
