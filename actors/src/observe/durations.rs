//! How long things took over the life of a node, counted by size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends of the buckets in milliseconds; what took longer is in one more.
const ENDS_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// Counts of times by size. Only ever grows, as Prometheus wants it.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; ENDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationsSnapshot {
    /// How many took no longer than this, and longer than the one before; the last has no end.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// All of them together.
    pub sum: Duration,
}

impl Durations {
    /// Counts one time.
    pub(crate) fn record(&self, took: Duration) {
        let ends = ENDS_MS.map(Duration::from_millis);
        let at = ends.iter().position(|end| took <= *end).unwrap_or(ENDS_MS.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Reads all counts.
    #[must_use]
    pub fn snapshot(&self) -> DurationsSnapshot {
        let ends = ENDS_MS.map(|ms| Some(Duration::from_millis(ms))).into_iter().chain([None]);
        let buckets = ends.zip(&self.buckets).map(|(end, count)| (end, count.load(Relaxed))).collect();
        DurationsSnapshot { buckets, sum: Duration::from_micros(self.sum_us.load(Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_it_fits() {
        let durations = Durations::default();
        for ms in [5, 6, 40_000] {
            durations.record(Duration::from_millis(ms));
        }
        let seen = durations.snapshot();
        let counted: Vec<_> = seen.buckets.iter().filter(|(_, n)| *n > 0).copied().collect();
        let end = |ms| Some(Duration::from_millis(ms));
        assert_eq!(counted, [(end(5), 1), (end(10), 1), (None, 1)]);
        assert_eq!(seen.sum, Duration::from_millis(40_011));
    }
}
