-- The beginning of every step: the keys of the ledger and the version of its rows.
--
-- A step is one script, so that it is atomic. But it is not rolled back: nothing that can fail may
-- come after its first write. Instants are 18 digits, microseconds since the year 1, so that the order
-- of the texts is theirs; Lua's numbers are exact up to 2^53 only. No step asks the server for the
-- time, and no key expires.
--
-- INDEX is a sorted set whose scores are equal, so that its order is that of the bytes. A member is
-- a letter, what to order by, and the id of a row; schedule, key and owner have their size before them:
--   a schedule expires token run   active runs        k schedule key claimed token run  runs of a key
--   t nominal token run            all runs           T schedule nominal token run      of a schedule
--   u nominal token run            unfinished runs    U schedule nominal token run      of a schedule
--   n number                       all records        N schedule number                 of a schedule
--   o owner run                    leases of runs     e kept_until nonce                nonces
--   d kept_until kind id           what can be forgotten: r, a run; n, a record; s, a skip
local META, RUNS, RECORDS, SKIPS, LATEST, CONTRACTS, NONCES, INDEX = unpack(KEYS)
local call = redis.call

local version = call('HGET', META, 'version')
if version and version ~= '1' then
  return redis.error_reply('VERSION ' .. version)
end

local function sized(text)
  return string.format('%08d', #text) .. text
end

-- Above every text in UTF-8 that begins with these bytes.
local function beyond(first)
  return '(' .. first .. '\255'
end

local function between(low, high, limit)
  return call('ZRANGEBYLEX', INDEX, low, high, 'LIMIT', 0, limit)
end

local function drop(members)
  if #members > 0 then
    call('ZREM', INDEX, unpack(members))
  end
end
