-- ARGV: group, consumer, then (entry, delivery) each. Returns the standing of each before.
local standings = {}
for at = 3, #ARGV, 2 do
  local stream, id = split(ARGV[at])
  local found = standing(ARGV[1], ARGV[2], stream, id, ARGV[at + 1])
  if found == 1 then
    settle(ARGV[1], stream, id)
  end
  standings[#standings + 1] = found
end
return standings
