-- Forgets some of what may be forgotten; returns how many runs, skips and records, and 1 to go on.
local now, most = unpack(ARGV)
local count, nonces = prune(now, most), prune_nonces(now, most)
return { count, math.max(count, nonces) == tonumber(most) and 1 or 0 }
