//! Finds a place in a shard: the last record before a time, or before now.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::domain::{Position, ShardId};
use crate::ports::{Page, Record, ShardIterator, ShardSource, SourceError, StartAt};

/// How far before the time it looks first.
const FIRST_STEP: Duration = Duration::from_secs(10);
/// How much further each time that it found nothing: a dozen looks reach beyond the longest retention of a stream.
const STEP_FACTOR: u32 = 6;
/// A year, the longest retention that Kinesis offers.
const FURTHEST: Duration = Duration::from_secs(366 * 86_400);
/// Kinesis answers five reads a second for each shard.
const READ_PAUSE: Duration = Duration::from_millis(210);
/// Reads of one look. Should there be more to read than that, the last record found lies further back than need be, and some
/// more is done (again): two minutes, or half a million changes of a table.
const MOST_READS: usize = 600;
/// A source that does not say how far behind it is may answer with nothing before it goes on; so many such answers are its end.
const MOST_EMPTY: usize = 10;
const READ_LIMIT: usize = 10_000;

/// The place of the last record that arrived before `time`; `None` when all that the shard still holds arrived later.
///
/// # Errors
/// When the shard cannot be read.
pub(crate) async fn last_before(
    source: &dyn ShardSource,
    shard: &ShardId,
    time: SystemTime,
) -> Result<Option<Position>, SourceError> {
    search(source, shard, time, FURTHEST, &mut Bound::Time(time)).await
}

/// The place of the last record that was there when this was called; `None` when the shard held none. What arrives during the
/// search comes after it. Goes by the source's clock, never by this machine's.
///
/// # Errors
/// When the shard cannot be read.
pub(super) async fn newest(source: &dyn ShardSource, shard: &ShardId) -> Result<Option<Position>, SourceError> {
    let end = source.iterator(shard, &StartAt::Latest).await?;
    // Without a clock the whole shard is read; its records are a day old at most, since only DynamoDB streams have none.
    let (now, age) = clock(source, shard).await?.unwrap_or((SystemTime::UNIX_EPOCH, Duration::ZERO));
    search(source, shard, now, age, &mut Bound::New { end: Some(end), first: None }).await
}

/// The source's time and the age of the shard's oldest record; `None` when it holds none or does not say.
async fn clock(source: &dyn ShardSource, shard: &ShardId) -> Result<Option<(SystemTime, Duration)>, SourceError> {
    let mut iterator = source.iterator(shard, &StartAt::TrimHorizon).await?;
    for _ in 0..MOST_READS {
        let Page { records, next, millis_behind_latest } = source.read(&iterator, 1).await?;
        sleep(READ_PAUSE).await;
        if let Some(record) = records.first() {
            let age = millis_behind_latest.map(Duration::from_millis);
            return Ok(record.arrived.zip(age).and_then(|(arrived, age)| Some((arrived.checked_add(age)?, age))));
        }
        match next {
            Some(next) if millis_behind_latest.is_some_and(|millis| millis > 0) => iterator = next,
            _ => break,
        }
    }
    Ok(None)
}

/// What the record that is looked for comes before.
enum Bound {
    /// The first record that arrived at this time or later.
    Time(SystemTime),
    /// The first record from this end on, which may not be there yet.
    New { end: Option<ShardIterator>, first: Option<Position> },
}

impl Bound {
    async fn look(&mut self, source: &dyn ShardSource) -> Result<(), SourceError> {
        if let Self::New { end, first } = self
            && first.is_none()
            && let Some(iterator) = end.take()
        {
            let page = source.read(&iterator, 1).await?;
            *first = page.records.into_iter().next().map(|record| record.position);
            *end = page.next;
            sleep(READ_PAUSE).await;
        }
        Ok(())
    }

    fn is_after(&self, record: &Record) -> bool {
        match self {
            // A source that does not say when a record arrived gives no reason to leave it out.
            Self::Time(time) => record.arrived.is_some_and(|arrived| arrived < *time),
            Self::New { first, .. } => first.as_ref().is_none_or(|first| record.position < *first),
        }
    }
}

/// Steps back from `time` until a record is found, to the shard's oldest once that is further than `furthest`.
async fn search(
    source: &dyn ShardSource,
    shard: &ShardId,
    time: SystemTime,
    furthest: Duration,
    bound: &mut Bound,
) -> Result<Option<Position>, SourceError> {
    let mut step = FIRST_STEP;
    loop {
        let from = time.checked_sub(step).filter(|_| step < furthest);
        let start = from.map_or(StartAt::TrimHorizon, StartAt::Timestamp);
        let found = last_from(source, shard, &start, bound).await?;
        if found.is_some() || from.is_none() {
            return Ok(found);
        }
        step *= STEP_FACTOR;
    }
}

async fn last_from(
    source: &dyn ShardSource,
    shard: &ShardId,
    start: &StartAt,
    bound: &mut Bound,
) -> Result<Option<Position>, SourceError> {
    let (mut last, mut n_empty) = (None, 0);
    let mut iterator = source.iterator(shard, start).await?;
    for _ in 0..MOST_READS {
        let Page { records, next, millis_behind_latest } = source.read(&iterator, READ_LIMIT).await?;
        sleep(READ_PAUSE).await;
        // After the read, so that a new record in it is known for one.
        bound.look(source).await?;
        let n_before = records.iter().take_while(|record| bound.is_after(record)).count();
        if let Some(record) = records[..n_before].last() {
            last = Some(record.position.clone());
        }
        n_empty = if records.is_empty() { n_empty + 1 } else { 0 };
        let at_tip = millis_behind_latest.map_or(n_empty == MOST_EMPTY, |millis| millis == 0);
        match next {
            Some(next) if n_before == records.len() && !at_tip => iterator = next,
            _ => break,
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[tokio::test(start_paused = true)]
    async fn the_newest_record_is_found_whatever_its_age_and_whatever_the_source_says() {
        let shard = ShardId::new("shard");
        for ages in [&[][..], &[5], &[90_000, 2], &[3_600 * 30, 3_600 * 20, 3_600 * 10], &[86_400 * 300, 86_400 * 200]] {
            for has_clock in [true, false] {
                let source = ScriptedShard::new("stream", "shard");
                let now = SystemTime::now();
                let places = ages.iter().map(|age| source.push_at(&shard, "record", now - Duration::from_secs(*age)));
                let last = places.reduce(|_, later| later);
                if !has_clock {
                    source.stop_clock();
                }
                assert_eq!(newest(&source, &shard).await, Ok(last.clone()), "{ages:?}");
                source.close(&shard, &[]);
                assert_eq!(newest(&source, &shard).await, Ok(last), "{ages:?}, closed");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_backlog_is_not_read_to_find_its_newest_record() {
        let source = ScriptedShard::new("stream", "shard");
        let (shard, now) = (ShardId::new("shard"), SystemTime::now());
        let backlog =
            (0..50_000).map(|n| source.push_at(&shard, "record", now - Duration::from_millis(50_000 * 1_000 - n * 1_000)));
        let last = backlog.reduce(|_, later| later);
        assert_eq!(newest(&source, &shard).await, Ok(last));
        assert!(source.reads().len() <= 5, "{} reads", source.reads().len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_arrives_during_the_search_comes_after_it(
            n_before in 0_usize..6,
            arrivals in prop::collection::vec(0_u64..4_000, 0..60),
            has_clock: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("it builds");
            runtime.block_on(async {
                let (source, shard, now) = (ScriptedShard::new("stream", "shard"), ShardId::new("shard"), SystemTime::now());
                let before = (0..n_before).map(|n| source.push_at(&shard, "old", now - Duration::from_secs(40 - n as u64))).reduce(|_, later| later);
                if !has_clock {
                    source.stop_clock();
                }
                let mut arrivals = arrivals.clone();
                arrivals.sort_unstable();
                let arriving = async {
                    let began = tokio::time::Instant::now();
                    for arrival in arrivals {
                        tokio::time::sleep_until(began + Duration::from_millis(1 + arrival)).await;
                        source.push(format!("new after {arrival} ms"));
                    }
                };
                let (found, ()) = tokio::join!(newest(&source, &shard), arriving);
                assert_eq!(found, Ok(before));
            });
        }
    }
}
