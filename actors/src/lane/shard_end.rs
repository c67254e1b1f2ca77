//! What has to be in the lease table before a shard is marked as done: rows for the shards that follow it, as KCL makes them.

use std::time::Duration;

use tokio::time::sleep;

use crate::domain::ShardId;
use crate::observe::{LaneStats, LeaseWrite};
use crate::ports::{Checkpoint, Lease, LeaseError, LeaseTable, NewLease, Shard, ShardSource, SourceError};

/// A list of shards may still lack the children of a shard that was just closed: it is asked this often in all.
const LOOKS: u32 = 10;
/// Pause between two of these looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the children of a shard have no rows yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// Whether the stream still lists a shard.
pub(super) async fn is_listed(source: &dyn ShardSource, shard: &ShardId) -> Result<bool, SourceError> {
    Ok(source.shards().await?.iter().any(|listed| listed.id == *shard))
}

/// Makes a row for each child of a shard that was read to its end, and notes them in the shard's own row. A shard without
/// children is the end of its stream, such as when a table's stream was switched off.
pub(super) async fn prepare_end(
    source: &dyn ShardSource,
    table: &dyn LeaseTable,
    lease: &Lease,
    stats: &LaneStats,
) -> Result<(), EndError> {
    let shards = listed_with_children(source, &lease.shard).await?;
    let children: Vec<&Shard> = shards.iter().filter(|shard| shard.parents.contains(&lease.shard)).collect();
    if children.is_empty() {
        tracing::warn!(shard = %lease.shard, "shard is closed and the stream lists no shard that follows it");
        return Ok(());
    }
    for child in &children {
        if !other_parents_have_rows(table, &shards, child, &lease.shard).await? {
            // The row is made by whoever ends the other parent, or once the other parent has its row.
            continue;
        }
        let new = NewLease {
            shard: child.id.clone(),
            checkpoint: Checkpoint::TrimHorizon,
            parents: child.parents.clone(),
            hash_range: child.hash_range.clone(),
        };
        stats.lease_written(&lease.shard, LeaseWrite::Other);
        if table.create(&new).await? {
            tracing::info!(shard = %lease.shard, child = %child.id, "made the lease of a child shard");
        }
    }
    let children: Vec<ShardId> = children.into_iter().map(|child| child.id.clone()).collect();
    stats.lease_written(&lease.shard, LeaseWrite::Other);
    Ok(table.note_children(&lease.shard, &children).await?)
}

async fn listed_with_children(source: &dyn ShardSource, parent: &ShardId) -> Result<Vec<Shard>, SourceError> {
    let mut looks = 0;
    loop {
        let shards = source.shards().await?;
        looks += 1;
        if looks == LOOKS || shards.iter().any(|shard| shard.parents.contains(parent)) {
            return Ok(shards);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A merged shard gets its row only when each of its parents has one, else it would be read before the other parent is done. A
/// parent that the stream lists no more holds nothing, so its row may be gone.
async fn other_parents_have_rows(
    table: &dyn LeaseTable,
    shards: &[Shard],
    child: &Shard,
    parent: &ShardId,
) -> Result<bool, LeaseError> {
    for other in child.parents.iter().filter(|other| *other != parent) {
        let is_listed = shards.iter().any(|shard| shard.id == *other);
        if is_listed && table.get(other).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
