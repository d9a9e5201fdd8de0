-- Forget what nobody needs: what every subscriber has handled, and consumers that are gone.
-- KEYS: the three. ARGV: group, linger ms, keep ms, gone ms. Returns 1 when there is more to be trimmed.
local now = milliseconds()

-- Compare by number: "9-5" is before "10-0".
local function before(one, other)
  local ms, seq = string.match(one, '(%d+)%-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)%-(%d+)')
  if ms == other_ms then
    return tonumber(seq) < tonumber(other_seq)
  end
  return tonumber(ms) < tonumber(other_ms)
end

local function field(pairs_of, name)
  for at = 1, #pairs_of, 2 do
    if pairs_of[at] == name then
      return pairs_of[at + 1]
    end
  end
end

for number = 1, 2 do
  for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[number], ARGV[1])) do
    local name = field(one, 'name')
    if name ~= WAITING and field(one, 'pending') == 0 and field(one, 'idle') > tonumber(ARGV[4]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[number], ARGV[1], name)
    end
  end
end

local oldest = digits(math.max(now - ARGV[2], 0)) .. '-0'
for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local needed = field(one, 'last-delivered-id')
  if field(one, 'pending') > 0 then
    needed = redis.call('XPENDING', KEYS[1], field(one, 'name'))[2]
  end
  if before(needed, oldest) then
    oldest = needed
  end
end
local kept = digits(math.max(now - ARGV[3], 0)) .. '-0'
if before(oldest, kept) then
  oldest = kept
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest) >= 5000 and 1 or 0
