//! Events above the limit.

use std::sync::Arc;

use super::{Driver, SpeedEvent};

/// An event above the limit, with its driver once looked up. `None` means that the warehouse knows no driver for the plate.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The reading.
    pub event: SpeedEvent,
    /// The registered owner of the plate.
    pub driver: Option<Arc<Driver>>,
}

/// What the out-stream carries: a violation whose driver is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedViolation {
    /// The reading.
    pub event: SpeedEvent,
    /// The registered owner of the plate.
    pub driver: Driver,
}
