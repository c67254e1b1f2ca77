//! The durable outbox between enrichment and texting.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Refused, RemoteFailure};

/// The out-stream.
#[async_trait]
pub trait ViolationStream: Send + Sync {
    /// Appends every record, keeping the order of records with one partition key: one call carries at most one record per key,
    /// and the next call follows its last acceptance. Records may be appended more than once.
    /// What the stream refuses for its content is returned; everything else is accepted when the call returns.
    ///
    /// # Errors
    /// When the budget of retries is used up; some records may be appended.
    async fn publish(&self, records: &[OutRecord]) -> Result<Vec<Refused>, RemoteFailure>;
}

/// One record for the out-stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRecord {
    /// The plate as received.
    pub partition_key: String,
    /// Its JSON.
    pub data: Bytes,
}
