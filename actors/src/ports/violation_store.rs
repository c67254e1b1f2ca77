//! Where events are kept as items.

use async_trait::async_trait;

use super::{Refused, RemoteFailure};
use crate::domain::SpeedEvent;

/// A table of events, keyed by plate and event id.
#[async_trait]
pub trait ViolationStore: Send + Sync {
    /// Puts every event, unconditionally: the item of one event is the same at every delivery. Equal keys go once.
    /// What the table refuses for its content is returned; everything else is stored when the call returns.
    ///
    /// # Errors
    /// When the budget of retries is used up; some events may be stored.
    async fn put(&self, events: &[&SpeedEvent]) -> Result<Vec<Refused>, RemoteFailure>;
}
