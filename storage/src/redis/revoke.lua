-- Notes a revocation, and forgets a few of those that no longer matter: as fast as new ones come.
-- KEYS: the revocations, by time. ARGV: session:until, at, time to live in milliseconds.
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
for _, oldest in ipairs(redis.call('ZRANGE', KEYS[1], 0, 3)) do
    local ends = tonumber(string.match(oldest, ':(%d+)$'))
    if ends and ends <= tonumber(ARGV[2]) then
        redis.call('ZREM', KEYS[1], oldest)
    end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 0
