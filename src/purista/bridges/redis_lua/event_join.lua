-- Make sure that a subscriber has its group.
-- KEYS: the event's stream, the subscriber's own. ARGV: group, where a new one begins.
-- Returns 1 when it was new.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then
  return made
end
local own = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0', 'MKSTREAM')
if own.err and not string.find(own.err, 'BUSYGROUP') then
  return own
end
redis.call('PERSIST', KEYS[1])
return made.err and 0 or 1
