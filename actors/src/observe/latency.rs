//! How long things took of late: the times of two spans of equal length, the older of which is forgotten when a third begins.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Times below 4 µs have a bucket each; above, each doubling has four of equal width, so that a bucket is at most a quarter of
/// its times wide. The last one begins at 117 s.
const BUCKETS: usize = 104;

/// Times between one and two spans old, by size. Recording is a handful of atomics; a count that races with the change of spans
/// may get lost.
#[derive(Debug)]
pub(super) struct Latency {
    span_us: u64,
    /// The number of the span that is being filled.
    span: AtomicU64,
    spans: [[AtomicU32; BUCKETS]; 2],
}

impl Latency {
    /// Remembers between one and two `span`s.
    pub(super) fn over(span: Duration) -> Self {
        let empty = || std::array::from_fn(|_| AtomicU32::new(0));
        Self { span_us: micros(span).max(1), span: AtomicU64::new(0), spans: [empty(), empty()] }
    }

    /// Counts one time. `now_us` is that of a clock that begins with this.
    pub(super) fn record(&self, now_us: u64, took_us: u64) {
        let span = now_us / self.span_us;
        let before = self.span.load(Relaxed);
        if span > before && self.span.compare_exchange(before, span, Relaxed, Relaxed).is_ok() {
            self.forget(span);
            if span > before + 1 {
                self.forget(span + 1);
            }
        }
        self.spans[usize::from(span % 2 == 1)][bucket(took_us)].fetch_add(1, Relaxed);
    }

    /// The time that 95 of 100 did not exceed, to within an eighth; `None` if there were none.
    pub(super) fn p95(&self, now_us: u64) -> Option<Duration> {
        let counts = self.counts(now_us);
        let total: u64 = counts.iter().sum();
        let rank = (total * 95).div_ceil(100);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= rank && total > 0
        })?;
        Some(Duration::from_micros(middle(at)))
    }

    /// How many there were.
    pub(super) fn count(&self, now_us: u64) -> u64 {
        self.counts(now_us).iter().sum()
    }

    fn counts(&self, now_us: u64) -> [u64; BUCKETS] {
        let (now, filled) = (now_us / self.span_us, self.span.load(Relaxed));
        let mut counts = [0; BUCKETS];
        for (n, span) in self.spans.iter().enumerate() {
            // Which span these buckets were filled in last.
            let of = if filled % 2 == n as u64 { Some(filled) } else { filled.checked_sub(1) };
            if of.is_some_and(|of| of + 1 >= now) {
                counts.iter_mut().zip(span).for_each(|(sum, count)| *sum += u64::from(count.load(Relaxed)));
            }
        }
        counts
    }

    fn forget(&self, span: u64) {
        self.spans[usize::from(span % 2 == 1)].iter().for_each(|count| count.store(0, Relaxed));
    }
}

fn bucket(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) & 3;
    ((octave as usize - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let width = 1_u64 << (bucket / 4 - 1);
    (4 + bucket as u64 % 4) * width + width / 2
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: Duration = Duration::from_secs(30);
    const S: u64 = 1_000_000;

    proptest! {
        #[test]
        fn a_bucket_stands_for_its_times_to_within_an_eighth(us in 0_u64..100 * S) {
            let shown = middle(bucket(us));
            prop_assert!(shown.abs_diff(us) * 8 <= us, "{us} is shown as {shown}");
        }
    }

    #[test]
    fn the_slowest_twentieth_is_left_out() {
        let latency = Latency::over(SPAN);
        assert_eq!(latency.p95(0), None);
        (0..95).for_each(|n| latency.record(n, 1_000));
        (0..5).for_each(|n| latency.record(n, 9 * S));
        let p95 = latency.p95(10).expect("there were some");
        assert!((875..=1_125).contains(&p95.as_micros()), "{p95:?}");
        latency.record(10, 9 * S);
        assert!(latency.p95(10).expect("there were some") > Duration::from_secs(7));
    }

    #[test]
    fn what_is_older_than_two_spans_is_forgotten() {
        let latency = Latency::over(SPAN);
        latency.record(5 * S, 10);
        latency.record(40 * S, 10);
        assert_eq!(latency.count(40 * S), 2);
        assert_eq!(latency.count(61 * S), 1, "those of the first span");
        assert_eq!(latency.count(91 * S), 0);
        latency.record(300 * S, 10);
        assert_eq!(latency.count(300 * S), 1);
    }
}
