-- Prolongs leases of an owner, some at once; returns where to go on, or ''.
local owner, lease_until, from, most = unpack(ARGV)
local first = 'o' .. sized(owner)
local low = from == '' and '[' .. first or '(' .. from
local members = between(low, beyond(first), most)
for _, member in ipairs(members) do
  local run = find(member:sub(#first + 1))
  if run and run.lease_until < lease_until then
    run.lease_until = lease_until
    store(run)
  end
end
return #members == tonumber(most) and members[#members] or ''
