-- Notes that the dispatch of the claim with this token failed; 0 when it is fenced or over.
local run_id, token = unpack(ARGV)
local run = find(run_id)
if not run or run.token ~= token or not is_active(run) then
  return 0
end
run.status, run.lease_until, run.is_dispatched = 'failed', '', false
store(run)
return 1
