-- Hand a request to those who serve its command, once however often it is sent.
-- KEYS: the command's requests, the bits of what the caller has sent
-- ARGV: which bit, how long the bits are kept in ms, the channel of those who serve it, time-out ms,
-- the request
-- Returns how many serve it; 0: nobody does, and nothing is kept.
local serving = redis.call('PUBSUB', 'NUMSUB', ARGV[3])[2]
if serving == 0 then
  return 0
end
if redis.call('SETBIT', KEYS[2], ARGV[1], 1) == 1 then
  return serving
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = string.format('%.0f %.0f ', now, now + ARGV[4])
redis.call('RPUSH', KEYS[1], head .. ARGV[5])
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[4], 3600000)) -- each says itself when its time is over
return serving
