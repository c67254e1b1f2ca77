//! The out-stream in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::ports::{OutRecord, Refused, RemoteFailure, ViolationStream};

/// The fake [`ViolationStream`]. Clones share the records.
#[derive(Clone, Default)]
pub struct MemoryViolationStream {
    /// How its calls fail.
    pub outage: Outage,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    records: Vec<OutRecord>,
    refused: HashMap<String, String>,
}

impl MemoryViolationStream {
    /// All records, in the order of their acceptance.
    #[must_use]
    pub fn records(&self) -> Vec<OutRecord> {
        self.with(|inner| inner.records.clone())
    }

    /// Refuses records of this partition key for their content from now on.
    pub fn refuse(&self, partition_key: &str, reason: &str) {
        self.with(|inner| inner.refused.insert(partition_key.to_owned(), reason.to_owned()));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().expect("no fake panics with its records locked"))
    }
}

#[async_trait]
impl ViolationStream for MemoryViolationStream {
    async fn publish(&self, records: &[OutRecord]) -> Result<Vec<Refused>, RemoteFailure> {
        self.outage
            .call(|| {
                self.with(|inner| {
                    let mut refused = Vec::new();
                    for (index, record) in records.iter().enumerate() {
                        match inner.refused.get(&record.partition_key) {
                            Some(reason) => refused.push(Refused { index, reason: reason.clone() }),
                            None => inner.records.push(record.clone()),
                        }
                    }
                    refused
                })
            })
            .await
    }
}
