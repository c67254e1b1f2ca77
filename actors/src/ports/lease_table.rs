//! The lease table of one consumer application, in the row format of the Kinesis Client Library (1.x and 2.x).

use std::fmt;

use async_trait::async_trait;

use super::RemoteFailure;
use crate::domain::{Position, ShardId};

/// The rows that say which node owns which shard, and how far it is.
///
/// Every write of a held lease is a compare-and-set on its counter, so a node that lost a lease cannot write over its new owner.
#[async_trait]
pub trait LeaseTable: Send + Sync {
    /// Makes the table if it is absent and waits until it can be used.
    ///
    /// # Errors
    /// [`LeaseError::Unusable`] when it is not ours to write; else when it cannot be made or described.
    async fn ensure(&self) -> Result<(), LeaseError>;

    /// All lease rows, over all pages. Rows that are no leases are left out.
    ///
    /// # Errors
    /// When the table cannot be read.
    async fn list(&self) -> Result<Vec<Lease>, LeaseError>;

    /// One row, read consistently; `None` when it is absent or no lease.
    ///
    /// # Errors
    /// When the table cannot be read.
    async fn get(&self, shard: &ShardId) -> Result<Option<Lease>, LeaseError>;

    /// Makes a row with counter 0 and no owner. Returns false when it exists already.
    ///
    /// # Errors
    /// When the table cannot be written.
    async fn create(&self, lease: &NewLease) -> Result<bool, LeaseError>;

    /// Takes the lease for `owner`, if nobody wrote it since it was read.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when somebody did.
    async fn take(&self, lease: &Lease, owner: &str) -> Result<Lease, LeaseError>;

    /// Shows that the owner lives. An answer that got lost is recognised by reading the row again.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when another node owns the lease now.
    async fn renew(&self, lease: &Lease) -> Result<Lease, LeaseError>;

    /// Moves the checkpoint and renews.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when another node owns the lease now.
    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<Lease, LeaseError>;

    /// Gives the lease up: the row has no owner afterwards.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when another node owns the lease now.
    async fn release(&self, lease: &Lease) -> Result<(), LeaseError>;

    /// Hands the lease to another owner: the last write of the old one.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when another node owns the lease already.
    async fn assign(&self, lease: &Lease, to: &str) -> Result<Lease, LeaseError>;

    /// Notes which shards follow a closed one. Not fenced, as in KCL: whoever writes it writes the same.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when there is no such row.
    async fn note_children(&self, shard: &ShardId, children: &[ShardId]) -> Result<(), LeaseError>;

    /// Notes the hash keys of a shard in a row that lacks them, as rows of older workers do. Not fenced, as in KCL: a shard's
    /// hash keys never change. A row that has them already is left alone.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when there is no such row.
    async fn note_hash_range(&self, shard: &ShardId, range: &(String, String)) -> Result<(), LeaseError>;

    /// Removes the row of a shard that is done, if nobody wrote it since it was read. An absent row is fine.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when somebody wrote it.
    async fn delete(&self, lease: &Lease) -> Result<(), LeaseError>;
}

/// A lease row as it was read or written last.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// `leaseKey`.
    pub shard: ShardId,
    /// `leaseOwner`; `None` when nobody owns it.
    pub owner: Option<String>,
    /// `leaseCounter`.
    pub counter: u64,
    /// `checkpoint` and `checkpointSubSequenceNumber`.
    pub checkpoint: Checkpoint,
    /// `parentShardId`.
    pub parents: Vec<ShardId>,
    /// `childShardIds`: known once the shard is closed and done.
    pub children: Vec<ShardId>,
    /// Whether the row has `startingHashKey` and `endingHashKey`. Older KCL wrote none.
    pub has_hash_range: bool,
}

/// A lease row to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLease {
    /// `leaseKey`.
    pub shard: ShardId,
    /// `checkpoint`: a sentinel.
    pub checkpoint: Checkpoint,
    /// `parentShardId`.
    pub parents: Vec<ShardId>,
    /// `startingHashKey` and `endingHashKey`.
    pub hash_range: Option<(String, String)>,
}

/// How far a shard is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Checkpoint {
    /// `TRIM_HORIZON`: nothing is done yet, start at the oldest record.
    TrimHorizon,
    /// `LATEST`: start at the newest record.
    Latest,
    /// `AT_TIMESTAMP`: start at a time that the application was told.
    AtTimestamp,
    /// Everything up to and including this position is done.
    At(Position),
    /// `SHARD_END`: the shard is closed and done.
    ShardEnd,
}

impl fmt::Display for Checkpoint {
    /// As it stands in the row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("TRIM_HORIZON"),
            Self::Latest => f.write_str("LATEST"),
            Self::AtTimestamp => f.write_str("AT_TIMESTAMP"),
            Self::At(position) => position.sequence.fmt(f),
            Self::ShardEnd => f.write_str("SHARD_END"),
        }
    }
}

/// Why a lease operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else wrote the row: its counter is not what it was.
    #[error("the lease of {0} is lost")]
    Lost(ShardId),
    /// The table is not one we may write, such as one in the mode of KCL 3.x.
    #[error("lease table cannot be used: {0}")]
    Unusable(String),
    /// A failure outside the rows.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
}
