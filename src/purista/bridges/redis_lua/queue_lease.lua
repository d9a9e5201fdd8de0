-- What "held" says of a token: "<id> <attempt> <most> <due since> <order>".
-- KEYS: the jobs, the leases by their end, what each of them holds
local JOBS, LEASES, HELD = KEYS[1], KEYS[2], KEYS[3]

-- End a lease; return what it held, or nothing: it was settled, or had run out.
-- Its first write takes something away, as a server without memory lets a script begin with that alone.
local function take_back(token)
  local held = redis.call('HGET', HELD, token)
  redis.call('ZREM', LEASES, token)
  if held then
    redis.call('HDEL', HELD, token)
    return string.match(held, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  end
end
