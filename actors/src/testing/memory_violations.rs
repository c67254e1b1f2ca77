//! A table of events in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::domain::SpeedEvent;
use crate::ports::{Refused, RemoteFailure, ViolationStore};

/// The fake [`ViolationStore`]. Clones share the items.
#[derive(Clone, Default)]
pub struct MemoryViolationStore {
    /// How its calls fail.
    pub outage: Outage,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    items: BTreeMap<(String, String), SpeedEvent>,
    refused: HashMap<String, String>,
    n_puts: usize,
}

impl MemoryViolationStore {
    /// All items, by plate and event id.
    #[must_use]
    pub fn items(&self) -> Vec<SpeedEvent> {
        self.with(|inner| inner.items.values().cloned().collect())
    }

    /// How many items were written, repeated ones included.
    #[must_use]
    pub fn n_puts(&self) -> usize {
        self.with(|inner| inner.n_puts)
    }

    /// Refuses this event for its content from now on.
    pub fn refuse(&self, event_id: &str, reason: &str) {
        self.with(|inner| inner.refused.insert(event_id.to_owned(), reason.to_owned()));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().expect("no fake panics with its items locked"))
    }
}

#[async_trait]
impl ViolationStore for MemoryViolationStore {
    async fn put(&self, events: &[&SpeedEvent]) -> Result<Vec<Refused>, RemoteFailure> {
        self.outage
            .call(|| {
                self.with(|inner| {
                    let mut refused = Vec::new();
                    let mut written = BTreeSet::new();
                    for (index, event) in events.iter().enumerate() {
                        if let Some(reason) = inner.refused.get(event.event_id()) {
                            refused.push(Refused { index, reason: reason.clone() });
                            continue;
                        }
                        let key = (event.license_plate().to_owned(), event.event_id().to_owned());
                        if written.insert(key.clone()) {
                            inner.n_puts += 1;
                            inner.items.insert(key, (*event).clone());
                        }
                    }
                    refused
                })
            })
            .await
    }
}
