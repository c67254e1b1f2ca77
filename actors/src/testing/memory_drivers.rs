//! A warehouse of drivers in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::domain::{Driver, PlateKey};
use crate::ports::{DriverDirectory, RemoteFailure};

/// The fake [`DriverDirectory`]. Clones share the drivers.
#[derive(Clone, Default)]
pub struct MemoryDriverDirectory {
    /// How its calls fail, and how long they last.
    pub outage: Outage,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    drivers: HashMap<PlateKey, Driver>,
    calls: Vec<Vec<PlateKey>>,
}

impl MemoryDriverDirectory {
    /// Registers a driver, in place of an earlier one of that plate.
    pub fn register(&self, plate: &str, driver: Driver) {
        self.with(|inner| inner.drivers.insert(PlateKey::of(plate), driver));
    }

    /// The plates asked for, one entry a call, in order; failed calls are in it.
    #[must_use]
    pub fn calls(&self) -> Vec<Vec<PlateKey>> {
        self.with(|inner| inner.calls.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().expect("no fake panics with its drivers locked"))
    }
}

#[async_trait]
impl DriverDirectory for MemoryDriverDirectory {
    async fn drivers(&self, plates: &[PlateKey]) -> Result<HashMap<PlateKey, Driver>, RemoteFailure> {
        // What a query sees is settled when it starts, so a delayed call answers with drivers that may be replaced meanwhile.
        let found = self.with(|inner| {
            inner.calls.push(plates.to_vec());
            plates.iter().filter_map(|plate| Some((plate.clone(), inner.drivers.get(plate)?.clone()))).collect()
        });
        self.outage.call(|| found).await
    }
}
