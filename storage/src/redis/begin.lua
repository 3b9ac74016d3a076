-- Begins a family, unless it has begun.
-- KEYS: the family. ARGV: hash of its first token, expires_at, time to live in milliseconds.
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'generation', '1', 'hash', ARGV[1], 'expires_at', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 0
