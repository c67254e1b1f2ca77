//! The archive of violations: JSON lines in object storage, by way of a delivery stream.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Refused, RemoteFailure};

/// The delivery stream into the archive.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Appends every line; each ends with a line feed. Lines may be appended more than once.
    /// What the stream refuses for its content is returned; everything else is accepted when the call returns.
    ///
    /// # Errors
    /// When the budget of retries is used up; some lines may be appended.
    async fn append(&self, lines: &[Bytes]) -> Result<Vec<Refused>, RemoteFailure>;
}
