//! Where records come from: the shards of a Kinesis stream or of a DynamoDB stream.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::RemoteFailure;
use crate::domain::{Position, SequenceNumber, ShardId};

/// A source of ordered records, split into shards.
#[async_trait]
pub trait ShardSource: Send + Sync {
    /// The stream's name, as it stands in a dead letter's `source`.
    fn stream(&self) -> &str;

    /// Most bytes a second that all readers of a shard may read together; without end where nothing says so.
    fn most_bytes_per_second(&self) -> f64;

    /// How often reads of this shard were throttled since this was made; `None` where nobody counts.
    fn throttles(&self, _shard: &ShardId) -> Option<u64> {
        None
    }

    /// Every shard that still holds records, closed ones included, over all pages.
    ///
    /// # Errors
    /// [`SourceError::Remote`] when the budget of retries is used up.
    async fn shards(&self) -> Result<Vec<Shard>, SourceError>;

    /// Opens a shard at a place.
    ///
    /// # Errors
    /// [`SourceError::Gone`] when the shard does not exist any more, else [`SourceError::Remote`].
    async fn iterator(&self, shard: &ShardId, from: &StartAt) -> Result<ShardIterator, SourceError>;

    /// Reads at most `limit` records. An empty page with a `next` says nothing about the end of the shard.
    ///
    /// # Errors
    /// [`SourceError::IteratorExpired`]: open the shard anew at the last position.
    async fn read(&self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError>;
}

/// A shard and its lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name.
    pub id: ShardId,
    /// The shards it was made from: none, one (split) or two (merge). They may be gone already.
    pub parents: Vec<ShardId>,
    /// First and last hash key, as decimal strings; `None` for DynamoDB streams.
    pub hash_range: Option<(String, String)>,
}

impl Shard {
    /// Whether records with this partition key come to this shard: its MD5, as a number, lies in the shard's range
    /// (<https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html>).
    #[must_use]
    pub fn takes(&self, partition_key: &str) -> bool {
        let hash = u128::from_be_bytes(Md5::digest(partition_key).into());
        let number = |text: &str| text.parse::<u128>().ok();
        let range = self.hash_range.as_ref().and_then(|(first, last)| Some(number(first)?..=number(last)?));
        range.is_some_and(|range| range.contains(&hash))
    }
}

/// Where to start reading a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record.
    TrimHorizon,
    /// Only records that arrive from now on.
    Latest,
    /// The first record that arrived at or after this time.
    Timestamp(SystemTime),
    /// This record. A number that is trimmed already starts at the oldest record.
    Sequence(SequenceNumber),
}

/// An opened place in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIterator(pub String);

/// One answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Where to go on; `None` at the end of a closed shard.
    pub next: Option<ShardIterator>,
    /// How far behind the newest record this answer is, in milliseconds, if the source says so.
    pub millis_behind_latest: Option<u64>,
}

/// The bytes of one record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its place in the shard.
    pub position: Position,
    /// Its payload.
    pub data: Bytes,
    /// When the source accepted it, if it says so.
    pub arrived: Option<SystemTime>,
}

/// Why a source did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The iterator is too old (5 minutes for Kinesis, 15 for DynamoDB streams).
    #[error("the shard iterator expired")]
    IteratorExpired,
    /// The shard does not exist (any more).
    #[error("shard {0} is gone")]
    Gone(ShardId),
    /// A failure outside the records.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_to_the_shard_whose_range_holds_its_md5() {
        let shard = |first: &str, last: &str| Shard {
            id: ShardId::new("s"),
            parents: Vec::new(),
            hash_range: Some((first.to_owned(), last.to_owned())),
        };
        // MD5("") = d41d8cd98f00b204e9800998ecf8427e, whose first bit is set.
        let middle = "170141183460469231731687303715884105728";
        let (low, high) = (shard("0", "170141183460469231731687303715884105727"), shard(middle, &u128::MAX.to_string()));
        assert!(high.takes("") && !low.takes(""));
        assert_eq!(low.takes("4-2288B"), !high.takes("4-2288B"));
        assert!(!Shard { hash_range: None, ..low }.takes("4-2288B"));
    }
}
