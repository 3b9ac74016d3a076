-- Buckets::take of gcra.rs, in one step. Answers 0: taken, or the microseconds to wait.
-- KEYS: the bucket, which holds when it is full again. ARGV in microseconds: now, interval, burst; in milliseconds: how
-- much longer than until then the bucket is kept.
local now, interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if full_at - now > burst then
    return full_at - now - burst
end
full_at = full_at + interval
local ttl_ms = math.ceil((full_at - now) / 1000) + tonumber(ARGV[4])
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', string.format('%.0f', ttl_ms))
return 0
