-- Family::rotate of tokens.rs, in one step. Answers 0: unknown, 1: rotated, 2: again, 3: reused.
-- KEYS: the family.
-- ARGV: presented, its hash, its successor's hash, now, expires_at, known, grace_ms, time to live in milliseconds.
local family = redis.call('HMGET', KEYS[1], 'generation', 'hash', 'expires_at', 'predecessor', 'spent_at')
local generation, expires_at, spent_at = tonumber(family[1]), tonumber(family[3]), tonumber(family[5])
local presented, now, known, grace_ms = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[6]), tonumber(ARGV[7])

if not generation or expires_at <= now or presented > generation or generation < known then
    return 0
end
if presented == generation then
    if ARGV[2] ~= family[2] then
        return 0
    end
    redis.call('HSET', KEYS[1],
        'generation', string.format('%.0f', generation + 1), 'hash', ARGV[3], 'expires_at', ARGV[5],
        'predecessor', ARGV[2], 'spent_at', ARGV[4])
    redis.call('PEXPIRE', KEYS[1], ARGV[8])
    return 1
end
if presented + 1 == generation and spent_at then
    if ARGV[2] ~= family[4] then
        return 0
    end
    if now <= spent_at + grace_ms then
        return 2
    end
elseif spent_at and now < spent_at then
    return 0
end
redis.call('DEL', KEYS[1])
return 3
