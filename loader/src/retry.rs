//! Repeats a remote call within a budget.

use std::sync::Arc;

use speedtrap_actors::flow::RetryBudget;
use speedtrap_actors::observe::Meter;
use tokio::time::Instant;
use tracing::warn;

use crate::ports::PortError;

/// Tries one call may take, counted from its first one or from its last progress.
pub(crate) struct Tries<'a> {
    budget: RetryBudget,
    meter: &'a Arc<Meter>,
    since: Instant,
    n: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(budget: RetryBudget, meter: &'a Arc<Meter>) -> Self {
        Self { budget, meter, since: Instant::now(), n: 0 }
    }

    /// Starts the budget afresh, since something got through.
    pub(crate) fn progressed(&mut self) {
        self.since = Instant::now();
        self.n = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// Gives the error back when it is lasting or the budget is used up.
    pub(crate) async fn wait_after(&mut self, error: PortError) -> Result<(), PortError> {
        if !error.is_passing() {
            return Err(error);
        }
        let Some(delay) = self.budget.next_delay(self.n, self.since.elapsed(), rand::random()) else { return Err(error) };
        warn!(%error, attempt = self.n + 1, delay_ms = delay.as_millis(), "a call failed and is tried again");
        self.n += 1;
        let _waiting = self.meter.wait();
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// Repeats a call until it works, is refused, or the budget is used up.
pub(crate) async fn retried<T, C>(budget: RetryBudget, meter: &Arc<Meter>, mut call: impl FnMut() -> C) -> Result<T, PortError>
where
    C: Future<Output = Result<T, PortError>>,
{
    let mut tries = Tries::new(budget, meter);
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) => tries.wait_after(error).await?,
        }
    }
}
