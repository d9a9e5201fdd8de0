-- Returns rows as a JSON list, in falling order of their places; and the last place, or '' at the end.
local kind, low, high, width, most = unpack(ARGV)
local rows = {}
local members = call('ZREVRANGEBYLEX', INDEX, '(' .. high, '[' .. low, 'LIMIT', 0, most)
for _, member in ipairs(members) do
  local row = call('HGET', kind == 'runs' and RUNS or RECORDS, member:sub(width + 1))
  rows[#rows + 1] = row or nil
end
local last = #members == tonumber(most) and members[#members] or ''
return { '[' .. table.concat(rows, ',') .. ']', last }
