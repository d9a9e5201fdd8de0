-- Let whoever sent a request have its reply; kept for a while when it is not connected now.
-- KEYS: the replies that are kept. ARGV: the channel, the reply, how long it is kept in ms
if redis.call('PUBLISH', ARGV[1], ARGV[2]) == 0 then
  redis.call('RPUSH', KEYS[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
