//! Repeats a remote call within a budget, and shows meanwhile that it is waited for.

use std::sync::Arc;
use std::time::Duration;

use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::observe::Meter;
use tokio::time::Instant;
use tracing::warn;

use crate::fault::{LoadFault, Remote};
use crate::ports::PortError;
use crate::progress::Progress;

/// How one actor repeats its remote calls, and where it shows that it waits.
#[derive(Clone)]
pub(crate) struct Retry {
    pub(crate) budget: RetryBudget,
    pub(crate) meter: Arc<Meter>,
    pub(crate) progress: Progress,
}

/// Tries one call may take, counted from its first one or from its last progress.
pub(crate) struct Tries {
    retry: Retry,
    remote: Remote,
    since: Instant,
    n: u32,
    is_shown: bool,
}

impl Retry {
    /// Repeats a call until it works, is refused, or the budget is used up.
    pub(crate) async fn call<T, C>(&self, remote: Remote, mut call: impl FnMut() -> C) -> Result<T, LoadFault>
    where
        C: Future<Output = Result<T, PortError>>,
    {
        let mut tries = self.tries(remote);
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => tries.wait_after(error).await?,
            }
        }
    }

    /// Waits, so that it is seen that the actor waits.
    pub(crate) async fn pause(&self, pause: Duration) {
        if !pause.is_zero() {
            let _waiting = self.meter.wait();
            tokio::time::sleep(pause).await;
        }
    }

    /// For a call that is not simply repeated as it was.
    pub(crate) fn tries(&self, remote: Remote) -> Tries {
        Tries { retry: self.clone(), remote, since: Instant::now(), n: 0, is_shown: false }
    }
}

impl Tries {
    /// Starts the budget afresh, since something got through.
    pub(crate) fn progressed(&mut self) {
        self.since = Instant::now();
        self.n = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// Gives the error back when it is lasting or the budget is used up.
    pub(crate) async fn wait_after(&mut self, error: PortError) -> Result<(), LoadFault> {
        if !error.is_passing() {
            return Err(self.remote.fault(error));
        }
        let Some(delay) = self.retry.budget.next_delay(self.n, self.since.elapsed(), rand::random()) else {
            return Err(self.remote.fault(error));
        };
        warn!(%error, attempt = self.n + 1, delay_ms = delay.as_millis(), "a call failed and is tried again");
        if !std::mem::replace(&mut self.is_shown, true) {
            self.retry.progress.waits_for(self.remote, &error.to_string());
        }
        self.n += 1;
        let _waiting = self.retry.meter.wait();
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

impl Drop for Tries {
    /// The call worked, or its failure is told elsewhere.
    fn drop(&mut self) {
        if self.is_shown {
            self.retry.progress.waits_no_more_for(self.remote);
        }
    }
}
