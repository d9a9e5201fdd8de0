-- Notes that the claim with this token was dispatched; 0 when it is fenced.
local run_id, token, lease_until = unpack(ARGV)
local run = find(run_id)
if not run or run.token ~= token then
  return 0
end
if run.status == 'expired' and not run.is_dispatched then
  run.is_dispatched, run.lease_until = true, ''
  store(run)
end
if is_active(run) then
  run.status, run.is_dispatched, run.lease_until = 'active', true, lease_until
  store(run)
  return 1
end
return run.status == 'ended' and 1 or 0
