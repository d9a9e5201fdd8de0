-- Let the lease of an entry begin anew.
-- ARGV: group, consumer, entry, delivery. Returns its standing.
local stream, id = split(ARGV[3])
local found = standing(ARGV[1], ARGV[2], stream, id, ARGV[4])
if found == 1 then
  redis.call('XCLAIM', stream, ARGV[1], ARGV[2], 0, id, 'JUSTID')
end
return found
