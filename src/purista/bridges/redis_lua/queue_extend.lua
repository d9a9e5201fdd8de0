-- Let a lease run out at another time.
-- KEYS: the eight. ARGV: token, now or '', the channel of news, duration. Returns 0 when it is lost.
if not redis.call('ZSCORE', LEASES, ARGV[1]) then
  return 0
end
local ends = time_or(ARGV[2]) + ARGV[4]
local is_told = is_news(ends)
redis.call('ZREM', LEASES, ARGV[1]) -- see take_back
redis.call('ZADD', LEASES, digits(ends), ARGV[1])
if is_told then
  redis.call('PUBLISH', ARGV[3], '')
end
return 1
