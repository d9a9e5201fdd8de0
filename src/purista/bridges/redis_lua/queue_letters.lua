-- List dead letters.
-- KEYS: the eight. ARGV: the number after which to begin, how many at most, how many bytes at most
-- Returns whether there may be more, and (number, id, what is known, job) each.
local found, size = {}, 0
local numbers = redis.call('ZRANGEBYSCORE', BURIED, '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #numbers, 2 do
  if size > tonumber(ARGV[3]) then
    return {1, found}
  end
  local id = numbers[at]
  local job = redis.call('HGET', JOBS, id) or ''
  found[#found + 1] = {numbers[at + 1], id, redis.call('HGET', LETTERS, id) or '0 1 0  ', job}
  size = size + #job
end
return {#numbers == 2 * ARGV[2] and 1 or 0, found}
