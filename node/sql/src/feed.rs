//! The records of one shard and of those that it becomes by resharding, read beside the lanes: with iterators of its own, without a
//! lease and without being a registered consumer.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use speedtrap_actors::domain::{Position, ShardId};
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::ports::{
    FailureKind, Page, Record, RemoteFailure, Shard, ShardIterator, ShardSource, SourceError, StartAt,
};
use tokio::time::{Instant, sleep};

use crate::pace::Paces;
use crate::progress::Progress;

/// Most rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8_192;
/// For throttled, slow and failed calls. The longest delay lets a throttled shard's own readers have it to themselves for a while.
const BUDGET: RetryBudget = RetryBudget {
    backoff: Backoff { first: Duration::from_secs(2), most: Duration::from_secs(16) },
    most_elapsed: Duration::from_secs(90),
};
/// For the first call of all, which somebody waits for.
const FIRST_BUDGET: RetryBudget = RetryBudget {
    backoff: Backoff { first: Duration::from_millis(500), most: Duration::from_secs(2) },
    most_elapsed: Duration::from_secs(5),
};

/// A stream, and what all its readers share.
pub(crate) struct Readable {
    pub(crate) source: Arc<dyn ShardSource>,
    pub(crate) paces: Paces,
    pub(crate) progress: Arc<Progress>,
}

/// The shards that one scan reads or has read, so that none is read twice.
#[derive(Debug, Default)]
pub(crate) struct Claimed(Mutex<HashSet<ShardId>>);

/// The records of a shard and of its descendants.
pub(crate) struct Feed {
    stream: Arc<Readable>,
    claimed: Arc<Claimed>,
    readers: VecDeque<Reader>,
}

/// One shard that is read.
struct Reader {
    shard: ShardId,
    start: StartAt,
    place: Place,
    last: Option<Position>,
    /// What was read and not given out yet.
    records: VecDeque<Record>,
    /// Everything that arrived before this time was read.
    passed: SystemTime,
}

/// Where a shard is read on.
enum Place {
    Unopened,
    At(ShardIterator),
    /// It was closed, and everything of it was read; or it is gone.
    Ended,
}

/// What was read of a shard.
pub(crate) struct Portion {
    pub(crate) shard: ShardId,
    pub(crate) records: Vec<Record>,
}

impl Claimed {
    /// Those of the shards that nobody reads yet; from now on the caller does.
    pub(crate) fn claim(&self, shards: impl IntoIterator<Item = Shard>) -> Vec<Shard> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shards.into_iter().filter(|shard| claimed.insert(shard.id.clone())).collect()
    }
}

impl Readable {
    /// Every shard that holds records, closed ones and their children alike.
    ///
    /// # Errors
    /// When the stream cannot be reached, or is none.
    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        patiently(FIRST_BUDGET, &self.progress, || self.source.shards()).await
    }

    /// The children of a shard that nobody reads yet.
    async fn children(&self, claimed: &Claimed, parent: &ShardId) -> Result<Vec<Shard>, SourceError> {
        let shards = patiently(BUDGET, &self.progress, || self.source.shards()).await?;
        Ok(claimed.claim(shards.into_iter().filter(|shard| shard.parents.contains(parent))))
    }
}

impl Feed {
    /// Reads a shard from a place on.
    pub(crate) fn new(stream: Arc<Readable>, claimed: Arc<Claimed>, shard: ShardId, start: StartAt) -> Self {
        Self { stream, claimed, readers: VecDeque::from([Reader::new(shard, start)]) }
    }

    /// The next records that arrived before `end`, of one shard and in order; `None` when there will be none any more: a record of
    /// `end` or later was read, or there was nothing left when it was `grace` past `end`. What was read beyond it waits for the next
    /// call.
    ///
    /// It may be dropped while it waits: nothing that was read is lost.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub(crate) async fn next(&mut self, end: SystemTime, grace: Duration) -> Result<Option<Portion>, SourceError> {
        loop {
            if let Some(portion) = self.readers.iter_mut().find_map(|reader| reader.due(end)) {
                return Ok(Some(portion));
            }
            let is_behind = |reader: &Reader| reader.records.is_empty() && reader.passed < end;
            let Some(n) = self.readers.iter().position(is_behind) else { return Ok(None) };
            // The shards of a feed take turns.
            self.readers.rotate_left(n);
            let Some(reader) = self.readers.front_mut() else { return Ok(None) };
            if matches!(reader.place, Place::Ended) {
                let children = self.stream.children(&self.claimed, &reader.shard).await?;
                self.readers.pop_front();
                self.readers.extend(children.into_iter().map(|child| Reader::new(child.id, StartAt::TrimHorizon)));
            } else {
                reader.read(&self.stream, grace).await?;
                self.readers.rotate_left(1);
            }
        }
    }
}

impl Reader {
    fn new(shard: ShardId, start: StartAt) -> Self {
        let passed = SystemTime::UNIX_EPOCH;
        Self { shard, start, place: Place::Unopened, last: None, records: VecDeque::new(), passed }
    }

    fn due(&mut self, end: SystemTime) -> Option<Portion> {
        let is_due = |record: &&Record| record.arrived.is_none_or(|at| at < end);
        let n_due = self.records.iter().take(BATCH_ROWS).take_while(is_due).count();
        (n_due > 0).then(|| Portion { shard: self.shard.clone(), records: self.records.drain(..n_due).collect() })
    }

    async fn read(&mut self, stream: &Readable, grace: Duration) -> Result<(), SourceError> {
        let pace = stream.paces.of(&self.shard);
        let mut pace = pace.lock().await;
        pace.wait().await;
        let asked = SystemTime::now();
        let answer = match &self.place {
            Place::Ended => return Ok(()),
            Place::Unopened => {
                let from = self.last.as_ref().map_or(self.start.clone(), |last| StartAt::Sequence(last.sequence.clone()));
                let opened = patiently(BUDGET, &stream.progress, || stream.source.iterator(&self.shard, &from)).await;
                opened.map(|iterator| self.place = Place::At(iterator)).map(|()| None)
            }
            Place::At(iterator) => {
                let limit = pace.limit();
                patiently(BUDGET, &stream.progress, || stream.source.read(iterator, limit)).await.map(Some)
            }
        };
        match answer {
            Ok(None) => {}
            Ok(Some(page)) => {
                pace.note(page.records.iter().map(|record| record.data.len()).sum(), page.records.len());
                stream.progress.read(&self.shard, page.records.len(), page.millis_behind_latest);
                self.take(page, asked, grace);
            }
            Err(SourceError::IteratorExpired) => {
                self.place = Place::Unopened;
                // A shard that is opened again and again is read no less often for that.
                pace.rest(Duration::from_secs(1));
            }
            Err(SourceError::Gone(shard)) => {
                stream.progress.gone(&shard);
                self.place = Place::Ended;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take(&mut self, page: Page, asked: SystemTime, grace: Duration) {
        let at_tip = page.millis_behind_latest.map_or(page.records.is_empty(), |behind| behind == 0);
        let last = self.last.take();
        // After an expired iterator the shard is opened at the last record, which was given out already.
        let is_new = |record: &Record| last.as_ref().is_none_or(|last| record.position > *last);
        self.records = page.records.into_iter().filter(is_new).collect();
        self.last = self.records.back().map(|record| record.position.clone()).or(last);
        match page.next {
            Some(iterator) => {
                self.place = Place::At(iterator);
                if at_tip {
                    self.passed = asked.checked_sub(grace).unwrap_or(self.passed);
                }
            }
            // Its children may hold records of the same time.
            None => self.place = Place::Ended,
        }
    }
}

/// Tries a call again within a budget, as long as it fails for reasons that pass.
async fn patiently<T, F>(budget: RetryBudget, progress: &Progress, mut call: impl FnMut() -> F) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let begun = Instant::now();
    for n in 0.. {
        let failure = match call().await {
            Err(SourceError::Remote(failure)) if failure.kind != FailureKind::Refused => failure,
            answer => return answer,
        };
        progress.failed(&failure);
        match budget.next_delay(n, begun.elapsed(), rand::random()) {
            Some(delay) => sleep(delay).await,
            None => return Err(SourceError::Remote(failure)),
        }
    }
    let detail = "it was tried too often".to_owned();
    Err(SourceError::Remote(RemoteFailure { call: "kinesis", kind: FailureKind::TimedOut, detail }))
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::testing::ScriptedShard;

    use super::*;

    const FIRST: &str = "shardId-000000000000";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn feed(source: &ScriptedShard) -> Feed {
        let stream =
            Readable { source: Arc::new(source.clone()), paces: Paces::default(), progress: Arc::new(Progress::quiet()) };
        let claimed = Arc::new(Claimed::default());
        let first = Shard { id: ShardId::new(FIRST), parents: Vec::new(), hash_range: None };
        assert_eq!(claimed.claim([first]).len(), 1);
        Feed::new(Arc::new(stream), claimed, ShardId::new(FIRST), StartAt::TrimHorizon)
    }

    async fn all(feed: &mut Feed, end: SystemTime) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(portion) = feed.next(end, Duration::ZERO).await.expect("it reads") {
            assert!(!portion.records.is_empty() && portion.records.len() <= BATCH_ROWS);
            found.extend(portion.records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()));
        }
        found
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_is_passed_at_a_later_record_and_what_was_read_beyond_it_is_kept() {
        let source = ScriptedShard::new("stream", FIRST);
        for n in 0..4 {
            source.push_at(&ShardId::new(FIRST), format!("{n}"), at(n * 10));
        }
        let mut feed = feed(&source);
        assert_eq!(all(&mut feed, at(20)).await, ["0", "1"]);
        let reads = source.reads().len();
        assert_eq!(all(&mut feed, at(31)).await, ["2", "3"]);
        assert_eq!(source.reads().len(), reads, "nothing is read twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_is_read_at_its_pace_and_to_its_tip() {
        let source = ScriptedShard::new("stream", FIRST);
        for n in 0..1_200 {
            source.push_at(&ShardId::new(FIRST), format!("{n}"), at(1));
        }
        assert_eq!(all(&mut feed(&source), SystemTime::now()).await.len(), 1_200);
        let reads = source.reads();
        assert!(reads.windows(2).all(|pair| pair[1].0 - pair[0].0 >= Duration::from_secs(1)), "{reads:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_iterator_is_replaced_after_the_last_record_and_throttling_waits() {
        let source = ScriptedShard::new("stream", FIRST);
        for n in 0..600 {
            source.push_at(&ShardId::new(FIRST), format!("{n}"), at(n));
        }
        let mut feed = feed(&source);
        assert_eq!(feed.next(at(10_000), Duration::ZERO).await.expect("read").map(|portion| portion.records.len()), Some(500));
        source.expire_iterators();
        let throttled = RemoteFailure { call: "kinesis GetRecords", kind: FailureKind::Throttled, detail: String::new() };
        source.fail_reads([SourceError::Remote(throttled.clone()), SourceError::Remote(throttled)]);
        let begun = Instant::now();
        let rest = all(&mut feed, at(10_000)).await;
        assert_eq!((rest.len(), rest[0].as_str()), (100, "500"), "the record at which it was opened again is not told twice");
        assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_shard_is_followed_by_its_children_and_each_child_is_read_once() {
        let source = ScriptedShard::new("stream", FIRST);
        let first = ShardId::new(FIRST);
        source.push_at(&first, "parent", at(0));
        source.close(&first, &["left", "right"]);
        for (n, child) in ["left", "right"].into_iter().enumerate() {
            source.push_at(&ShardId::new(child), child, at(1 + n as u64));
        }
        let mut feed = feed(&source);
        assert_eq!(all(&mut feed, SystemTime::now()).await, ["parent", "left", "right"]);
        assert!(feed.claimed.claim(source.shards().await.expect("listed")).is_empty());
        // Both children stay open, and neither keeps the other from being read.
        for child in ["left", "right"] {
            source.push_to(&ShardId::new(child), child);
        }
        let mut found = all(&mut feed, SystemTime::now()).await;
        found.sort();
        assert_eq!(found, ["left", "right"]);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_end_it_at_once_and_an_outage_after_its_budget() {
        let source = ScriptedShard::new("stream", FIRST);
        let failure = |kind| RemoteFailure { call: "kinesis GetRecords", kind, detail: String::new() };
        source.fail_reads([SourceError::Remote(failure(FailureKind::Refused))]);
        let begun = Instant::now();
        assert!(feed(&source).next(SystemTime::now(), Duration::ZERO).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        source.fail_reads((0..100).map(|_| SourceError::Remote(failure(FailureKind::Unreachable))));
        assert!(feed(&source).next(SystemTime::now(), Duration::ZERO).await.is_err());
        assert!(begun.elapsed() <= BUDGET.most_elapsed + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
