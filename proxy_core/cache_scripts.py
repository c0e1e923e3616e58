"""What Redis does for `cache` in one atomic step each, in Lua.

Entries and the settings snapshot begin with a 20-digit version. A reservation is one letter (``c`` claimed,
``a`` accepted), 16 digits of token, a space, and the network: characters 18 and on are the same for all claimers of
one network.
"""

CHANGE = """
-- KEYS entry, claim; ARGV value, lifetime in ms, channel, message
local present = redis.call('GET', KEYS[1])
if not present or string.sub(present, 1, 20) <= string.sub(ARGV[1], 1, 20) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    -- Late news leaves the claim alone: it was made after the newer state became known.
    redis.call('DEL', KEYS[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""

REPLACE = """
-- KEYS entry; ARGV expected value, new value, lifetime in ms
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
"""

RESERVE = """
-- KEYS entry, claim; ARGV mine, lifetime in ms. Returns {entry or '', reservation or ''}
local entry = redis.call('GET', KEYS[1])
if entry and string.byte(entry, 21) ~= 0xc0 then
    return {entry, ''}
end
local held = redis.call('GET', KEYS[2])
if held then
    return {'', held}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'', ARGV[1]}
"""

KEEP = """
-- KEYS claim; ARGV mine, lifetime in ms. Returns what is there afterwards
local held = redis.call('GET', KEYS[1])
local same_network = held and string.sub(held, 18) == string.sub(ARGV[1], 18)
local held_accepted = held and string.sub(held, 1, 1) == 'a'
if not held or (string.sub(ARGV[1], 1, 1) == 'a' and (same_network or not held_accepted)) then
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return ARGV[1]
end
if same_network and not held_accepted then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return held
"""

TAKE_SEATS = """
-- KEYS one for each subject; ARGV worker, lifetime in ms, and then held, wanted, limit for each. Returns how many of
-- the wanted are granted to each. A field is "seats until", by Redis' clock in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local granted = {}
for number, name in ipairs(KEYS) do
    local held, wanted, limit = ARGV[3 * number], tonumber(ARGV[3 * number + 1]), ARGV[3 * number + 2]
    local free = limit - held
    local fields = redis.call('HGETALL', name)
    for place = 1, #fields, 2 do
        if fields[place] ~= ARGV[1] then
            local seats, till = string.match(fields[place + 1], '^(%d+) (%d+)$')
            if not till or tonumber(till) < now then
                redis.call('HDEL', name, fields[place])
            else
                free = free - seats
            end
        end
    end
    granted[number] = math.max(0, math.min(wanted, free))
    local seats = held + granted[number]
    if seats > 0 then
        redis.call('HSET', name, ARGV[1], string.format('%d %d', seats, now + ARGV[2]))
        redis.call('PEXPIRE', name, ARGV[2])
    else
        redis.call('HDEL', name, ARGV[1])
    end
end
return granted
"""

DROP = """
-- KEYS any; ARGV expected value
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
"""

CHANGE_SETTINGS = """
-- KEYS snapshot; ARGV value, channel, message
local present = redis.call('GET', KEYS[1])
if not present or string.sub(present, 1, 20) <= string.sub(ARGV[1], 1, 20) then
    redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
"""
