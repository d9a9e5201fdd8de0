-- Forget a job.
-- KEYS: the three, the bits of what this bridge has sent
-- ARGV: which bit, how long the bits are kept in ms, token. Returns 0 when the lease is lost.
local id = take_back(ARGV[3])
if not id then
  return redis.call('GETBIT', KEYS[4], ARGV[1])
end
redis.call('HDEL', JOBS, id)
remember(KEYS[4], ARGV[1], ARGV[2])
return 1
