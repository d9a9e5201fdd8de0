-- Let dead letters be due again with all their attempts, or delete them.
-- KEYS: the eight, where the answer is kept in case it is lost
-- ARGV: 'redrive' or 'purge', message id and a space or '', the last number, how many at most, now or '',
-- the channel of news, how long the answer is kept in ms
-- Returns how many; fewer than asked for: these were all.
local answer = redis.call('GET', KEYS[9])
if answer then
  return tonumber(answer)
end

local function wanted()
  if ARGV[2] == '' then
    return redis.call('ZRANGEBYSCORE', BURIED, '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])
  end
  local ids = {}
  for _, one in ipairs(redis.call('ZRANGEBYLEX', IDS, '[' .. ARGV[2], '[' .. ARGV[2] .. '~', 'LIMIT', 0, ARGV[4])) do
    ids[#ids + 1] = string.sub(one, #ARGV[2] + 1)
  end
  return ids
end

local now, ids = time_or(ARGV[5]), wanted()
for _, id in ipairs(ids) do
  redis.call('ZREM', BURIED, id)
  local known = redis.call('HGET', LETTERS, id) or '0 1 0  '
  local most, message = string.match(known, '^%S+ (%S+) %S+ (%S*) ')
  redis.call('HDEL', LETTERS, id)
  redis.call('ZREM', IDS, message .. ' ' .. id)
  if ARGV[1] == 'redrive' then
    put(ARGV[6], now, next_number(), id, 0, most)
  else
    redis.call('HDEL', JOBS, id)
  end
end
redis.call('SET', KEYS[9], #ids, 'PX', ARGV[7])
return #ids
