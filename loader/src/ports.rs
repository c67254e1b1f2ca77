//! What a load needs from outside: Firehose, the bucket behind it, and the warehouse. Adapters stand in `aws` and `warehouse`,
//! fakes in `fakes`.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncBufRead;

use crate::fault::LoadFault;
use crate::load_ledger::{Committed, LoadFacts};
use crate::warehouse::{Quarantine, SchemaPlan};

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

/// The bucket that Firehose delivers to.
#[async_trait]
pub(crate) trait ObjectStore: Send + Sync {
    /// What was delivered at that time, by the bucket's clock, or later; everything without a time.
    async fn list(&self, since: Option<SystemTime>) -> Result<Listing, PortError>;

    /// One object's content.
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, PortError>;

    /// Writes an object, outside of what Firehose delivers.
    async fn write(&self, key: &str, content: Vec<u8>) -> Result<(), PortError>;

    /// Takes an object away that was written here.
    async fn remove(&self, key: &str) -> Result<(), PortError>;

    /// How the warehouse names an object.
    fn url(&self, key: &str) -> String;
}

/// The rows of a load in the bucket, and where those go that the warehouse refuses.
pub(crate) struct BucketRows<'a> {
    pub(crate) objects: &'a dyn ObjectStore,
    /// Objects that hold rows of the load, perhaps twice, and perhaps rows of others.
    pub(crate) keys: &'a [String],
    pub(crate) quarantine: &'a Quarantine,
}

/// Keeps drivers and the ledger of loads.
#[async_trait]
pub(crate) trait Warehouse: Send + Sync {
    /// Compares its tables with what loads need.
    async fn plan(&self) -> Result<SchemaPlan, PortError>;

    /// Runs the DDL of a plan.
    async fn run_ddl(&self, plan: &SchemaPlan) -> Result<(), PortError>;

    /// Looks a load up.
    async fn find_load(&self, load_id: &str) -> Result<Option<Committed>, PortError>;

    /// Merges the rows and writes the ledger row in one transaction; of several rows with one plate the highest line wins.
    /// Rows that it refuses one by one are put aside first. Nothing is merged if staged and refused rows are not all that were
    /// sent, or if the ledger has the load already. After an error nothing is known: look the load up, or commit it again.
    async fn commit_load(&self, load: &LoadFacts, rows: &BucketRows<'_>) -> Result<Committed, LoadFault>;
}

impl PortError {
    /// Whether the same call may work later.
    pub(crate) fn is_passing(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}
