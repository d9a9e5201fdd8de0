-- Undo leases that nobody saw. KEYS: the eight. ARGV: the channel of news, then the tokens.
for at = 2, #ARGV do
  local id, attempt, most, since, order = take_back(ARGV[at])
  if id then
    put(ARGV[1], tonumber(since), order, id, attempt - 1, most)
  end
end
return 1
