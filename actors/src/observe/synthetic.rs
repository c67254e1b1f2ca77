//! Rows of actors that do not exist: what shows actors is tested with very many of them.

use std::sync::Arc;

use ractor::ActorId;
use tokio::time::Instant;

use super::{ActorTable, Meter, Spot};

/// Actors below one parent.
const FAMILY: usize = 10;
/// One of so many does something each time.
const IDLE_TO_BUSY: usize = 10;
/// Far beyond the numbers that ractor gives, and exact in JavaScript.
const FIRST_PID: u64 = 1 << 40;

/// The meters of such rows.
#[derive(Debug)]
pub struct SyntheticActors {
    meters: Vec<Arc<Meter>>,
    turn: usize,
}

impl ActorTable {
    /// Adds rows below a root: families with a parent each, some with messages in their mailboxes.
    #[must_use]
    pub fn add_synthetic(&self, root: &Spot, count: usize) -> SyntheticActors {
        let group = root.child("Synthetic", "synthetic");
        let spot = |n: usize| {
            if n == 0 {
                return group.clone();
            }
            let parent = group.child("Synthetic", &format!("family-{:05}", (n - 1) / FAMILY));
            match (n - 1) % FAMILY {
                0 => parent,
                child => parent.child("Synthetic", &format!("child-{child}")),
            }
        };
        let meters = (0..count).map(|n| {
            let meter = Meter::new();
            for _ in 0..n % 5 {
                meter.sent();
            }
            self.started(&spot(n), ActorId::Local(FIRST_PID + n as u64), Arc::clone(&meter));
            meter
        });
        SyntheticActors { meters: meters.collect(), turn: 0 }
    }
}

impl SyntheticActors {
    /// A part of them handles a message, each time another one.
    pub fn work(&mut self) {
        for meter in self.meters.iter().skip(self.turn).step_by(IDLE_TO_BUSY) {
            let now = Instant::now();
            meter.sent();
            meter.begun(now);
            meter.handled(now);
        }
        self.turn = (self.turn + 1) % IDLE_TO_BUSY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::ActorRow;

    #[tokio::test]
    async fn they_are_rows_like_others_and_a_tenth_of_them_changes_each_time() {
        let table = ActorTable::default();
        let mut actors = table.add_synthetic(&Spot::root("NodeSupervisor", "node-1"), 2_000);
        let before = table.rows();
        assert_eq!(before.len(), 2_000);
        let parents: Vec<_> = before.iter().filter_map(|row| row.spot.parent.as_deref()).collect();
        assert!(parents.iter().all(|parent| *parent == "node-1" || before.iter().any(|row| row.spot.path == *parent)));
        actors.work();
        let after = table.rows();
        assert_eq!(before.iter().zip(&after).filter(|(one, other)| one.meter.done != other.meter.done).count(), 200);
        let queued = |rows: &[ActorRow]| rows.iter().map(|row| row.meter.depth).sum::<u64>();
        assert_eq!(queued(&before), queued(&after));
    }
}
