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

    /// How its connections are used now; `None` where there are none.
    fn connections(&self) -> Option<Connections> {
        None
    }
}

/// The connections of a pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// As many may be open.
    pub most: usize,
    /// Those that are.
    pub open: usize,
    /// Open ones with a query on them.
    pub in_use: usize,
    /// Queries that wait for one.
    pub waiting: usize,
}
