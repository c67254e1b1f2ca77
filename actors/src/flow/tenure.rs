//! Whether a lane may begin something new: its node shows that it lives, and its lease was its own not long ago.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Pulse;

/// Pause between two looks of who waits for a tenure to hold again.
const LOOK: Duration = Duration::from_millis(100);

/// A lane's hold on its shard. What has begun goes on without it. A cheap handle; its clones are one tenure.
///
/// Others may take the lease of a node whose pulse broke. So once it broke, only a write of the lease that began afterwards
/// proves that nobody did.
#[derive(Debug, Clone)]
pub struct Tenure {
    node: Pulse,
    lease: Pulse,
    expires_after: Duration,
}

impl Tenure {
    /// The tenure of a lease that expires so long after its last write: so far that which took it, which began then.
    #[must_use]
    pub fn new(node: Pulse, expires_after: Duration, taken_at: Instant) -> Self {
        Self { node, lease: Pulse::since(taken_at, expires_after), expires_after }
    }

    /// Notes a write of the lease that succeeded, and when it began.
    pub fn proven(&self, begun: Instant) {
        self.lease.beat(begun);
    }

    /// Whether the lane may begin something now.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.is_expired() && !self.wants_proof() && self.node.is_fresh()
    }

    /// Whether the lease is nobody's by one's own clock, or should be: a node that cannot show that it lives for as long as a lease
    /// lasts must not keep the shard from others by renewing it.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        !self.lease.is_fresh() || self.node.last_beat().elapsed() >= self.expires_after
    }

    /// Whether the node may act again after a break, but the lease was not written since.
    #[must_use]
    pub fn wants_proof(&self) -> bool {
        self.node.is_fresh() && !self.node.unbroken_since(self.lease.last_beat())
    }

    /// Waits until the lane may begin something.
    pub async fn held(&self) {
        while !self.holds() {
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_broken_pulse_only_a_later_write_of_the_lease_lets_the_lane_begin() {
        let pulse = Pulse::lasting(Duration::from_secs(2));
        let tenure = Tenure::new(pulse.clone(), Duration::from_secs(10), Instant::now());
        assert!(tenure.holds());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!tenure.holds() && !tenure.wants_proof(), "nothing can be proven before the pulse beats");
        pulse.beat(Instant::now());
        assert!(!tenure.holds() && tenure.wants_proof());
        tenure.proven(Instant::now() - Duration::from_secs(1));
        assert!(!tenure.holds(), "a write that began before the beat proves nothing");
        tenure.proven(Instant::now());
        assert!(tenure.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unwatched_node_holds_its_lease_until_it_expires() {
        let tenure = Tenure::new(Pulse::unwatched(), Duration::from_secs(10), Instant::now());
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert!(tenure.holds());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!tenure.holds() && tenure.is_expired());
    }
}
