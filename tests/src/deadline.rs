//! Waiting for what must come, with a limit.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

const PAUSE: Duration = Duration::from_millis(100);

/// Looks again and again until a look succeeds; gives what it found.
///
/// # Errors
/// With the last look's own error, when time is up.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let until = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > until => return Err(error).with_context(|| format!("not within {limit:?}: {what}")),
            Err(_) => sleep(PAUSE).await,
        }
    }
}
