//! How the fakes fail: told in advance, by number of calls or by tokio time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::{FailureKind, RemoteFailure};

/// What one fake was told to do wrong. Clones share it.
#[derive(Clone, Default)]
pub struct Outage(Arc<Mutex<Plan>>);

#[derive(Default)]
struct Plan {
    refused: Option<(usize, RemoteFailure)>,
    refused_until: Option<(Instant, RemoteFailure)>,
    lost_replies: Option<(usize, RemoteFailure)>,
    delay: Duration,
    n_calls: usize,
}

/// A failure of this kind, as if a call named `fake` had met it.
#[must_use]
pub fn failure(kind: FailureKind) -> RemoteFailure {
    RemoteFailure { call: "fake", kind, detail: "told to fail".to_owned() }
}

impl Outage {
    /// Lets the next `n` calls fail before they take effect.
    pub fn fail_next(&self, n: usize, failure: RemoteFailure) {
        self.plan(|plan| plan.refused = Some((n, failure)));
    }

    /// Lets all calls of the next `time` fail before they take effect.
    pub fn fail_for(&self, time: Duration, failure: RemoteFailure) {
        self.plan(|plan| plan.refused_until = Some((Instant::now() + time, failure)));
    }

    /// Lets the next `n` calls take effect and fail all the same: their answers are lost.
    pub fn lose_next_replies(&self, n: usize, failure: RemoteFailure) {
        self.plan(|plan| plan.lost_replies = Some((n, failure)));
    }

    /// Makes every call from now on last this long before it takes effect.
    pub fn delay(&self, delay: Duration) {
        self.plan(|plan| plan.delay = delay);
    }

    /// How many calls were made, failed ones included.
    #[must_use]
    pub fn n_calls(&self) -> usize {
        self.plan(|plan| plan.n_calls)
    }

    /// Makes a call: waits, then fails or performs `effect`, then perhaps loses its answer.
    pub(super) async fn call<T>(&self, effect: impl FnOnce() -> T + Send) -> Result<T, RemoteFailure> {
        let delay = self.plan(|plan| {
            plan.n_calls += 1;
            plan.delay
        });
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.plan(|plan| {
            if let Some((until, failure)) = &plan.refused_until
                && Instant::now() < *until
            {
                return Err(failure.clone());
            }
            used_up(&mut plan.refused)
        })?;
        let result = effect();
        self.plan(|plan| used_up(&mut plan.lost_replies))?;
        Ok(result)
    }

    fn plan<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        change(&mut self.0.lock().expect("no fake panics with its plan locked"))
    }
}

fn used_up(planned: &mut Option<(usize, RemoteFailure)>) -> Result<(), RemoteFailure> {
    match planned {
        Some((n, failure)) if *n > 0 => {
            *n -= 1;
            Err(failure.clone())
        }
        _ => Ok(()),
    }
}
