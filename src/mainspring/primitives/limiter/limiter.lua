-- The rules of the limiter for Redis >= 6.2 and Valkey: every algorithm and a whole hierarchy in one atomic step.
--
-- A transcription of the Python rules, held to them by a differential test. Numbers are microseconds and counts, all below
-- 2^53, so that doubles are exact. KEYS: one for each charge. ARGV: verb, amount, time of what is given back (0: now), time
-- (0: the server's, anything else is for tests), then eight numbers for each charge: kind, shadow, and the rule's own six.
-- States are arrays in MessagePack. The reply is {time, allowed, {passed, state ...} ...}; Python reads verdicts out of it.
-- There are few functions and no tables of them because a script is run from its first line each time: making a closure
-- costs as much as a decision.

local verb, amount, now, grace = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), 3600000
if now == 0 then
  grace = 0  -- by another clock than its own the server cannot know when a state expires
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local fmod, max, min, ceil = math.fmod, math.max, math.min, math.ceil

local CELL, FIXED, SLIDING, LOG, SLOTS, QUOTA, PENALTY = 1, 2, 3, 4, 5, 6, 7

-- What now belongs to, from a state: of a bucket how far its TAT lies ahead; of a counter the window's start, its count,
-- and the count before (sliding) or the window's end (quota); of a log its entries and the time held to; of slots those
-- that are alive.
local function current(kind, p, s)
  if kind == CELL then  -- p: scale, interval, tolerance; state: TAT, and the rest in 1/scale of a microsecond
    return #s == 0 and 0 or max(0, min((s[1] - now) * p[1] + s[2], 2 * p[3]))
  elseif kind == FIXED then  -- p: limit, span; state: start, count
    if #s == 0 or now >= s[1] + p[2] then return now - fmod(now, p[2]), 0 end
    if s[1] > now + p[2] then return now - fmod(now, p[2]) + p[2], p[1] end
    return s[1], s[2]
  elseif kind == SLIDING then  -- p: limit, span, tick; state: start, count, count before
    if #s == 0 or now >= s[1] + 2 * p[2] then return now - fmod(now, p[2]), 0, 0 end
    if now >= s[1] + p[2] then return s[1] + p[2], 0, s[2] end
    if s[1] > now + p[2] then return now - fmod(now, p[2]) + p[2], p[1], p[1] end
    return s[1], s[2], s[3]
  elseif kind == QUOTA then  -- p: limit, the five bounds of four periods around now; state: start, count
    local i = 2
    while now >= p[i + 1] do i = i + 1 end
    if #s == 0 or s[1] < p[i] then return p[i], 0, p[i + 1] end
    if s[1] == p[i] then return s[1], s[2], p[i + 1] end
    return p[i + 1], s[1] == p[i + 1] and s[2] or p[1], p[i + 2]
  elseif kind == LOG then  -- p: limit, span; state: time, cost, time, cost ..., oldest first
    local kept, held, used = {}, now, 0
    if #s > 0 and s[#s - 1] > now + p[2] then
      for i = 2, #s, 2 do used = used + s[i] end
      return {now, used}, now, used
    end
    if #s > 0 then held = max(now, s[#s - 1]) end
    for i = 1, #s, 2 do
      if s[i] > held - p[2] then
        kept[#kept + 1], kept[#kept + 2] = s[i], s[i + 1]
        used = used + s[i + 1]
      end
    end
    return kept, held, used
  else  -- SLOTS. p: limit, ttl; state: lease, expiry, weight ...
    local kept, used = {}, 0
    for i = 1, #s, 3 do
      if s[i + 1] > now then
        local at = #kept
        kept[at + 1], kept[at + 2], kept[at + 3] = s[i], min(s[i + 1], now + p[2]), s[i + 2]
        used = used + s[i + 2]
      end
    end
    return kept, now, used
  end
end

local function at_ahead(p, ahead)
  if ahead == 0 then return {} end
  local rest = fmod(ahead, p[1])
  return {now + (ahead - rest) / p[1], rest}
end

-- Spends `cost` of one limit: whether it passed, the state, and the lease that was given.
local function hit(kind, p, s, cost)
  if kind == CELL then
    local ahead = current(kind, p, s)
    local after = ahead + p[2] * cost
    if after <= p[3] or cost == 0 then return true, at_ahead(p, after) end
    return false, at_ahead(p, ahead)
  elseif kind == SLIDING then
    local start, count, before = current(kind, p, s)
    local ticks, into = ceil(p[2] / p[3]), max(0, now - start)
    into = (into - fmod(into, p[3])) / p[3]
    local passed = count + ceil(before * (ticks - into) / ticks) + cost <= p[1] or cost == 0
    if passed then count = count + cost end
    return passed, (count == 0 and before == 0) and {} or {start, count, before}
  elseif kind == FIXED or kind == QUOTA then
    local start, count = current(kind, p, s)
    local passed = count + cost <= p[1] or cost == 0
    if passed then count = count + cost end
    return passed, count == 0 and {} or {start, count}
  elseif kind == PENALTY then  -- p: denials, within, first, longest; state: window start, refusals, blocks, blocked until
    if #s == 0 then return true, s end
    local left = max(0, min(s[4] - now, p[4]))
    if s[4] > now + left then s = {s[1], s[2], s[3], now + left} end
    return left == 0, s
  end
  local kept, held, used = current(kind, p, s)
  local passed, lease = used + cost <= p[1] or cost == 0, 0
  if not passed or cost == 0 then return passed, kept, 0 end
  if kind == SLOTS then
    lease = max(1, now)
    for i = 1, #s, 3 do lease = max(lease, s[i] + 1) end
    local at = #kept
    kept[at + 1], kept[at + 2], kept[at + 3] = lease, now + p[2], cost
  elseif #kept > 0 and kept[#kept - 1] == held then
    kept[#kept] = kept[#kept] + cost
  else
    kept[#kept + 1], kept[#kept + 2] = held, cost
  end
  return true, kept, lease
end

-- Everything is read and decided before anything is written, so that an error leaves nothing half charged.
local stored, charges, allowed = redis.call('MGET', unpack(KEYS)), {}, true
for n = 1, #KEYS do
  local base, p = n * 8 - 4, {}
  local kind = tonumber(ARGV[base + 1])
  for i = 1, 6 do p[i] = tonumber(ARGV[base + 2 + i]) end
  if kind == QUOTA and (now < p[2] or now >= p[5]) then
    return cmsgpack.pack({now})  -- another page of the calendar is needed
  end
  charges[n] = {
    kind = kind, shadow = ARGV[base + 2] == '1', p = p, cost = 0,
    state = stored[n] and cmsgpack.unpack(stored[n]) or {},
  }
end

if verb == 'hit' or verb == 'peek' then
  local blocked = false
  for _, c in ipairs(charges) do
    c.cost = amount
    c.passed, c.after, c.lease = hit(c.kind, c.p, c.state, amount)
    if not c.passed and not c.shadow then
      allowed = false
      blocked = blocked or c.kind == PENALTY
    end
  end
  if not allowed then
    for _, c in ipairs(charges) do
      local p, s = c.p, c.state
      if c.kind == PENALTY and not blocked then
        local start, count, blocks, ends = now, 0, 0, 0
        if #s > 0 then start, count, blocks, ends = s[1], s[2], s[3], s[4] end
        if blocks > 0 and now >= ends + p[4] then blocks = 0 end
        if now < start or now >= start + p[2] then start, count = now, 0 end
        if count + 1 < p[1] then
          s = {start, count + 1, blocks, ends}
        else
          s = {now, 0, blocks + 1, now + min(p[3] * 2 ^ min(blocks, 40), p[4])}
        end
        c.passed, c.after = hit(c.kind, p, s, 0)
      elseif c.passed then
        c.passed, c.after, c.lease = hit(c.kind, p, s, 0)
      end
    end
  end
else
  local at = tonumber(ARGV[3])
  if at == 0 or at > now then at = now end

  local function readjusted(count, delta, this_window, limit)
    return (delta > 0 or this_window) and max(0, min(count + delta, 2 * limit)) or count
  end

  local function adjust(kind, p, s, delta)
    if kind == PENALTY then return s end
    local start, count, before = current(kind, p, s)
    if kind == CELL then
      local change = p[2] * delta
      if delta < 0 then change = min(change + (now - at) * p[1], 0) end
      return at_ahead(p, max(0, min(start + change, 2 * p[3])))
    elseif kind == FIXED or kind == QUOTA then
      return {start, readjusted(count, delta, at >= start, p[1])}
    elseif kind == SLIDING then
      if delta < 0 and at < start and at >= start - p[2] then return {start, count, max(before + delta, 0)} end
      return {start, readjusted(count, delta, at >= start, p[1]), before}
    elseif kind == SLOTS then
      return start
    end
    local kept, held, used, left = start, count, before, {}
    if delta > 0 then
      delta = min(delta, 2 * p[1] - used)
      if delta > 0 then kept[#kept + 1], kept[#kept + 2] = held, delta end
      return kept
    end
    for i = 1, #kept, 2 do
      local back = (kept[i] == at or at >= now) and min(kept[i + 1], -delta) or 0
      delta = delta + back
      if kept[i + 1] > back then left[#left + 1], left[#left + 2] = kept[i], kept[i + 1] - back end
    end
    return left
  end

  for _, c in ipairs(charges) do
    local after = {}
    if verb == 'adjust' then
      after = adjust(c.kind, c.p, c.state, amount)
    elseif verb == 'release' or verb == 'renew' then
      local kept, found = current(c.kind, c.p, c.state), false
      for i = 1, #kept, 3 do
        local this = kept[i] == amount
        found = found or this
        if not this or verb == 'renew' then
          local ends = this and now + c.p[2] or kept[i + 1]
          after[#after + 1], after[#after + 2], after[#after + 3] = kept[i], ends, kept[i + 2]
        end
      end
      allowed = allowed and (found or verb == 'release')
    end
    c.passed, c.after, c.lease = hit(c.kind, c.p, after, 0)
  end
end

-- How long a state still matters, in microseconds; and what of a long one is replied.
local reply = {now, allowed}
for n, c in ipairs(charges) do
  local kind, p, s, life, told = c.kind, c.p, c.after, 0, c.after
  if kind == LOG or kind == SLOTS then
    -- Used, the newest entry or the last expiry, how long until the cost could pass, and the lease given.
    local step = kind == LOG and 2 or 3
    local used, last, order = 0, 0, {}
    for i = 1, #s, step do
      local ends = kind == LOG and s[i] + p[2] or s[i + 1]
      order[#order + 1] = {ends, s[i + step - 1]}
      used, last = used + s[i + step - 1], max(last, ends)
    end
    life = last - now
    told = {used, last, 0, c.lease or 0}
    if not c.passed then
      table.sort(order, function(a, b) return a[1] < b[1] end)
      local excess = used + c.cost - p[1]
      for _, one in ipairs(order) do
        if excess > 0 then
          excess = excess - one[2]
          told[3] = one[1] - now
        end
      end
      if excess > 0 then told[3] = (#order > 0 and told[3] or p[2]) + ceil(excess / p[1]) * p[2] end
    end
  elseif #s > 0 then
    if kind == CELL then
      life = s[1] - now + 1
    elseif kind == FIXED then
      life = s[1] + p[2] - now
    elseif kind == SLIDING then
      life = s[1] + 2 * p[2] - now
    elseif kind == PENALTY then
      life = max(s[1] + p[2], s[4] + p[4]) - now
    else
      local _, _, ends = current(kind, p, s)
      life = ends - now
    end
  end
  if verb ~= 'peek' then
    if life > 0 then
      life = ceil(life / 1000) + grace
      redis.call('SET', KEYS[n], cmsgpack.pack(s), 'PX', string.format('%.0f', life))
    elseif stored[n] then
      redis.call('DEL', KEYS[n])
    end
  end
  reply[n + 2] = {c.passed, unpack(told)}
end
return cmsgpack.pack(reply)
