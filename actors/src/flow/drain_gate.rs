//! Which batches of a lane may still begin once it drains.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The gate that every batch of a generation passes before its first effect. A cheap handle; its clones are one gate.
///
/// Once it is closed, no batch passes that comes after the last one that did. So the batches that have begun are always the first
/// ones of the generation: when they are finished, the ended prefix covers every event that had an effect.
#[derive(Debug, Clone)]
pub struct DrainGate(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    passed: Mutex<Passed>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Passed {
    closed: bool,
    /// Batches with numbers below this have begun, or have one behind them that has.
    below: u64,
}

impl Default for DrainGate {
    fn default() -> Self {
        Self(Arc::new(Gate { passed: Mutex::default(), closed: watch::Sender::new(false) }))
    }
}

impl DrainGate {
    /// Lets nothing more begin.
    pub fn close(&self) {
        self.passed().closed = true;
        self.0.closed.send_replace(true);
    }

    /// Lets a batch begin, unless the gate is closed and the batch comes after the last one that began.
    #[must_use]
    pub fn pass(&self, number: u64) -> bool {
        let mut passed = self.passed();
        if passed.closed && number >= passed.below {
            return false;
        }
        passed.below = passed.below.max(number + 1);
        true
    }

    /// Whether the batch may begin, or has begun.
    #[must_use]
    pub fn lets_pass(&self, number: u64) -> bool {
        let passed = self.passed();
        !passed.closed || number < passed.below
    }

    /// Waits until the gate is closed.
    pub async fn closed(&self) {
        let mut closed = self.0.closed.subscribe();
        // The sender lives as long as this handle, so the wait cannot fail.
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    /// Whether the gate is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.passed().closed
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_closed_gate_lets_through_what_has_begun_and_what_came_before_it() {
        let gate = DrainGate::default();
        assert!(gate.pass(2));
        gate.close();
        assert!(gate.pass(1) && gate.pass(2) && gate.lets_pass(0));
        assert!(!gate.pass(3) && !gate.lets_pass(3));
    }

    proptest! {
        /// Batches come to the gate in any order, several times, and it closes at any moment: what passed is a prefix of what will
        /// ever have passed.
        #[test]
        fn the_batches_that_began_are_the_first_ones(numbers in proptest::collection::vec(0_u64..20, 1..60), close_at in 0_usize..60) {
            let gate = DrainGate::default();
            let mut began = std::collections::BTreeSet::new();
            for (n, number) in numbers.into_iter().enumerate() {
                if n == close_at {
                    gate.close();
                }
                if gate.pass(number) {
                    began.insert(number);
                }
            }
            gate.close();
            let last = began.last().copied();
            for number in 0..20 {
                prop_assert_eq!(gate.pass(number), last.is_some_and(|last| number <= last));
            }
        }
    }
}
