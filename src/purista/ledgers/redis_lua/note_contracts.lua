-- Notes under which fingerprint each schedule runs: ARGV is the instant, then schedule and fingerprint.
local now = ARGV[1]
call('HSET', META, 'version', '1')
for i = 2, #ARGV, 2 do
  local row = call('HGET', CONTRACTS, ARGV[i])
  local known = row and cjson.decode(row) or { known_since = now }
  if known.fingerprint ~= ARGV[i + 1] then
    known.fingerprint, known.previous, known.since = ARGV[i + 1], known.fingerprint, now
    call('HSET', CONTRACTS, ARGV[i], cjson.encode(known))
  end
end
