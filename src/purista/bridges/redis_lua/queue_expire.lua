-- KEYS: the eight. ARGV: now or '', how many at most. Returns what 'expire' says.
return expire(time_or(ARGV[1]), ARGV[2])
