//! Whether the other side is still there: when to ping, when to give up. Only a time-keeper; knows no socket.

use std::time::Duration;

use tokio::time::Instant;

/// What to do when the deadline has come.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// Not yet: something was heard meanwhile.
    Nothing,
    /// Say `{}`.
    Ping,
    /// Nothing was heard after the ping: close 4004.
    GiveUp,
}

/// The timers of one socket. Hearing something costs one store: the deadline is looked at only when it comes.
pub(super) struct Liveness {
    ping: Duration,
    pong: Duration,
    heard: Instant,
    pinged: bool,
}

impl Liveness {
    /// `jitter` in 0..=1 spreads the first pings of sockets that came at once.
    pub(super) fn new(ping: Duration, pong: Duration, now: Instant, jitter: f64) -> Liveness {
        let head_start = ping.mul_f64(jitter / 2.0);
        Liveness { ping, pong, heard: now.checked_sub(head_start).unwrap_or(now), pinged: false }
    }

    /// The client said something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = false;
    }

    /// When to call [`Liveness::due`].
    pub(super) fn deadline(&self) -> Instant {
        self.heard + self.ping + if self.pinged { self.pong } else { Duration::ZERO }
    }

    /// What is to be done now.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        match (now >= self.deadline(), self.pinged) {
            (false, _) => Due::Nothing,
            (true, false) => {
                self.pinged = true;
                // The answer's time counts from the ping, however late it was.
                self.heard = now.checked_sub(self.ping).unwrap_or(now);
                Due::Ping
            }
            (true, true) => Due::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: Duration = Duration::from_secs(25);
    const PONG: Duration = Duration::from_secs(8);

    #[test]
    fn a_silent_socket_is_pinged_and_then_given_up() {
        let start = Instant::now();
        let mut alive = Liveness::new(PING, PONG, start, 0.0);
        assert_eq!(alive.due(start + PING - Duration::from_millis(1)), Due::Nothing);
        assert_eq!(alive.due(start + PING), Due::Ping);
        assert_eq!(alive.deadline(), start + PING + PONG);
        assert_eq!(alive.due(start + PING + PONG), Due::GiveUp);
    }

    #[test]
    fn anything_heard_resets_both_timers() {
        let start = Instant::now();
        let mut alive = Liveness::new(PING, PONG, start, 0.0);
        assert_eq!(alive.due(start + PING), Due::Ping);
        alive.heard(start + PING + PONG / 2);
        assert_eq!(alive.due(start + PING + PONG), Due::Nothing);
        assert_eq!(alive.deadline(), start + PING + PONG / 2 + PING);
    }

    #[test]
    fn first_pings_are_spread() {
        let start = Instant::now() + PING;
        assert_eq!(Liveness::new(PING, PONG, start, 1.0).deadline(), start + PING / 2);
        assert_eq!(Liveness::new(PING, PONG, start, 0.0).deadline(), start + PING);
    }
}
