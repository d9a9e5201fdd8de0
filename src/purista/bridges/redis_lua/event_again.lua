-- Deliver an entry again after a while, as its next attempt.
-- ARGV: group, consumer, entry, delivery, after ms. Returns its standing before.
local stream, id = split(ARGV[3])
local found = standing(ARGV[1], ARGV[2], stream, id, ARGV[4])
if found == 1 then
  wait(ARGV[1], stream, id, ARGV[3], ARGV[4], digits(milliseconds() + ARGV[5]))
elseif found == -1 and redis.call('ZSCORE', KEYS[3], ARGV[3]) then
  local _, count = holder(ARGV[1], stream, id)
  if count == tonumber(ARGV[4]) then
    return 1 -- this step was taken before, and its answer was lost
  end
end
return found
