//! A source of records that does what a test says.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::Outage;
use crate::domain::{Position, SequenceNumber, ShardId};
use crate::ports::{Page, Record, Shard, ShardIterator, ShardSource, SourceError, StartAt};

/// The fake [`ShardSource`]: one shard to begin with, more once it is closed with children. Clones share the records.
#[derive(Clone)]
pub struct ScriptedShard {
    /// How its calls fail.
    pub outage: Outage,
    stream: String,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    shards: Vec<ShardScript>,
    next_sequence: u64,
    iterator_epoch: u64,
    errors: VecDeque<SourceError>,
    opened: Vec<(ShardId, StartAt)>,
    reads: Vec<(Instant, usize)>,
    unlisted: HashSet<ShardId>,
    has_clock: bool,
}

struct ShardScript {
    shard: Shard,
    records: Vec<Record>,
    n_trimmed: usize,
    closed: bool,
}

impl ScriptedShard {
    /// A stream with one open, empty shard.
    #[must_use]
    pub fn new(stream: &str, shard: &str) -> Self {
        let hash_range = Some(("0".to_owned(), u128::MAX.to_string()));
        let first = Shard { id: ShardId::new(shard), parents: Vec::new(), hash_range };
        Self {
            outage: Outage::default(),
            stream: stream.to_owned(),
            inner: Arc::new(Mutex::new(Inner {
                shards: vec![ShardScript { shard: first, records: Vec::new(), n_trimmed: 0, closed: false }],
                next_sequence: 0,
                iterator_epoch: 0,
                errors: VecDeque::new(),
                opened: Vec::new(),
                reads: Vec::new(),
                unlisted: HashSet::new(),
                has_clock: true,
            })),
        }
    }

    /// Opens one more shard without parents.
    pub fn open(&self, shard: &str) {
        self.with(|inner| {
            let shard = Shard { id: ShardId::new(shard), parents: Vec::new(), hash_range: None };
            inner.shards.push(ShardScript { shard, records: Vec::new(), n_trimmed: 0, closed: false });
        });
    }

    /// Appends a record of any size to the first shard and returns its place.
    pub fn push(&self, data: impl Into<Bytes>) -> Position {
        let first = self.with(|inner| inner.shards[0].shard.id.clone());
        self.push_to(&first, data)
    }

    /// Appends a record to a shard.
    ///
    /// # Panics
    /// When there is no such shard, or it is closed.
    pub fn push_to(&self, shard: &ShardId, data: impl Into<Bytes>) -> Position {
        self.push_at(shard, data, SystemTime::now())
    }

    /// The same, as if it had arrived at this time.
    ///
    /// # Panics
    /// When there is no such shard, or it is closed.
    pub fn push_at(&self, shard: &ShardId, data: impl Into<Bytes>, arrived: SystemTime) -> Position {
        self.with(|inner| {
            inner.next_sequence += 1;
            // 56 digits, as Kinesis writes them.
            let sequence = format!("496{:053}", inner.next_sequence);
            let position = Position { sequence: SequenceNumber::parse(&sequence).expect("these are digits"), sub: 0 };
            let script = inner.script_mut(shard).expect("a test pushes to a shard that exists");
            assert!(!script.closed, "a test pushes to an open shard");
            script.records.push(Record { position: position.clone(), data: data.into(), arrived: Some(arrived) });
            position
        })
    }

    /// Closes a shard and opens its children. A merge closes each parent with the same child.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn close(&self, shard: &ShardId, children: &[&str]) {
        self.with(|inner| {
            inner.script_mut(shard).expect("a test closes a shard that exists").closed = true;
            for child in children {
                let id = ShardId::new(child);
                match inner.script_mut(&id) {
                    Some(script) => script.shard.parents.push(shard.clone()),
                    None => {
                        let child = Shard { id, parents: vec![shard.clone()], hash_range: None };
                        inner.shards.push(ShardScript { shard: child, records: Vec::new(), n_trimmed: 0, closed: false });
                    }
                }
            }
        });
    }

    /// Forgets the oldest records of the first shard, as a stream does after its retention.
    pub fn trim(&self, n_records: usize) {
        self.with(|inner| inner.shards[0].n_trimmed += n_records);
    }

    /// Removes a shard with all its records.
    pub fn remove(&self, shard: &ShardId) {
        self.with(|inner| inner.shards.retain(|script| script.shard.id != *shard));
    }

    /// Leaves a shard out of the list, as a stream may for a while after a shard was closed, or lists it again.
    pub fn list(&self, shard: &ShardId, listed: bool) {
        self.with(|inner| if listed { inner.unlisted.remove(shard) } else { inner.unlisted.insert(shard.clone()) });
    }

    /// Says no times any more, and opens at none, as the stream of a DynamoDB table.
    pub fn stop_clock(&self) {
        self.with(|inner| inner.has_clock = false);
    }

    /// Lets all iterators given out so far answer [`SourceError::IteratorExpired`].
    pub fn expire_iterators(&self) {
        self.with(|inner| inner.iterator_epoch += 1);
    }

    /// Lets the next reads fail with these errors, in order.
    pub fn fail_reads(&self, errors: impl IntoIterator<Item = SourceError>) {
        self.with(|inner| inner.errors.extend(errors));
    }

    /// The place of the last record of a shard.
    #[must_use]
    pub fn last_position(&self, shard: &ShardId) -> Option<Position> {
        self.with(|inner| inner.script_mut(shard).and_then(|script| script.records.last()).map(|record| record.position.clone()))
    }

    /// Where shards were opened, in order.
    #[must_use]
    pub fn opened(&self) -> Vec<(ShardId, StartAt)> {
        self.with(|inner| inner.opened.clone())
    }

    /// When reads were made and with which limits, in order.
    #[must_use]
    pub fn reads(&self) -> Vec<(Instant, usize)> {
        self.with(|inner| inner.reads.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().expect("no test goes on after a panic with the script locked"))
    }
}

impl Inner {
    fn script_mut(&mut self, shard: &ShardId) -> Option<&mut ShardScript> {
        self.shards.iter_mut().find(|script| script.shard.id == *shard)
    }

    fn open(&mut self, shard: &ShardId, from: &StartAt) -> Result<ShardIterator, SourceError> {
        self.opened.push((shard.clone(), from.clone()));
        let has_clock = self.has_clock;
        let script = self.script_mut(shard).ok_or_else(|| SourceError::Gone(shard.clone()))?;
        let first = |found: &dyn Fn(&Record) -> bool| script.records.iter().position(found).unwrap_or(script.records.len());
        let index = match from {
            StartAt::TrimHorizon => 0,
            StartAt::Latest => script.records.len(),
            StartAt::Timestamp(_) if !has_clock => 0,
            StartAt::Timestamp(time) => first(&|record| record.arrived >= Some(*time)),
            StartAt::Sequence(sequence) => first(&|record| record.position.sequence >= *sequence),
        };
        let index = index.max(script.n_trimmed);
        Ok(self.iterator(shard, index))
    }

    fn iterator(&self, shard: &ShardId, index: usize) -> ShardIterator {
        ShardIterator(format!("{}|{index}|{shard}", self.iterator_epoch))
    }

    fn read(&mut self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError> {
        self.reads.push((Instant::now(), limit));
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let mut parts = iterator.0.splitn(3, '|');
        let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("iterators are made by open");
        let (epoch, index) = (number(), number());
        let shard = ShardId::new(parts.next().expect("iterators are made by open"));
        if epoch as u64 != self.iterator_epoch {
            return Err(SourceError::IteratorExpired);
        }
        let has_clock = self.has_clock;
        let script = self.script_mut(&shard).ok_or_else(|| SourceError::Gone(shard.clone()))?;
        let index = index.max(script.n_trimmed).min(script.records.len());
        let end = script.records.len().min(index.saturating_add(limit));
        let mut records = script.records[index..end].to_vec();
        let at_end = script.closed && end == script.records.len();
        let millis_behind_latest = has_clock.then(|| script.records.get(end).map_or(0, millis_since));
        if !has_clock {
            records.iter_mut().for_each(|record| record.arrived = None);
        }
        let next = (!at_end).then(|| self.iterator(&shard, end));
        Ok(Page { records, next, millis_behind_latest })
    }
}

/// At least one, since who has not read a record yet is behind.
fn millis_since(record: &Record) -> u64 {
    let age = record.arrived.and_then(|arrived| SystemTime::now().duration_since(arrived).ok()).unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[async_trait]
impl ShardSource for ScriptedShard {
    fn stream(&self) -> &str {
        &self.stream
    }

    /// As Kinesis.
    fn most_bytes_per_second(&self) -> f64 {
        2e6
    }

    async fn shards(&self) -> Result<Vec<Shard>, SourceError> {
        let listed = |inner: &mut Inner| {
            let shards = inner.shards.iter().map(|script| &script.shard);
            shards.filter(|shard| !inner.unlisted.contains(&shard.id)).cloned().collect()
        };
        Ok(self.outage.call(|| self.with(listed)).await?)
    }

    async fn iterator(&self, shard: &ShardId, from: &StartAt) -> Result<ShardIterator, SourceError> {
        self.outage.call(|| self.with(|inner| inner.open(shard, from))).await?
    }

    async fn read(&self, iterator: &ShardIterator, limit: usize) -> Result<Page, SourceError> {
        self.outage.call(|| self.with(|inner| inner.read(iterator, limit))).await?
    }
}
