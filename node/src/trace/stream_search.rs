//! Looking for records on a stream without getting in the way of those who live on it.
//!
//! A shard answers 5 reads a second and 2 MB a second to all its readers together
//! (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>), and its lane reads it all the time. So a search
//! takes at most one read a second and 400 kB a second of a shard: a fifth.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use speedtrap_actors::domain::{Position, ShardId};
use speedtrap_actors::ports::{Record, Shard, ShardSource, SourceError, StartAt};
use tokio::time::{Instant, sleep_until};

use super::look::Look;

const READ_GAP: Duration = Duration::from_secs(1);
const BYTES_PER_SECOND: f64 = 400_000.0;
/// Records of the first read of a shard, before the length of its records is known.
const FIRST_LIMIT: usize = 500;
/// Records of one read, at most and at least.
const LIMITS: (usize, usize) = (50, 10_000);

/// A record that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) stream: String,
    pub(super) shard: ShardId,
    pub(super) position: Position,
    pub(super) arrived: Option<SystemTime>,
    pub(super) data: Vec<u8>,
    /// Whether the shard is not the one that the plate leads to.
    pub(super) strayed: bool,
}

/// From when to when a record may have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: SystemTime,
    pub(super) to: SystemTime,
}

/// What was looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) reads: u32,
    pub(super) records: u64,
    /// Whether the search ended because it had read enough.
    pub(super) cut: bool,
}

/// Searches one stream, with a number of reads that all its searches share.
pub(super) struct StreamSearch<'a> {
    source: &'a dyn ShardSource,
    pub(super) most_reads: u32,
    pub(super) effort: Effort,
    may_read_at: HashMap<ShardId, Instant>,
    record_bytes: Option<usize>,
    progress: &'a dyn Fn(&str),
}

impl<'a> StreamSearch<'a> {
    pub(super) fn new(source: &'a dyn ShardSource, most_reads: u32, progress: &'a dyn Fn(&str)) -> Self {
        Self { source, most_reads, effort: Effort::default(), may_read_at: HashMap::new(), record_bytes: None, progress }
    }

    /// Reads the record at a place that is known.
    pub(super) async fn at(&mut self, shard: &ShardId, position: &Position) -> Look<Hit> {
        let start = StartAt::Sequence(position.sequence.clone());
        let page = match self.read(shard, &start).await {
            Ok(records) => records,
            Err(error) => return error.into(),
        };
        match page.into_iter().find(|record| record.position == *position) {
            Some(record) => Look::Found(self.hit(shard, record, false)),
            // A number that is trimmed already starts at the oldest record.
            None => Look::Expired(format!("it is not on {} any more", self.source.stream())),
        }
    }

    /// Finds the first record of a span that is wanted; with `all`, all of them.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub(super) async fn find(
        &mut self,
        plate: Option<&str>,
        span: Span,
        all: bool,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Vec<Hit>, SourceError> {
        let mut shards = self.source.shards().await?;
        let leads_to = |shard: &Shard| plate.is_some_and(|plate| shard.takes(plate));
        // The plate's own shards first, parents and children of a reshard alike; a record that was put under another key is in
        // one of the others.
        shards.sort_by_key(|shard| !leads_to(shard));
        let mut hits = Vec::new();
        for shard in &shards {
            let strayed = plate.is_some() && !leads_to(shard);
            if !hits.is_empty() && (strayed || !all) {
                break;
            }
            for record in self.span(&shard.id, span, all, &wanted).await? {
                hits.push(self.hit(&shard.id, record, strayed));
            }
            if self.effort.cut {
                break;
            }
        }
        Ok(hits)
    }

    async fn span(
        &mut self,
        shard: &ShardId,
        span: Span,
        all: bool,
        wanted: &impl Fn(&Record) -> bool,
    ) -> Result<Vec<Record>, SourceError> {
        let mut hits = Vec::new();
        let mut iterator = Some(self.source.iterator(shard, &StartAt::Timestamp(span.from)).await?);
        while let Some(at) = iterator {
            if self.effort.reads >= self.most_reads {
                self.effort.cut = true;
                break;
            }
            let limit = self.limit();
            self.wait(shard).await;
            let page = self.source.read(&at, limit).await?;
            self.note(shard, &page.records);
            let caught_up = page.millis_behind_latest.map_or(page.records.is_empty(), |millis| millis == 0);
            let passed = page.records.iter().any(|record| record.arrived.is_some_and(|arrived| arrived > span.to));
            hits.extend(
                page.records
                    .into_iter()
                    .filter(|record| record.arrived.is_none_or(|arrived| arrived <= span.to) && wanted(record)),
            );
            if passed || caught_up || (!all && !hits.is_empty()) {
                break;
            }
            iterator = page.next;
        }
        if !all {
            hits.truncate(1);
        }
        Ok(hits)
    }

    async fn read(&mut self, shard: &ShardId, start: &StartAt) -> Result<Vec<Record>, SourceError> {
        let iterator = self.source.iterator(shard, start).await?;
        self.wait(shard).await;
        let page = self.source.read(&iterator, 1).await?;
        self.note(shard, &page.records);
        Ok(page.records)
    }

    fn hit(&self, shard: &ShardId, record: Record, strayed: bool) -> Hit {
        let Record { position, data, arrived } = record;
        Hit { stream: self.source.stream().to_owned(), shard: shard.clone(), position, arrived, data: data.to_vec(), strayed }
    }

    fn limit(&self) -> usize {
        let fits = |bytes: usize| (BYTES_PER_SECOND as usize / bytes.max(1)).clamp(LIMITS.0, LIMITS.1);
        self.record_bytes.map_or(FIRST_LIMIT, fits)
    }

    async fn wait(&self, shard: &ShardId) {
        if let Some(at) = self.may_read_at.get(shard) {
            sleep_until(*at).await;
        }
    }

    fn note(&mut self, shard: &ShardId, records: &[Record]) {
        let bytes: usize = records.iter().map(|record| record.data.len()).sum();
        if let Some(each) = bytes.checked_div(records.len()) {
            self.record_bytes = Some(each);
        }
        let gap = READ_GAP.max(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND));
        self.may_read_at.insert(shard.clone(), Instant::now() + gap);
        self.effort.reads += 1;
        self.effort.records += records.len() as u64;
        let Effort { reads, records, .. } = self.effort;
        (self.progress)(&format!("{}: {reads} reads, {records} records, at {shard}", self.source.stream()));
    }
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::testing::ScriptedShard;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_search_reads_a_shard_once_a_second_and_stops_when_it_has_read_enough() {
        let source = ScriptedShard::new("stream", "shardId-000000000000");
        for n in 0..1_700 {
            source.push(format!("{n}"));
        }
        let span = Span { from: SystemTime::UNIX_EPOCH, to: SystemTime::now() + Duration::from_secs(60) };
        let quiet = |_: &str| ();
        let mut search = StreamSearch::new(&source, 100, &quiet);
        let began = Instant::now();
        let hits = search.find(None, span, false, |record| &record.data[..] == b"1699").await.expect("read");
        assert_eq!(hits.len(), 1);
        assert!(search.effort.reads >= 2 && began.elapsed() >= READ_GAP * (search.effort.reads - 1), "{:?}", search.effort);
        let found = search.at(&hits[0].shard, &hits[0].position).await;
        assert_eq!(found.found().map(|hit| &hit.data[..]), Some(&b"1699"[..]));

        let mut short = StreamSearch::new(&source, 1, &quiet);
        assert!(short.find(None, span, false, |record| &record.data[..] == b"1699").await.expect("read").is_empty());
        assert_eq!((short.effort.reads, short.effort.cut), (1, true), "it says that it did not see everything");
    }
}
