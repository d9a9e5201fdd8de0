-- Decides about a trigger, records the decision, and claims its run when it is accepted.
--
-- The rules are those of book.py, in its words. Returns the ruling as JSON.
local schedule, nominal, key, run_id, source, owner, now, verdict, reason, policy, manual,
  since, expires, lease, kept, run_kept, clock = unpack(ARGV)
local REFUSED = { disabled = true, unexpected = true, rejected = true }
local SEEN = { overlap = true, late = true, coalesced = true }
local prefix = sized(schedule)
local skip_id = prefix .. sized(key) .. nominal
manual = manual ~= ''

local function by_token(one, other)
  return one.token < other.token
end

local function runs_in(members)
  local runs = {}
  for _, member in ipairs(members) do
    runs[#runs + 1] = find(member:sub(#prefix + 36))
  end
  table.sort(runs, by_token)
  return runs
end

local function expire()
  local runs = runs_in(between('[a' .. prefix, beyond('a' .. prefix .. now), -1))
  for _, run in ipairs(runs) do
    finish(run, 'expired', 'run_timeout', run.expires_at)
  end
  return runs
end

local function active_except(own)
  local others = {}
  for _, member in ipairs(between('[a' .. prefix, beyond('a' .. prefix), -1)) do
    if member:sub(#prefix + 36) ~= own then
      others[#others + 1] = member
    end
  end
  return others
end

-- Among thousands, only the row of the newest is read.
local function newest_of(members)
  local newest, largest = nil, ''
  for _, member in ipairs(members) do
    local token = member:sub(#prefix + 20, #prefix + 35)
    if token > largest then
      newest, largest = member, token
    end
  end
  return newest and find(newest:sub(#prefix + 36))
end

local function earlier_run()
  local first = 'k' .. prefix .. sized(key)
  local newest = call('ZREVRANGEBYLEX', INDEX, beyond(first), '[' .. first, 'LIMIT', 0, 1)[1]
  local run = newest and find(newest:sub(#first + 35))
  if run and run.claimed_at > since then
    return run
  end
  run = find(run_id)
  if run and not is_given_up(run) and (is_active(run) or run.claimed_at > since) then
    return run
  end
  return nil
end

local function duplicate(id, why, wait)
  return { verdict = 'duplicate', run_id = id, reason = why, wait_until = wait }
end

local function duplicate_of(run)
  if run.status == 'active' and run.lease_until ~= '' then
    if run.owner == owner then
      return duplicate(run.run_id, 'its run is active in this process')
    end
  elseif run.is_dispatched or run.status == 'ended' or run.status == 'replaced' then
    return duplicate(run.run_id, 'its run is ' .. run.status)
  end
  if run.lease_until == '' or run.lease_until <= now then
    return nil
  end
  local why = 'its run is ' .. run.status .. '; another process may still be at it'
  return duplicate(run.run_id, why, run.lease_until)
end

local function skipped_before()
  local skip = not manual and call('HGET', SKIPS, skip_id)
  if skip and skip:sub(1, 18) > since then
    return duplicate(skip:sub(37), 'it was skipped before')
  end
  return nil
end

local function skip(id)
  local known = call('HGET', SKIPS, skip_id)
  call('HSET', SKIPS, skip_id, now .. kept .. id)
  call('ZADD', INDEX, 0, 'd' .. kept .. 's' .. skip_id)
  if known and known:sub(19, 36) ~= kept then
    drop({ 'd' .. known:sub(19, 36) .. 's' .. skip_id })
  end
end

local function raise_latest()
  local latest = call('HGET', LATEST, schedule)
  if not latest or latest < nominal then
    call('HSET', LATEST, schedule, nominal)
  end
end

-- Larger than any before, even after a server forgot the last ones: microseconds of the caller.
local function next_number()
  local last = tonumber(call('HGET', META, 'number') or '0')
  local number = string.format('%016d', math.max(last + 1, tonumber(clock)))
  call('HSET', META, 'number', number, 'version', '1')
  return number
end

local function append(ruling)
  local number = next_number()
  call('HSET', RECORDS, number, cjson.encode({
    schedule_id = schedule, nominal_time = nominal, key = key, run_id = ruling.run_id,
    verdict = ruling.verdict, reason = ruling.reason, reason_instant = ruling.reason_instant,
    source = source, decided_at = now,
  }))
  local own, due = 'N' .. prefix .. number, 'd' .. kept .. 'n' .. number
  call('ZADD', INDEX, 0, 'n' .. number, 0, own, 0, due)
  if SEEN[ruling.verdict] and not manual then
    skip(ruling.run_id)
  end
  if not manual and not REFUSED[verdict] then
    raise_latest()
  end
  return number
end

local function record(ruling)
  append(ruling)
  return ruling
end

local function refusal(word, why, instant)
  return { verdict = word, run_id = run_id, reason = why, reason_instant = instant }
end

local function overlap(earlier, other)
  if earlier and not manual then
    finish(earlier, 'failed', 'overlap', now)
  end
  local why = 'run ' .. other.run_id .. ' is ' .. other.status .. ' since '
  return record(refusal('overlap', why, other.claimed_at))
end

local function claim(earlier, own, expired, replaced)
  local ruling = { verdict = 'accepted', run_id = own, reason = reason, cancelled = {} }
  if earlier then
    ruling.taken_over = true
    ruling.reason = 'taken over, its run was ' .. earlier.status .. '; ' .. reason
  end
  for _, run in ipairs(expired) do
    if run.run_id ~= own then
      table.insert(ruling.cancelled, run.run_id)
    end
  end
  for _, run in ipairs(replaced) do
    finish(run, 'replaced', 'replaced', now)
    table.insert(ruling.cancelled, run.run_id)
  end
  ruling.token = append(ruling)
  local known = find(own)
  local run = {
    run_id = own, schedule_id = schedule, status = 'claimed', token = ruling.token, owner = owner,
    nominal_time = earlier and earlier.nominal_time or nominal,
    key = earlier and earlier.key or key,
    claimed_at = earlier and earlier.claimed_at or now,
    expires_at = expires, lease_until = lease, ended_at = '', outcome = '', is_dispatched = false,
    kept_until = run_kept,
  }
  placed[run] = known and placed[known] or NOWHERE
  store(run)
  return ruling
end

local function decide()
  local expired = expire()
  local earlier = earlier_run()
  local ruling = earlier and duplicate_of(earlier)
  if ruling then
    return record(ruling)
  end
  if REFUSED[verdict] then
    return record(refusal(verdict, reason))
  end
  if not earlier then
    ruling = skipped_before()
    if ruling or verdict ~= 'accepted' then
      return record(ruling or refusal(verdict, reason))
    end
  end
  local own = earlier and earlier.run_id or run_id
  local others = policy == 'allow' and {} or active_except(own)
  local other = policy == 'forbid' and newest_of(others)
  if other then
    return overlap(earlier, other)
  end
  return claim(earlier, own, expired, policy == 'replace' and runs_in(others) or {})
end

local ruling = decide()
prune(now, 4)
return cjson.encode(ruling)
