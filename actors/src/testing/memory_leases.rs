//! A lease table in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Outage;
use crate::domain::ShardId;
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable, LeaseWrite, NewLease, Refusal};

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
    /// Does a write as the adapter does it: compare-and-set, and a second look at a row that refused it.
    fn write(&mut self, held: &Lease, write: &LeaseWrite) -> Result<Lease, LeaseError> {
        let lost = || LeaseError::Lost(held.shard.clone());
        let row = self.leases.get_mut(&held.shard).ok_or_else(lost)?;
        let mut tried = held.clone();
        loop {
            if let Some(written) = write.apply(&tried, row) {
                row.clone_from(&written);
                if let LeaseWrite::Checkpoint(checkpoint) = write {
                    self.checkpoints.push((held.shard.clone(), checkpoint.clone()));
                }
                return Ok(written);
            }
            match write.refusal(held, &tried, row) {
                Refusal::TookEffect => return Ok(row.clone()),
                Refusal::OneBehind => tried.clone_from(row),
                Refusal::Lost => return Err(lost()),
            }
        }
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
        self.call(|rows| rows.write(lease, &LeaseWrite::Take(owner.to_owned()))).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.call(|rows| rows.write(lease, &LeaseWrite::Renew)).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<Lease, LeaseError> {
        self.call(|rows| rows.write(lease, &LeaseWrite::Checkpoint(checkpoint.clone()))).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.call(|rows| rows.write(lease, &LeaseWrite::Release).map(|_| ())).await
    }

    async fn assign(&self, lease: &Lease, to: &str) -> Result<Lease, LeaseError> {
        self.call(|rows| rows.write(lease, &LeaseWrite::Assign(to.to_owned()))).await
    }

    async fn note_children(&self, shard: &ShardId, children: &[ShardId]) -> Result<(), LeaseError> {
        self.call(|rows| {
            let row = rows.leases.get_mut(shard).ok_or_else(|| LeaseError::Lost(shard.clone()))?;
            row.children = children.to_vec();
            Ok(())
        })
        .await
    }

    async fn note_hash_range(&self, shard: &ShardId, _: &(String, String)) -> Result<(), LeaseError> {
        self.call(|rows| {
            rows.leases.get_mut(shard).ok_or_else(|| LeaseError::Lost(shard.clone()))?.has_hash_range = true;
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
