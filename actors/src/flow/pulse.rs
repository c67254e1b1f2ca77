//! Whether this node may still act: it must have shown lately that it lives.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When this node last wrote its heartbeat. Others take its leases once that stood still for a while, so a node that could not
/// write it for as long lets no record in and sends no text until it could. A cheap handle; its clones are one pulse.
#[derive(Debug, Clone)]
pub struct Pulse(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    patience: Duration,
    beats: Mutex<Beats>,
}

#[derive(Debug, Clone, Copy)]
struct Beats {
    /// When the last beat began.
    last: Instant,
    /// When the run of beats that it belongs to began: none of them came too late for the one before.
    run: Instant,
}

impl Pulse {
    /// A pulse that stops counting so long after its last beat. It begins with a beat.
    #[must_use]
    pub fn lasting(patience: Duration) -> Self {
        Self::since(Instant::now(), patience)
    }

    /// The same, with the first beat at this time.
    pub(super) fn since(first: Instant, patience: Duration) -> Self {
        Self(Some(Arc::new(Shared { patience, beats: Mutex::new(Beats { last: first, run: first }) })))
    }

    /// A pulse that never stops: for a node that nobody watches.
    #[must_use]
    pub fn unwatched() -> Self {
        Self(None)
    }

    /// Notes a heartbeat that was written; `begun` is when the write began, since it may have been seen from then on.
    pub fn beat(&self, begun: Instant) {
        if let Some(shared) = &self.0 {
            let mut beats = shared.beats.lock().unwrap_or_else(PoisonError::into_inner);
            // A write that began in time but ended late was seen late, so the run broke all the same.
            if beats.last.elapsed() >= shared.patience {
                beats.run = Instant::now();
            }
            beats.last = begun.max(beats.last);
        }
    }

    /// Whether the node may act now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.beats().last.elapsed() < shared.patience)
    }

    /// When the last beat began; for a node that nobody watches, now.
    pub(super) fn last_beat(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |shared| shared.beats().last)
    }

    /// Whether the node may act now and could at every moment since then.
    #[must_use]
    pub fn unbroken_since(&self, then: Instant) -> bool {
        self.is_fresh() && self.0.as_ref().is_none_or(|shared| shared.beats().run <= then)
    }
}

impl Shared {
    fn beats(&self) -> Beats {
        *self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pulse_is_fresh_until_its_patience_is_over_and_again_after_a_beat() {
        let pulse = Pulse::lasting(Duration::from_secs(2));
        tokio::time::advance(Duration::from_millis(1_999)).await;
        assert!(pulse.is_fresh());
        let begun = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!pulse.is_fresh());
        pulse.clone().beat(begun);
        assert!(pulse.is_fresh());
        tokio::time::advance(Duration::from_millis(1_999)).await;
        assert!(!pulse.is_fresh(), "counted from when the write began");
        assert!(Pulse::unwatched().is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_after_a_gap_begins_a_new_run() {
        let pulse = Pulse::lasting(Duration::from_secs(2));
        let start = Instant::now();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(1)).await;
            pulse.beat(Instant::now());
        }
        assert!(pulse.unbroken_since(start));
        tokio::time::advance(Duration::from_secs(3)).await;
        pulse.beat(Instant::now());
        assert!(pulse.is_fresh() && !pulse.unbroken_since(start));
        assert!(pulse.unbroken_since(Instant::now()));
    }
}
