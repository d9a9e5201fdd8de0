-- A consumer leaves, and is forgotten unless it has something in hand.
-- KEYS: the three. ARGV: group, consumer
for number = 1, 2 do
  if #redis.call('XPENDING', KEYS[number], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[number], ARGV[1], ARGV[2])
  end
end
return 1
