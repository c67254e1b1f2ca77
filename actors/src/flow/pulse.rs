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
    beaten: Mutex<Instant>,
}

impl Pulse {
    /// A pulse that stops counting so long after its last beat. It begins with a beat.
    #[must_use]
    pub fn lasting(patience: Duration) -> Self {
        Self(Some(Arc::new(Shared { patience, beaten: Mutex::new(Instant::now()) })))
    }

    /// A pulse that never stops: for a node that nobody watches.
    #[must_use]
    pub fn unwatched() -> Self {
        Self(None)
    }

    /// Notes a heartbeat that was written; `begun` is when the write began, since it may have been seen from then on.
    pub fn beat(&self, begun: Instant) {
        if let Some(shared) = &self.0 {
            let mut beaten = shared.beaten.lock().unwrap_or_else(PoisonError::into_inner);
            *beaten = begun.max(*beaten);
        }
    }

    /// Whether the node may act now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|shared| shared.beaten.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < shared.patience)
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
}
