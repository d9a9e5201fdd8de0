-- Lease jobs that are due, those first that are due longest.
-- KEYS: the eight, the number of this bridge's last look and the tokens that it gave
-- ARGV: now or '', the look's number, the number of the last one whose answer came, how long an answer
-- may be missing in ms, how many leases are ended at most, then the duration of each lease
-- Returns one text: the time until there may be more (-1: nobody knows, 0: now), how many jobs were not
-- there any more, then (token, attempt) each; then the jobs; then what 'expire' says.
local now, this = time_or(ARGV[1]), tonumber(ARGV[2])
local wanted = #ARGV - 5
local BRIEF = 60000000 -- for what is given back at once
local leased, attempts_of, tokens, told, gone = {}, {}, {ARGV[2]}, {}, 0

local function lend(token, id, attempt, most, since, order)
  local job = redis.call('HGET', JOBS, id)
  if not job then
    gone = gone + 1
    return
  end
  local duration = ARGV[6 + #leased] or ARGV[6] or BRIEF
  redis.call('ZADD', LEASES, digits(now + duration), token)
  redis.call('HSET', HELD, token, id .. ' ' .. attempt .. ' ' .. most .. ' ' .. since .. ' ' .. order)
  leased[#leased + 1] = job
  attempts_of[#leased] = token .. ' ' .. attempt
  tokens[#tokens + 1] = token
end

local function lend_again(unseen)
  for token in string.gmatch(unseen, '%d+') do
    local id, attempt, most, since, order = take_back(token)
    if id then
      lend(token, id, attempt, most, since, order)
    end
  end
end

local function lend_due(count)
  local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', digits(now), 'WITHSCORES', 'LIMIT', 0, count)
  for at = 1, #due, 2 do
    redis.call('ZREM', DUE, due[at])
    local order, id, attempts, most = string.match(due[at], '^(%S+) (%S+) (%S+) (%S+)$')
    lend(next_number(), id, attempts + 1, most, digits(tonumber(due[at + 1])), order)
  end
end

local last, given = string.match(redis.call('GET', KEYS[9]) or '0', '^(%d+)(.*)$')
last = tonumber(last)
if this < last then
  return {'0 0'} -- it was given up long ago: nobody waits for its answer
end
if last > tonumber(ARGV[3]) then
  lend_again(given) -- nobody saw them: they are given as the same attempts
end
if this > last then
  told = expire(now, ARGV[5])
  lend_due(math.max(wanted - #leased, 0))
end
if #leased == 0 then
  redis.call('ZREM', DUE, '') -- begins by taking away, see take_back
end
redis.call('SET', KEYS[9], table.concat(tokens, ' '), 'PX', ARGV[4])
local left = -1
if #leased < wanted then
  local soonest = math.min(earliest(DUE), earliest(LEASES))
  left = soonest < NEVER and math.max(soonest - now, 0) or -1
end
local answer = {table.concat({string.format('%.0f', left), gone, unpack(attempts_of)}, ' '), unpack(leased)}
for _, one in ipairs(told) do
  answer[#answer + 1] = one
end
return answer
