-- Store a job, once however often it is sent.
-- KEYS: the eight, the bits of what its sender has sent, its key if it has one
-- ARGV: which bit, how long the bits are kept in ms, now or '', the channel of news, the job, most
-- attempts, delay, then with a key its window, and how long the key is kept in ms
-- Returns 1, or 0: its key was seen before.
local now = time_or(ARGV[3])
if KEYS[10] and tonumber(redis.call('GET', KEYS[10]) or 0) > now then
  return redis.call('GETBIT', KEYS[9], ARGV[1])
end
if remember(KEYS[9], ARGV[1], ARGV[2]) then
  return 1
end
local number = next_number()
if KEYS[10] then
  redis.call('SET', KEYS[10], digits(now + ARGV[8]), 'PX', ARGV[9])
end
redis.call('HSET', JOBS, number, ARGV[5])
put(ARGV[4], now + ARGV[7], number, number, 0, ARGV[6])
return 1
