-- Forgets a nonce.
local nonce = ARGV[1]
local known = call('HGET', NONCES, nonce)
if known then
  call('HDEL', NONCES, nonce)
  drop({ 'e' .. known .. nonce })
end
