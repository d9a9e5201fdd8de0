-- Take jobs back whose lease ran out: due since then, or dead.
-- Returns the attempt and the head of each job; fewer than asked for: these were all.
local function expire(now, count)
  local told = {}
  local ended = redis.call('ZRANGEBYSCORE', LEASES, '-inf', digits(now), 'WITHSCORES', 'LIMIT', 0, count)
  for at = 1, #ended, 2 do
    local id, attempt, most = take_back(ended[at])
    local job = id and redis.call('HGET', JOBS, id)
    if job and tonumber(attempt) >= tonumber(most) then
      local reason = 'the lease ran out in attempt ' .. attempt .. ', the last'
      bury(id, attempt, most, now, string.match(job, '^%S*'), reason)
    elseif job then
      await(tonumber(ended[at + 1]), next_number(), id, attempt, most)
    end
    told[#told + 1] = (attempt or 0) .. ' ' .. (job and string.match(job, '^[^\n]*') or '')
  end
  return told
end
