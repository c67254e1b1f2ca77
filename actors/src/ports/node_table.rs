//! The small table through which nodes find each other and show that they live.

use async_trait::async_trait;

use super::RemoteFailure;

/// The rows of the node table, one a node name.
#[async_trait]
pub trait NodeTable: Send + Sync {
    /// Makes the table if it is not there, and waits until it can be used.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    async fn ensure(&self) -> Result<(), RemoteFailure>;

    /// All nodes, over all pages, read consistently.
    ///
    /// # Errors
    /// When the table cannot be read.
    async fn list(&self) -> Result<Vec<NodeRow>, RemoteFailure>;

    /// Writes this node's row whole, over that of an earlier boot of the same name.
    ///
    /// # Errors
    /// [`NodeTableError::Superseded`] when a later boot of the same name has registered.
    async fn register(&self, row: &NodeRow) -> Result<(), NodeTableError>;

    /// Writes this node's heartbeat and state.
    ///
    /// # Errors
    /// [`NodeTableError::Superseded`] when the row is another boot's, or gone.
    async fn beat(&self, row: &NodeRow) -> Result<(), NodeTableError>;

    /// Removes the row of this boot, if it is still there.
    ///
    /// # Errors
    /// When the table cannot be written.
    async fn remove(&self, name: &str, boot: u64) -> Result<(), RemoteFailure>;
}

/// One node as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// `name` (S): the key.
    pub name: String,
    /// `boot` (N): milliseconds since 1970 at its start, or more if its clock went back: it grows with each boot of the name.
    pub boot: u64,
    /// `address` (S): `host:port` that its cluster listener is reached at; absent when it takes no links.
    pub address: Option<String>,
    /// `dashboard` (S): URL of its API.
    pub dashboard: Option<String>,
    /// `roles` (SS): its kinds of lane.
    pub roles: Vec<String>,
    /// `heartbeat` (N): grows by one with each beat. Only its change counts; whose clock it is does not matter.
    pub heartbeat: u64,
    /// `draining` (BOOL): the node is giving its leases away.
    pub draining: bool,
}

/// Why a row was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeTableError {
    /// Another boot of the same name has the row.
    #[error("another node has started under the name `{0}`")]
    Superseded(String),
    /// A failure outside the rows.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
}

impl NodeRow {
    /// The owner that this boot writes into leases: `<name>#<boot>`.
    #[must_use]
    pub fn worker(&self) -> String {
        format!("{}#{}", self.name, self.boot)
    }
}
