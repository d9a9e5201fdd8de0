-- Let a job be due again, or bury it.
-- KEYS: the eight, the bits of what this bridge has sent
-- ARGV: which bit, how long the bits are kept in ms, token, now or '', the channel of news, time until
-- it is due or '', message id, reason. Returns 0 when the lease is lost.
local id, attempt, most = take_back(ARGV[3])
if not id then
  return redis.call('GETBIT', KEYS[9], ARGV[1])
end
local now = time_or(ARGV[4])
remember(KEYS[9], ARGV[1], ARGV[2])
if ARGV[6] == '' then
  bury(id, attempt, most, now, ARGV[7], ARGV[8])
else
  put(ARGV[5], now + ARGV[6], next_number(), id, attempt, most)
end
return 1
