//! How long to wait before the next try (pure: chance is passed in).

use std::time::Duration;

/// Exponential delays with jitter: try `n` waits between half and all of `first * 2^n`, never more than `most`.
///
/// Half of the delay is kept as a floor, so that a struggling service is never asked again at once; the other half is spread by
/// chance, so that many callers do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first delay.
    pub first: Duration,
    /// The longest delay of all.
    pub most: Duration,
}

/// How long one call may be retried altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Delays between tries.
    pub backoff: Backoff,
    /// No try starts later than this after the first one.
    pub most_elapsed: Duration,
}

impl Backoff {
    /// The delay before try `n` (0 is the first repeat). `chance` is evenly spread over 0 to 1.
    #[must_use]
    pub fn delay(&self, n: u32, chance: f64) -> Duration {
        let ceiling = self.first.saturating_mul(2_u32.saturating_pow(n.min(31))).min(self.most);
        ceiling / 2 + (ceiling / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

impl RetryBudget {
    /// The delay before repeat `n` if, `elapsed` after the first try, one more still fits the budget.
    #[must_use]
    pub fn next_delay(&self, n: u32, elapsed: Duration, chance: f64) -> Option<Duration> {
        let delay = self.backoff.delay(n, chance);
        (elapsed + delay <= self.most_elapsed).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };

    #[test]
    fn delays_double_up_to_the_cap() {
        assert_eq!(BACKOFF.delay(0, 1.0), Duration::from_millis(200));
        assert_eq!(BACKOFF.delay(0, 0.0), Duration::from_millis(100));
        assert_eq!(BACKOFF.delay(3, 1.0), Duration::from_millis(1600));
        assert_eq!(BACKOFF.delay(60, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn a_budget_ends() {
        let budget = RetryBudget { backoff: BACKOFF, most_elapsed: Duration::from_secs(1) };
        assert!(budget.next_delay(0, Duration::ZERO, 1.0).is_some());
        assert_eq!(budget.next_delay(0, Duration::from_millis(900), 1.0), None);
    }

    proptest! {
        #[test]
        fn delays_stay_within_half_and_all_of_their_ceiling(n in 0_u32..100, chance in 0.0_f64..=1.0) {
            let delay = BACKOFF.delay(n, chance);
            prop_assert!(delay >= Duration::from_millis(100) && delay <= BACKOFF.most);
        }
    }
}
