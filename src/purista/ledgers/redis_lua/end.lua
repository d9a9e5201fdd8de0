-- Ends an active run; 0 when it was not active any more.
local run_id, outcome, now = unpack(ARGV)
local run = find(run_id)
if not run or not is_active(run) then
  return 0
end
if run.expires_at <= now then
  finish(run, 'expired', 'run_timeout', run.expires_at)
  return 0
end
finish(run, 'ended', outcome, now)
return 1
