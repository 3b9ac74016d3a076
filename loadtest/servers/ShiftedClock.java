import org.apache.cassandra.utils.Clock;

/** A server's clock that is off by a property's seconds. What only ever goes forward stays the machine's own. */
public final class ShiftedClock implements Clock {
    private static final long OFF_MS = 1000 * Long.getLong("starling.clock_off_s");

    @Override
    public long currentTimeMillis() {
        return System.currentTimeMillis() + OFF_MS;
    }

    @Override
    public long nanoTime() {
        return System.nanoTime();
    }
}
