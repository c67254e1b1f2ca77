//! What a load needs from outside: Firehose, the bucket behind it, and the warehouse. Adapters stand in `aws` and `warehouse`,
//! fakes in `fakes`.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncBufRead;
use tokio::sync::mpsc;

use crate::csv_rows::DriverRow;
use crate::load_ledger::{Committed, LoadFacts};

/// Why a call did not work, by what the caller does about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    /// Too fast: wait and try again.
    #[error("throttled: {0}")]
    Throttled(String),
    /// No answer, or an answer that blames the server: try again.
    #[error("no answer: {0}")]
    Unavailable(String),
    /// The request itself is refused: trying again changes nothing.
    #[error("refused: {0}")]
    Refused(String),
}

/// What became of one record of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    Accepted,
    Failed(String),
}

/// Takes records into a delivery stream.
#[async_trait]
pub(crate) trait Firehose: Send + Sync {
    /// Puts one batch; gives one outcome per record, in order. A call that fails as a whole may still have been taken in.
    async fn put(&self, records: &[Bytes]) -> Result<Vec<PutOutcome>, PortError>;
}

/// What lies in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Listing {
    pub(crate) keys: Vec<String>,
    /// When the youngest of all objects was delivered, whether it is listed or not.
    pub(crate) newest: Option<SystemTime>,
}

/// Reads what Firehose has delivered.
#[async_trait]
pub(crate) trait ObjectStore: Send + Sync {
    /// What was delivered at that time, by the bucket's clock, or later; everything without a time.
    async fn list(&self, since: Option<SystemTime>) -> Result<Listing, PortError>;

    /// One object's content.
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, PortError>;
}

/// Keeps drivers and the ledger of loads.
#[async_trait]
pub(crate) trait Warehouse: Send + Sync {
    /// Looks a load up.
    async fn find_load(&self, load_id: &str) -> Result<Option<Committed>, PortError>;

    /// Merges the rows and writes the ledger row in one transaction; of several rows with one plate the highest line wins.
    /// Nothing is merged if another number of rows than `load.sent` arrives before the channel closes, or if the ledger has
    /// the load already. After an error nothing is known: look the load up, or commit it again.
    async fn commit_load(&self, load: &LoadFacts, rows: mpsc::Receiver<Vec<DriverRow>>) -> Result<Committed, PortError>;
}

impl PortError {
    /// Whether the same call may work later.
    pub(crate) fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
