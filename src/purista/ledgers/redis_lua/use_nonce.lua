-- Returns 1 and remembers the nonce until kept_until; 0 when it is remembered already.
local nonce, now, kept_until = unpack(ARGV)
call('HSET', META, 'version', '1')
prune_nonces(now, 4)
local known = call('HGET', NONCES, nonce)
if known and known > now then
  return 0
end
call('HSET', NONCES, nonce, kept_until)
call('ZADD', INDEX, 0, 'e' .. kept_until .. nonce)
if known and known ~= kept_until then
  drop({ 'e' .. known .. nonce })
end
return 1
