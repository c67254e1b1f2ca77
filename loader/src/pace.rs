//! How long to wait before the next call to a Firehose that throttles (pure: chance is passed in).
//!
//! Each call repeats itself with delays of its own. But a call that got through at last says nothing to the next one, which would
//! run into the same limit again; this remembers.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

/// The pause before a call.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    pause: Duration,
}

impl Pace {
    /// Takes in how a call went: slower at once when it was held back, faster step by step when it was not.
    pub(crate) fn call_ended(&mut self, was_held_back: bool) {
        self.pause = if was_held_back {
            (self.pause * 2).clamp(FIRST, MOST)
        } else if self.pause > FIRST {
            self.pause * 3 / 4
        } else {
            Duration::ZERO
        };
    }

    /// The pause before the next call, somewhere between half and all of it, so that calls do not start together.
    pub(crate) fn pause(&self, chance: f64) -> Duration {
        self.pause / 2 + (self.pause / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firehose_that_throttles_is_called_slower_and_then_at_full_speed_again() {
        let mut pace = Pace::default();
        assert_eq!(pace.pause(1.0), Duration::ZERO);
        let pauses: Vec<u128> = (0..8)
            .map(|_| {
                pace.call_ended(true);
                pace.pause(1.0).as_millis()
            })
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pace.pause(0.0), Duration::from_millis(2500));
        let calls = (1..).find(|_| {
            pace.call_ended(false);
            pace.pause(1.0).is_zero()
        });
        assert!(calls.is_some_and(|calls| calls < 20), "{calls:?}");
    }
}
