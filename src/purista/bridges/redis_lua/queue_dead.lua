-- A dead letter is known as "<attempts> <most> <died at> <message id> <reason>".
-- KEYS: from the sixth on the dead letters by their number, what is known of each, their ids by message id
local BURIED, LETTERS, IDS = KEYS[6], KEYS[7], KEYS[8]

local function bury(id, attempts, most, now, message, reason)
  redis.call('ZADD', BURIED, next_number(), id)
  redis.call('HSET', LETTERS, id, table.concat({attempts, most, digits(now), message, reason}, ' '))
  redis.call('ZADD', IDS, 0, message .. ' ' .. id)
end
