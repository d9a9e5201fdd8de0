-- Deliver entries again at once, as the same attempts: they were cut off.
-- ARGV: group, consumer, then (entry, delivery) each. Returns how many.
local count = 0
for at = 3, #ARGV, 2 do
  local stream, id = split(ARGV[at])
  if standing(ARGV[1], ARGV[2], stream, id, ARGV[at + 1]) == 1 then
    wait(ARGV[1], stream, id, ARGV[at], ARGV[at + 1] - 1, digits(milliseconds()))
    count = count + 1
  end
end
if count > 0 then
  wake()
end
return count
