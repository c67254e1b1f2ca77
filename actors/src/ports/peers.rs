//! What nodes ask of each other about leases.

use async_trait::async_trait;

use crate::domain::ShardId;

/// The other nodes, by worker id. Every call ends within a timeout; a failed one has an unknown outcome, and the lease table
/// shows what became of it.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Asks a node for one of its leases. It answers at once which one it will hand over, or that it keeps all; the hand-over
    /// itself shows in the lease table, and [`Peers::assigned`] tells of it.
    ///
    /// # Errors
    /// When no answer came.
    async fn ask_lease(&self, worker: &str, application: &str, taker: &str) -> Result<Option<ShardId>, PeerFailure>;

    /// Tells a node that a lease of this application is now its own, or free, so that it looks at once.
    ///
    /// # Errors
    /// When no answer came.
    async fn assigned(&self, worker: &str, application: &str) -> Result<(), PeerFailure>;
}

/// A node did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{worker} did not answer: {reason}")]
pub struct PeerFailure {
    /// Which node.
    pub worker: String,
    /// Why, as far as it is known.
    pub reason: String,
}
