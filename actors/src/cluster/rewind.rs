//! Finds the last record of a shard that arrived before a time.

use std::time::{Duration, SystemTime};

use crate::domain::{Position, ShardId};
use crate::ports::{Page, ShardSource, SourceError, StartAt};

/// How far before the time it looks first.
const FIRST_STEP: Duration = Duration::from_secs(10);
/// How much further each time that it found nothing: a dozen looks reach beyond the longest retention of a stream.
const STEP_FACTOR: u32 = 6;
/// A year, the longest retention that Kinesis offers.
const FURTHEST: Duration = Duration::from_secs(366 * 86_400);
/// Kinesis answers five reads a second for each shard.
const READ_PAUSE: Duration = Duration::from_millis(210);
/// Reads of one look. Should there be more to read than that, the last record found lies further back than need be, and some
/// more is done again.
const MOST_READS: usize = 64;
const READ_LIMIT: usize = 10_000;

/// The place of the last record that arrived before `time`; `None` when all that the shard still holds arrived later.
///
/// # Errors
/// When the shard cannot be read.
pub(super) async fn last_before(
    source: &dyn ShardSource,
    shard: &ShardId,
    time: SystemTime,
) -> Result<Option<Position>, SourceError> {
    let mut step = FIRST_STEP;
    loop {
        let from = time.checked_sub(step).filter(|_| step < FURTHEST);
        let start = from.map_or(StartAt::TrimHorizon, StartAt::Timestamp);
        let found = last_between(source, shard, &start, time).await?;
        if found.is_some() || from.is_none() {
            return Ok(found);
        }
        step *= STEP_FACTOR;
    }
}

async fn last_between(
    source: &dyn ShardSource,
    shard: &ShardId,
    start: &StartAt,
    time: SystemTime,
) -> Result<Option<Position>, SourceError> {
    let mut last = None;
    let mut iterator = source.iterator(shard, start).await?;
    for _ in 0..MOST_READS {
        let Page { records, next, millis_behind_latest } = source.read(&iterator, READ_LIMIT).await?;
        // A source that does not say when a record arrived gives no reason to leave it out.
        let n_before = records.iter().take_while(|record| record.arrived.is_some_and(|arrived| arrived < time)).count();
        if let Some(record) = records[..n_before].last() {
            last = Some(record.position.clone());
        }
        let at_tip = records.is_empty() && millis_behind_latest == Some(0);
        match next {
            Some(next) if n_before == records.len() && !at_tip => iterator = next,
            _ => break,
        }
        tokio::time::sleep(READ_PAUSE).await;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ScriptedShard;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn the_last_record_before_a_time_is_found_however_far_back() {
        let source = ScriptedShard::new("stream", "shard");
        let shard = ShardId::new("shard");
        let now = SystemTime::now();
        let ago = |age: Duration| now - age;
        assert_eq!(last_before(&source, &shard, ago(Duration::ZERO)).await, Ok(None), "an empty shard has none");
        let old = source.push_at(&shard, "old", ago(DAY * 3));
        let first = source.push_at(&shard, "first", ago(Duration::from_secs(125)));
        let second = source.push_at(&shard, "second", ago(Duration::from_secs(121)));
        source.push_at(&shard, "third", ago(Duration::from_secs(119)));
        assert_eq!(last_before(&source, &shard, ago(Duration::from_secs(120))).await, Ok(Some(second.clone())));
        assert_eq!(last_before(&source, &shard, ago(Duration::from_secs(121))).await, Ok(Some(first)), "before, not at");
        assert_eq!(last_before(&source, &shard, ago(DAY)).await, Ok(Some(old)), "far back");
        assert_eq!(last_before(&source, &shard, ago(DAY * 4)).await, Ok(None));
        source.trim(3);
        assert_eq!(last_before(&source, &shard, ago(Duration::from_secs(120))).await, Ok(None), "trimmed records are gone");
    }
}
