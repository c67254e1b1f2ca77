//! A lease table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::domain::ShardId;
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable, NewLease};

/// The fake [`LeaseTable`]. Clones share the rows.
#[derive(Clone, Default)]
pub struct MemoryLeaseTable {
    /// How its calls fail.
    pub outage: Outage,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Default)]
struct Rows {
    leases: BTreeMap<ShardId, Lease>,
    checkpoints: Vec<(ShardId, Checkpoint)>,
    unusable: Option<String>,
}

impl MemoryLeaseTable {
    /// The row of a shard.
    #[must_use]
    pub fn lease(&self, shard: &ShardId) -> Option<Lease> {
        self.with(|rows| rows.leases.get(shard).cloned())
    }

    /// Every checkpoint ever written, in order.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<(ShardId, Checkpoint)> {
        self.with(|rows| rows.checkpoints.clone())
    }

    /// Puts a row there whatever stood before, as another worker would.
    pub fn overwrite(&self, lease: Lease) {
        self.with(|rows| rows.leases.insert(lease.shard.clone(), lease));
    }

    /// Lets every call answer [`LeaseError::Unusable`] from now on.
    pub fn make_unusable(&self, reason: &str) {
        self.with(|rows| rows.unusable = Some(reason.to_owned()));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Rows) -> T) -> T {
        change(&mut self.rows.lock().expect("no fake panics with its rows locked"))
    }

    async fn call<T>(&self, change: impl FnOnce(&mut Rows) -> Result<T, LeaseError> + Send) -> Result<T, LeaseError> {
        self.outage
            .call(|| {
                self.with(|rows| match &rows.unusable {
                    Some(reason) => Err(LeaseError::Unusable(reason.clone())),
                    None => change(rows),
                })
            })
            .await?
    }
}

impl Rows {
    /// Compare-and-set on the counter. A row one write ahead with our owner is our own write whose answer was lost.
    fn write(&mut self, lease: &Lease, change: impl FnOnce(&mut Lease)) -> Result<Lease, LeaseError> {
        let row = self.leases.get_mut(&lease.shard).ok_or_else(|| LeaseError::Lost(lease.shard.clone()))?;
        let own_lost_reply = row.counter == lease.counter + 1 && row.owner == lease.owner;
        if row.counter != lease.counter && !own_lost_reply {
            return Err(LeaseError::Lost(lease.shard.clone()));
        }
        change(row);
        row.counter += 1;
        Ok(row.clone())
    }
}

#[async_trait]
impl LeaseTable for MemoryLeaseTable {
    async fn ensure(&self) -> Result<(), LeaseError> {
        self.call(|_| Ok(())).await
    }

    async fn list(&self) -> Result<Vec<Lease>, LeaseError> {
        self.call(|rows| Ok(rows.leases.values().cloned().collect())).await
    }

    async fn get(&self, shard: &ShardId) -> Result<Option<Lease>, LeaseError> {
        self.call(|rows| Ok(rows.leases.get(shard).cloned())).await
    }

    async fn create(&self, lease: &NewLease) -> Result<bool, LeaseError> {
        self.call(|rows| {
            if rows.leases.contains_key(&lease.shard) {
                return Ok(false);
            }
            let row = Lease {
                shard: lease.shard.clone(),
                owner: None,
                counter: 0,
                checkpoint: lease.checkpoint.clone(),
                parents: lease.parents.clone(),
                children: Vec::new(),
                has_hash_range: lease.hash_range.is_some(),
            };
            rows.leases.insert(lease.shard.clone(), row);
            Ok(true)
        })
        .await
    }

    async fn take(&self, lease: &Lease, owner: &str) -> Result<Lease, LeaseError> {
        self.call(|rows| {
            let row = rows.leases.get_mut(&lease.shard).ok_or_else(|| LeaseError::Lost(lease.shard.clone()))?;
            let as_read = row.counter == lease.counter && row.owner == lease.owner;
            let own_lost_reply = row.counter == lease.counter + 1 && row.owner.as_deref() == Some(owner);
            if as_read {
                row.owner = Some(owner.to_owned());
                row.counter += 1;
            } else if !own_lost_reply {
                return Err(LeaseError::Lost(lease.shard.clone()));
            }
            Ok(row.clone())
        })
        .await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.call(|rows| rows.write(lease, |_| ())).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<Lease, LeaseError> {
        self.call(|rows| {
            let written = rows.write(lease, |row| row.checkpoint = checkpoint.clone())?;
            rows.checkpoints.push((lease.shard.clone(), checkpoint.clone()));
            Ok(written)
        })
        .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.call(|rows| {
            let released = |row: &Lease| row.owner.is_none() && row.counter == lease.counter + 1;
            if rows.leases.get(&lease.shard).is_some_and(released) {
                return Ok(());
            }
            rows.write(lease, |row| row.owner = None).map(|_| ())
        })
        .await
    }

    async fn assign(&self, lease: &Lease, to: &str) -> Result<Lease, LeaseError> {
        self.take(lease, to).await
    }

    async fn note_children(&self, shard: &ShardId, children: &[ShardId]) -> Result<(), LeaseError> {
        self.call(|rows| {
            let row = rows.leases.get_mut(shard).ok_or_else(|| LeaseError::Lost(shard.clone()))?;
            row.children = children.to_vec();
            Ok(())
        })
        .await
    }

    async fn delete(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.call(|rows| match rows.leases.get(&lease.shard) {
            Some(row) if row.counter != lease.counter => Err(LeaseError::Lost(lease.shard.clone())),
            _ => {
                rows.leases.remove(&lease.shard);
                Ok(())
            }
        })
        .await
    }
}
