-- A job waits as "<order> <id> <attempts> <most>", by the time when it is due.
local DUE = KEYS[4]

local function earliest(set)
  return tonumber(redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2] or NEVER)
end

-- Whoever waits looks again by itself when what was the first is due; only what is sooner is news.
local function is_news(due)
  return due < earliest(DUE) and due < earliest(LEASES)
end

local function await(due, order, id, attempts, most)
  redis.call('ZADD', DUE, digits(due), order .. ' ' .. id .. ' ' .. attempts .. ' ' .. most)
end

-- Let a job wait until it is due, and tell those who wait for one.
local function put(news, due, order, id, attempts, most)
  local is_told = is_news(due)
  await(due, order, id, attempts, most)
  if is_told then
    redis.call('PUBLISH', news, '')
  end
end
