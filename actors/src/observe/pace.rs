//! How many things happen in a second: a mean over the last whole seconds.

use tokio::time::Instant;

/// Whole seconds of a mean, and the one that is being filled.
const SECONDS: usize = 10;
const SLOTS: usize = SECONDS + 1;

/// Counts by the second.
#[derive(Debug)]
pub(super) struct Pace {
    born: Instant,
    /// The second that was filled last.
    filled: u64,
    counts: [u64; SLOTS],
}

impl Pace {
    pub(super) fn since(born: Instant) -> Self {
        Self { born, filled: 0, counts: [0; SLOTS] }
    }

    pub(super) fn add(&mut self, now: Instant, n: u64) {
        let second = self.second(now);
        for passed in (self.filled + 1..=second).take(SLOTS) {
            self.counts[slot(passed)] = 0;
        }
        self.filled = self.filled.max(second);
        self.counts[slot(self.filled)] += n;
    }

    /// `None` within the first second.
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        let second = self.second(now).max(self.filled);
        let first = second.saturating_sub(SECONDS as u64);
        let is_kept = |second: &u64| *second <= self.filled && *second + SLOTS as u64 > self.filled;
        let sum: u64 = (first..second).filter(is_kept).map(|second| self.counts[slot(second)]).sum();
        (second > first).then(|| sum as f64 / (second - first) as f64)
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs()
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SLOTS as u64).expect("a remainder is small")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_mean_is_that_of_the_last_whole_seconds() {
        let born = Instant::now();
        let at = |seconds: f64| born + Duration::from_secs_f64(seconds);
        let mut pace = Pace::since(born);
        assert_eq!(pace.per_second(at(0.5)), None);
        (0..40).for_each(|n| pace.add(at(f64::from(n) * 0.25), 5));
        assert_eq!(pace.per_second(at(10.0)), Some(20.0));
        assert_eq!(pace.per_second(at(15.0)), Some(10.0));
        assert_eq!(pace.per_second(at(25.0)), Some(0.0));
        pace.add(at(100.0), 50);
        assert_eq!(pace.per_second(at(101.0)), Some(5.0), "nothing of long ago comes back");
    }
}
