//! A stream as a table: all that it holds up to the beginning of the statement, or one window after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use speedtrap_actors::ports::{Record, Shard, SourceError, StartAt};
use speedtrap_node::{Exit, Stop, remote_stop};

use crate::bounds::Span;
use crate::columns::{Column, Rows};
use crate::events::{Content, look_inside, push_record, system_time};
use crate::feed::{Claimed, Feed, Readable};
use crate::tables::{Part, Source};
use crate::veil::Veil;
use crate::window::Window;

/// Records show in a shard soon after they were given their time of arrival, but not at that instant.
const GRACE: Duration = Duration::from_secs(2);

/// The table of one stream.
pub(crate) struct StreamTable {
    name: &'static str,
    readable: Arc<Readable>,
    content: Content,
    veil: Arc<Veil>,
    /// Where the stream is: named in messages.
    place: String,
    rows_of: RowsOf,
}

/// Which rows a scan gives.
enum RowsOf {
    /// Those of records that arrived before this time.
    Past(SystemTime),
    /// Those of the window at hand.
    Windows(Mutex<Standing>),
}

/// Feeds that are read on from window to window.
struct Standing {
    window: Window,
    claimed: Arc<Claimed>,
    feeds: Vec<SharedFeed>,
}

type SharedFeed = Arc<tokio::sync::Mutex<Feed>>;

/// What becomes of the records of one feed.
#[derive(Clone)]
struct Reading {
    feed: SharedFeed,
    /// Records of before it came late.
    start: Option<SystemTime>,
    end: SystemTime,
    grace: Duration,
    columns: Arc<[Column]>,
    content: Content,
    readable: Arc<Readable>,
    veil: Arc<Veil>,
    place: String,
}

impl StreamTable {
    /// The table of what arrived before a time.
    pub(crate) fn past(
        name: &'static str,
        readable: Arc<Readable>,
        content: Content,
        veil: &Arc<Veil>,
        place: &str,
        until: SystemTime,
    ) -> Self {
        Self { name, readable, content, veil: Arc::clone(veil), place: place.to_owned(), rows_of: RowsOf::Past(until) }
    }

    /// The table of one window after the other; this is the first one.
    pub(crate) fn in_windows(
        name: &'static str,
        readable: Arc<Readable>,
        content: Content,
        veil: &Arc<Veil>,
        place: &str,
        first: Window,
    ) -> Self {
        let standing = Standing { window: first, claimed: Arc::default(), feeds: Vec::new() };
        let rows_of = RowsOf::Windows(Mutex::new(standing));
        Self { name, readable, content, veil: Arc::clone(veil), place: place.to_owned(), rows_of }
    }

    /// Reads what the statement left of the window, and goes on to the next one.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub(crate) async fn close_window(&self) -> Result<(), Stop> {
        let RowsOf::Windows(standing) = &self.rows_of else { return Ok(()) };
        let (feeds, window) = {
            let standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
            (standing.feeds.clone(), standing.window)
        };
        try_join_all(feeds.iter().map(|feed| async move {
            let mut feed = feed.lock().await;
            while let Some(portion) = feed.next(window.end, GRACE).await? {
                let is_late = |record: &&Record| record.arrived.is_some_and(|arrived| arrived < window.start);
                let n_late = portion.records.iter().filter(is_late).count() as u64;
                self.readable.progress.in_window(portion.records.len() as u64 - n_late, n_late);
            }
            Ok(())
        }))
        .await
        .map_err(|error| cannot_read(self.readable.source.stream(), error, &self.place))?;
        standing.lock().unwrap_or_else(PoisonError::into_inner).window = window.next();
        Ok(())
    }

    fn reading(&self, feed: SharedFeed, start: Option<SystemTime>, end: SystemTime, columns: &Arc<[Column]>) -> Part {
        let reading = Reading {
            feed,
            start,
            end,
            grace: if start.is_some() { GRACE } else { Duration::ZERO },
            columns: Arc::clone(columns),
            content: self.content,
            readable: Arc::clone(&self.readable),
            veil: Arc::clone(&self.veil),
            place: self.place.clone(),
        };
        Box::new(move || reading.clone().batches())
    }

    fn feed(&self, claimed: &Arc<Claimed>, shard: Shard, start: StartAt) -> SharedFeed {
        Arc::new(tokio::sync::Mutex::new(Feed::new(Arc::clone(&self.readable), Arc::clone(claimed), shard.id, start)))
    }
}

#[async_trait]
impl Source for StreamTable {
    async fn parts(&self, columns: &[Column], span: Span) -> Result<Vec<Part>, Stop> {
        let columns = Arc::from(columns);
        let shards = self.readable.shards().await;
        let shards = shards.map_err(|error| cannot_read(self.readable.source.stream(), error, &self.place))?;
        match &self.rows_of {
            RowsOf::Past(until) => {
                let end = span.to.map_or(*until, |to| system_time(to.saturating_add(1)).min(*until));
                let start = match span.from.map(system_time) {
                    Some(from) if from >= end => return Ok(Vec::new()),
                    Some(from) => StartAt::Timestamp(from),
                    None => {
                        let advice = "WHERE arrived > now() - interval '15 minutes' reads less";
                        self.readable
                            .progress
                            .note(&format!("nothing limits `arrived` of {}, so the whole stream is read; {advice}", self.name));
                        StartAt::TrimHorizon
                    }
                };
                let claimed = Arc::new(Claimed::default());
                let feeds = claimed.claim(shards).into_iter().map(|shard| self.feed(&claimed, shard, start.clone()));
                Ok(feeds.map(|feed| self.reading(feed, None, end, &columns)).collect())
            }
            RowsOf::Windows(standing) => {
                let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
                let Standing { window, claimed, .. } = &*standing;
                let (window, claimed) = (*window, Arc::clone(claimed));
                let start = StartAt::Timestamp(window.start);
                let new = claimed.claim(shards).into_iter().map(|shard| self.feed(&claimed, shard, start.clone()));
                standing.feeds.extend(new);
                let feeds = standing.feeds.iter().cloned();
                Ok(feeds.map(|feed| self.reading(feed, Some(window.start), window.end, &columns)).collect())
            }
        }
    }
}

impl Reading {
    fn batches(self) -> BoxStream<'static, Result<RecordBatch, Stop>> {
        let stream = self.readable.source.stream().to_owned();
        let place = self.place.clone();
        stream::try_unfold(self, |reading| async move {
            let batch = reading.batch().await?;
            Ok(batch.map(|batch| (batch, reading)))
        })
        .map_err(move |error| cannot_read(&stream, error, &place))
        .boxed()
    }

    async fn batch(&self) -> Result<Option<RecordBatch>, SourceError> {
        let mut feed = self.feed.lock().await;
        while let Some(portion) = feed.next(self.end, self.grace).await? {
            let content = look_inside(&self.columns).then_some(self.content);
            let mut rows = Rows::new(&self.columns);
            let (mut n_bad, mut n_late) = (0, 0);
            for record in &portion.records {
                if self.start.is_some_and(|start| record.arrived.is_some_and(|arrived| arrived < start)) {
                    n_late += 1;
                } else if !push_record(&mut rows, record, &portion.shard, content, &self.veil) {
                    n_bad += 1;
                }
            }
            self.readable.progress.bad(n_bad);
            self.readable.progress.in_window(rows.len() as u64, n_late);
            if rows.len() > 0 {
                return Ok(Some(rows.finish()));
            }
        }
        Ok(None)
    }
}

fn cannot_read(stream: &str, error: SourceError, place: &str) -> Stop {
    let what = format!("stream `{stream}` cannot be read");
    match error {
        SourceError::Remote(failure) => remote_stop(&what, &failure, place),
        error => Stop::new(Exit::Failed, what).why(error),
    }
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::domain::ShardId;
    use speedtrap_actors::testing::ScriptedShard;

    use super::*;
    use crate::events::nanoseconds;
    use crate::pace::Paces;
    use crate::progress::Progress;

    const FIRST: &str = "shardId-000000000000";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn readable(source: &ScriptedShard) -> Arc<Readable> {
        let progress = Arc::new(Progress::quiet());
        Arc::new(Readable { source: Arc::new(source.clone()), paces: Paces::default(), progress })
    }

    async fn count(table: &StreamTable, span: Span) -> usize {
        let parts = table.parts(&[Column::Sequence], span).await.expect("planned");
        let batches = parts.iter().map(|part| part().try_collect::<Vec<_>>());
        let batches = try_join_all(batches).await.expect("read");
        batches.iter().flatten().map(RecordBatch::num_rows).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn each_record_is_in_its_window_or_counted_as_late() {
        let source = ScriptedShard::new("stream", FIRST);
        for seconds in [1, 9, 12, 3, 19, 31, 32] {
            source.push_at(&ShardId::new(FIRST), "x", at(seconds));
        }
        let readable = readable(&source);
        let progress = Arc::clone(&readable.progress);
        let mut window = Window::around(at(0), Duration::from_secs(10));
        let table = StreamTable::in_windows("readings", readable, Content::Readings, &Arc::default(), "here", window);
        for (rows, late) in [(2, 0), (2, 1), (0, 0), (2, 0), (0, 0)] {
            progress.begin(window);
            assert_eq!(count(&table, Span::default()).await, rows, "{window}");
            table.close_window().await.expect("closed");
            assert_eq!(progress.of_window(), (rows as u64, late), "{window}");
            window = window.next();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_statement_does_not_want_of_a_window_is_not_late_in_the_next() {
        let source = ScriptedShard::new("stream", FIRST);
        for seconds in [1, 2, 12] {
            source.push_at(&ShardId::new(FIRST), "x", at(seconds));
        }
        let readable = readable(&source);
        let progress = Arc::clone(&readable.progress);
        let window = Window::around(at(0), Duration::from_secs(10));
        let table = StreamTable::in_windows("readings", readable, Content::Readings, &Arc::default(), "here", window);
        progress.begin(window);
        drop(table.parts(&[], Span::default()).await.expect("planned"));
        table.close_window().await.expect("closed");
        assert_eq!(progress.of_window(), (2, 0));
        progress.begin(window.next());
        assert_eq!(count(&table, Span::default()).await, 1);
        assert_eq!(progress.of_window(), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn children_of_a_reshard_are_read_in_the_window_in_which_they_began() {
        let source = ScriptedShard::new("stream", FIRST);
        let first = ShardId::new(FIRST);
        source.push_at(&first, "x", at(1));
        source.push_at(&first, "x", at(11));
        source.close(&first, &["left", "right"]);
        for (child, seconds) in [("left", 12), ("left", 22), ("right", 13), ("right", 14)] {
            source.push_at(&ShardId::new(child), "x", at(seconds));
        }
        let is_listed = |listed| ["left", "right"].iter().for_each(|child| source.list(&ShardId::new(child), listed));
        is_listed(false);
        let mut window = Window::around(at(0), Duration::from_secs(10));
        let table = StreamTable::in_windows("readings", readable(&source), Content::Readings, &Arc::default(), "here", window);
        for rows in [1, 4, 1] {
            assert_eq!(count(&table, Span::default()).await, rows, "{window}");
            table.close_window().await.expect("closed");
            window = window.next();
            is_listed(true);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_on_the_time_of_arrival_is_where_reading_begins_and_ends() {
        let source = ScriptedShard::new("stream", FIRST);
        for seconds in 0..10 {
            source.push_at(&ShardId::new(FIRST), "x", at(seconds));
        }
        let until = at(8);
        let table = StreamTable::past("readings", readable(&source), Content::Readings, &Arc::default(), "here", until);
        let span = |from, to| Span { from: nanoseconds(from), to: nanoseconds(to) };
        assert_eq!(count(&table, Span::default()).await, 8, "what came after the statement began is left out");
        assert_eq!(count(&table, span(at(3), at(5))).await, 3);
        assert_eq!(count(&table, span(at(3), at(100))).await, 5);
        assert_eq!(count(&table, span(at(8), at(100))).await, 0);
        let starts: Vec<_> = source.opened().into_iter().map(|(_, start)| start).collect();
        let expected = [StartAt::TrimHorizon, StartAt::Timestamp(at(3)), StartAt::Timestamp(at(3))];
        assert_eq!(starts, expected, "and what cannot be there is not looked for");
    }
}
