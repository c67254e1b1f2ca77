//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// AWS IoT takes one CONNECT a second for one client id, and drops the older connection on a second one:
/// <https://docs.aws.amazon.com/general/latest/gr/iot-core.html>.
const MIN_WAIT: Duration = Duration::from_secs(1);
/// A broker on this machine has no such limit.
const MIN_WAIT_LOOPBACK: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(128);

/// Doubles from the minimum to 128 s, with full jitter: many devices that lost the same broker must not come back together.
pub(crate) struct Backoff {
    min: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(loopback: bool) -> Self {
        Self { min: if loopback { MIN_WAIT_LOOPBACK } else { MIN_WAIT }, failures: 0 }
    }

    /// To be called at progress (an acknowledgement), not at a mere connection: a broker that accepts and hangs up would
    /// else be called again at full speed.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// No attempt follows another sooner than this.
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    pub(crate) fn next_wait(&mut self, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let ceiling = self.min.saturating_mul(1 << self.failures.min(16)).min(MAX_WAIT);
        let spread_ms = u64::try_from((ceiling - self.min).as_millis()).unwrap_or(u64::MAX);
        self.min + Duration::from_millis(random % (spread_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_never_leave_their_bounds() {
        let mut backoff = Backoff::new(false);
        assert!(backoff.next_wait(u64::MAX) <= Duration::from_secs(2));
        for random in 0..200 {
            let wait = backoff.next_wait(random * 7_919);
            assert!((MIN_WAIT..=MAX_WAIT).contains(&wait), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait(u64::MAX) <= Duration::from_secs(2));
    }
}
