-- Times are microseconds since 1970.
local COUNTER = KEYS[5]
local TIME = redis.call('TIME')
TIME = TIME[1] * 1000000 + TIME[2]

-- The largest number that Lua and scores hold exactly; as a time it is never.
local NEVER = 9007199254740991

local function digits(number)
  return string.format('%016.0f', math.min(number, NEVER))
end

local function time_or(given)
  return given == '' and TIME or tonumber(given)
end

-- No number comes twice, not even when a server has lost the last ones that it gave.
local function next_number()
  local number = digits(math.max((redis.call('GET', COUNTER) or 0) + 1, TIME))
  redis.call('SET', COUNTER, number)
  return number
end
