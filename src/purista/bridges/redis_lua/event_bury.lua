-- Make a dead letter of an entry.
-- KEYS: the three, the dead letters, their ids by message id
-- ARGV: group, consumer, entry, delivery, attempts, message id, reason. Returns its standing before;
-- 2: the entry itself had been deleted.
local stream, id = split(ARGV[3])
local found = standing(ARGV[1], ARGV[2], stream, id, ARGV[4])
if found ~= 1 then
  return found
end
local entry = redis.call('XRANGE', stream, id, id)[1]
if entry then
  local fields = {'purista:attempts', ARGV[5], 'purista:reason', ARGV[7], 'purista:id', ARGV[6]}
  for at = 1, #entry[2], 2 do
    if entry[2][at] ~= 'purista:id' then
      fields[#fields + 1] = entry[2][at]
      fields[#fields + 1] = entry[2][at + 1]
    end
  end
  local letter = redis.call('XADD', KEYS[4], '*', unpack(fields))
  local known = redis.call('HGET', KEYS[5], ARGV[6])
  redis.call('HSET', KEYS[5], ARGV[6], known and (known .. ' ' .. letter) or letter)
end
settle(ARGV[1], stream, id)
return entry and 1 or 2
