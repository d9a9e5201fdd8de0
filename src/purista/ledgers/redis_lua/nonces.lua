-- Nonces are forgotten oldest first, a few at once.

local function prune_nonces(now, most)
  local due = between('[e', beyond('e' .. now), most)
  for _, member in ipairs(due) do
    call('HDEL', NONCES, member:sub(20))
  end
  drop(due)
  return #due
end
