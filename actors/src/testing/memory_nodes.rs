//! A node table in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Outage, failure};
use crate::ports::{FailureKind, NodeRow, NodeTable, NodeTableError, RemoteFailure};

/// The fake [`NodeTable`]. Clones share the rows.
#[derive(Clone, Default)]
pub struct MemoryNodeTable {
    /// How its calls fail.
    pub outage: Outage,
    rows: Arc<Mutex<BTreeMap<String, NodeRow>>>,
    deleted: Arc<AtomicBool>,
}

impl MemoryNodeTable {
    /// The row of a node.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<NodeRow> {
        self.with(|rows| rows.get(name).cloned())
    }

    /// Deletes the table; every call is refused until somebody ensures that it is there.
    pub fn delete_table(&self) {
        self.with(BTreeMap::clear);
        self.deleted.store(true, Relaxed);
    }

    async fn call<T>(&self, effect: impl FnOnce() -> T + Send) -> Result<T, RemoteFailure> {
        let found = || if self.deleted.load(Relaxed) { Err(failure(FailureKind::Refused)) } else { Ok(effect()) };
        self.outage.call(found).await?
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, NodeRow>) -> T) -> T {
        change(&mut self.rows.lock().expect("no fake panics with its rows locked"))
    }
}

#[async_trait]
impl NodeTable for MemoryNodeTable {
    async fn ensure(&self) -> Result<(), RemoteFailure> {
        self.outage.call(|| self.deleted.store(false, Relaxed)).await
    }

    async fn list(&self) -> Result<Vec<NodeRow>, RemoteFailure> {
        self.call(|| self.with(|rows| rows.values().cloned().collect())).await
    }

    async fn register(&self, row: &NodeRow) -> Result<(), NodeTableError> {
        self.call(|| {
            self.with(|rows| match rows.get(&row.name) {
                Some(other) if other.boot > row.boot => Err(NodeTableError::Superseded(row.name.clone())),
                _ => {
                    rows.insert(row.name.clone(), row.clone());
                    Ok(())
                }
            })
        })
        .await?
    }

    async fn beat(&self, row: &NodeRow) -> Result<(), NodeTableError> {
        self.call(|| {
            self.with(|rows| match rows.get_mut(&row.name) {
                Some(own) if own.boot == row.boot => {
                    *own = row.clone();
                    Ok(())
                }
                _ => Err(NodeTableError::Superseded(row.name.clone())),
            })
        })
        .await?
    }

    async fn remove(&self, name: &str, boot: u64) -> Result<(), RemoteFailure> {
        self.call(|| {
            self.with(|rows| {
                if rows.get(name).is_some_and(|row| row.boot == boot) {
                    rows.remove(name);
                }
            })
        })
        .await
    }
}
