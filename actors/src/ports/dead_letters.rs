//! Where records end that cannot be processed, with their payload and the reason.

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::RemoteFailure;
use crate::domain::{Position, ShardId};

/// The dead letter table.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Stores a letter, or counts one more try on the letter of the same stage and payload.
    ///
    /// # Errors
    /// When the budget of retries is used up.
    async fn put(&self, letter: &DeadLetter) -> Result<(), RemoteFailure>;
}

/// A record that cannot be processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The lane that gave it up: `enrich`, `notify`, `archive` or `errors`.
    pub stage: &'static str,
    /// Why, in words; holds nothing personal.
    pub reason: String,
    /// The record as it came.
    pub payload: Bytes,
    /// The stream that it came from.
    pub stream: String,
    /// The shard that it came from.
    pub shard: ShardId,
    /// Its place there.
    pub position: Position,
}

impl DeadLetter {
    /// The letter's key: lowercase hex of the first 16 bytes of SHA-256 over stage, `|` and payload.
    #[must_use]
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.stage);
        hash.update("|");
        hash.update(&self.payload);
        crate::domain::hex_of_first_16(&hash.finalize())
    }

    /// `stream/shard/sequence/sub`.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}/{}/{}/{}", self.stream, self.shard, self.position.sequence, self.position.sub)
    }
}
