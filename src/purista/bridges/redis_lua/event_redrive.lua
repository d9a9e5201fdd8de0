-- Deliver dead letters again, to their subscriber alone, or delete them.
-- KEYS: the subscriber's own stream, its dead letters, their ids by message id
-- ARGV: 'redrive' or 'purge', message id or '', last letter's id, how many at most.
-- Returns how many; fewer than asked for: these were all.
local letters = {}
if ARGV[2] ~= '' then
  for id in string.gmatch(redis.call('HGET', KEYS[3], ARGV[2]) or '', '%S+') do
    letters[#letters + 1] = redis.call('XRANGE', KEYS[2], id, id)[1]
  end
else
  letters = redis.call('XRANGE', KEYS[2], '-', ARGV[3], 'COUNT', ARGV[4])
end
for _, letter in ipairs(letters) do
  local fields, message = {}, ''
  for at = 1, #letter[2], 2 do
    local name, value = letter[2][at], letter[2][at + 1]
    if name == 'purista:id' then
      message = value
    end
    if name ~= 'purista:attempts' and name ~= 'purista:reason' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  if ARGV[1] == 'redrive' then
    redis.call('XADD', KEYS[1], '*', unpack(fields))
  end
  redis.call('XDEL', KEYS[2], letter[1])
  local left = {}
  for id in string.gmatch(redis.call('HGET', KEYS[3], message) or '', '%S+') do
    if id ~= letter[1] then
      left[#left + 1] = id
    end
  end
  if #left == 0 then
    redis.call('HDEL', KEYS[3], message)
  else
    redis.call('HSET', KEYS[3], message, table.concat(left, ' '))
  end
end
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[2])
end
return #letters
