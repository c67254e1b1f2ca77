//! How fast a shard is read, so that those who live on it are not held up.
//!
//! A shard gives all its readers together 5 reads and 2 MB a second
//! (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>). One read and half of the bytes are taken here, however
//! many tables of a statement read the shard.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use speedtrap_actors::domain::ShardId;
use tokio::time::{Instant, sleep_until};

const READ_GAP: Duration = Duration::from_secs(1);
const BYTES_PER_SECOND: f64 = 1e6;
/// Records of the first read, before it is known how long they are.
const FIRST_LIMIT: usize = 500;
/// Records of one read, at least and at most.
const LIMITS: (usize, usize) = (50, 10_000);

/// When a shard may be read again, and how much of it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    may_read_at: Option<Instant>,
    record_bytes: Option<usize>,
}

/// The paces of all shards of a stream.
#[derive(Debug, Default)]
pub(crate) struct Paces(Mutex<HashMap<ShardId, Arc<tokio::sync::Mutex<Pace>>>>);

impl Paces {
    /// The pace of a shard. Whoever reads the shard holds it locked meanwhile.
    pub(crate) fn of(&self, shard: &ShardId) -> Arc<tokio::sync::Mutex<Pace>> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(paces.entry(shard.clone()).or_default())
    }
}

impl Pace {
    /// Waits until the shard may be read.
    pub(crate) async fn wait(&self) {
        if let Some(at) = self.may_read_at {
            sleep_until(at).await;
        }
    }

    /// How many records to ask for.
    pub(crate) fn limit(&self) -> usize {
        let fits = |bytes: usize| (BYTES_PER_SECOND as usize / bytes.max(1)).clamp(LIMITS.0, LIMITS.1);
        self.record_bytes.map_or(FIRST_LIMIT, fits)
    }

    /// Notes a read that brought so many bytes in so many records.
    pub(crate) fn note(&mut self, bytes: usize, records: usize) {
        if let Some(each) = bytes.checked_div(records) {
            self.record_bytes = Some(each);
        }
        let gap = READ_GAP.max(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND));
        self.may_read_at = Some(Instant::now() + gap);
    }

    /// Stays away for a while.
    pub(crate) fn rest(&mut self, gap: Duration) {
        self.may_read_at = Some(Instant::now() + gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_read_once_a_second_and_longer_records_less_often() {
        let mut pace = Pace::default();
        assert_eq!(pace.limit(), FIRST_LIMIT);
        let begun = Instant::now();
        pace.note(100_000, 400);
        assert_eq!(pace.limit(), 4_000, "a second's worth of records of this length");
        pace.wait().await;
        assert_eq!(begun.elapsed(), READ_GAP);
        pace.note(5_000_000, 50);
        assert_eq!(pace.limit(), LIMITS.0);
        pace.wait().await;
        assert_eq!(begun.elapsed(), READ_GAP + Duration::from_secs(5));
    }
}
