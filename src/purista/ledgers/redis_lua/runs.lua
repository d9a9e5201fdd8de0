-- Runs as rows, and their places in the index.

local function is_active(run)
  return run.status == 'claimed' or run.status == 'active'
end

local function is_given_up(run)
  return run.status == 'failed' and run.ended_at ~= ''
end

local function places(run)
  local id, schedule = run.run_id, sized(run.schedule_id)
  local active, unfinished = is_active(run), run.ended_at == ''
  local nominal = run.nominal_time .. run.token .. id
  local key = schedule .. sized(run.key) .. run.claimed_at .. run.token .. id
  return {
    active and 'a' .. schedule .. run.expires_at .. run.token .. id,
    not is_given_up(run) and 'k' .. key,
    't' .. nominal,
    'T' .. schedule .. nominal,
    unfinished and 'u' .. nominal,
    unfinished and 'U' .. schedule .. nominal,
    active and run.lease_until ~= '' and 'o' .. sized(run.owner) .. id,
    'd' .. run.kept_until .. 'r' .. id,
  }
end

local function move(before, after)
  local gone, new = {}, {}
  for i = 1, 8 do
    if before[i] ~= after[i] then
      if before[i] then
        gone[#gone + 1] = before[i]
      end
      if after[i] then
        new[#new + 1] = 0
        new[#new + 1] = after[i]
      end
    end
  end
  if #new > 0 then
    call('ZADD', INDEX, unpack(new))
  end
  drop(gone)
end

local NOWHERE = { false, false, false, false, false, false, false, false }
local placed = {}

local function find(id)
  local row = call('HGET', RUNS, id)
  if not row then
    return nil
  end
  local run = cjson.decode(row)
  placed[run] = places(run)
  return run
end

local function store(run)
  call('HSET', RUNS, run.run_id, cjson.encode(run))
  local now = places(run)
  move(placed[run], now)
  placed[run] = now
end

-- An undispatched run that expires keeps its lease: its owner may still be at it.
local function finish(run, status, outcome, at)
  run.status, run.outcome, run.ended_at = status, outcome, at
  if run.is_dispatched or status ~= 'expired' then
    run.lease_until = ''
  end
  store(run)
end
