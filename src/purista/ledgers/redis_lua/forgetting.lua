-- What can be forgotten is, oldest first and a few at once.

local forget = {}

function forget.r(id)
  local run = find(id)
  if run then
    move(placed[run], NOWHERE)
    call('HDEL', RUNS, id)
  end
end

function forget.n(number)
  local record = call('HGET', RECORDS, number)
  if record then
    drop({ 'n' .. number, 'N' .. sized(cjson.decode(record).schedule_id) .. number })
    call('HDEL', RECORDS, number)
  end
end

function forget.s(id)
  call('HDEL', SKIPS, id)
end

local function prune(now, most)
  local due = between('[d', beyond('d' .. now), most)
  for _, member in ipairs(due) do
    forget[member:sub(20, 20)](member:sub(21))
  end
  drop(due)
  return #due
end
