-- Note that a call was taken, so that it is known when it is sent again; return whether it was before.
local function remember(bits, bit, kept)
  local was = redis.call('SETBIT', bits, bit, 1)
  redis.call('PEXPIRE', bits, kept)
  return was == 1
end
