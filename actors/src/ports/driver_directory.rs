//! Who owns which plate: the warehouse.

use std::collections::HashMap;

use async_trait::async_trait;

use super::RemoteFailure;
use crate::domain::{Driver, PlateKey};

/// The registered drivers.
#[async_trait]
pub trait DriverDirectory: Send + Sync {
    /// The drivers of these plates. A plate that is missing in the answer has no driver; of several rows for one plate the one
    /// loaded last counts.
    ///
    /// # Errors
    /// When the directory does not answer within its budget.
    async fn drivers(&self, plates: &[PlateKey]) -> Result<HashMap<PlateKey, Driver>, RemoteFailure>;

    /// Queries that wait for a connection now; `None` where none has to.
    fn n_waiting(&self) -> Option<usize> {
        None
    }
}
