//! Fakes of the ports that record what happened and fail as told.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncBufRead;
use tokio::sync::mpsc;

use crate::csv_rows::DriverRow;
use crate::fault::{LoadFault, Remote};
use crate::load_ledger::{Committed, LoadFacts};
use crate::ports::{BucketRows, Firehose, Listing, ObjectStore, PortError, PutOutcome, Warehouse};
use crate::staged_objects;
use crate::warehouse::SchemaPlan;

/// What happens to one call.
#[derive(Debug, Clone)]
pub(crate) enum ScriptedPut {
    /// The records at these places fail.
    Fail(Vec<usize>),
    /// All is taken in, but the answer gets lost.
    LoseAnswer,
    /// All is taken in and never delivered.
    Swallow,
    /// The call panics.
    Panic,
    /// Nothing is taken in.
    Refuse(PortError),
}

/// Firehose with its bucket: every accepted record becomes an object. Calls beyond the script work.
#[derive(Clone, Default)]
pub(crate) struct ScriptedFirehose(Arc<Mutex<Delivered>>);

#[derive(Default)]
struct Delivered {
    script: VecDeque<ScriptedPut>,
    calls: Vec<Vec<Bytes>>,
    objects: BTreeMap<String, (SystemTime, Bytes)>,
}

impl ScriptedFirehose {
    pub(crate) fn new(script: impl IntoIterator<Item = ScriptedPut>) -> Self {
        let fake = Self::default();
        fake.lock().script.extend(script);
        fake
    }

    /// What each call held.
    pub(crate) fn calls(&self) -> Vec<Vec<Bytes>> {
        self.lock().calls.clone()
    }

    /// Puts an object there as if somebody else had.
    pub(crate) fn deliver(&self, content: &[u8]) {
        self.lock().deliver(Bytes::copy_from_slice(content));
    }

    fn lock(&self) -> MutexGuard<'_, Delivered> {
        self.0.lock().expect("no test panics inside")
    }
}

impl Delivered {
    fn deliver(&mut self, content: Bytes) {
        // Keys fall, so that reading on from the last key would miss objects.
        let key = format!("drivers/{:06}", 999_999 - self.objects.len());
        self.objects.insert(key, (SystemTime::now(), content));
    }
}

#[async_trait]
impl Firehose for ScriptedFirehose {
    async fn put(&self, records: &[Bytes]) -> Result<Vec<PutOutcome>, PortError> {
        self.lock().calls.push(records.to_vec());
        let step = self.lock().script.pop_front();
        if let Some(ScriptedPut::Refuse(error)) = step {
            return Err(error);
        }
        assert!(!matches!(step, Some(ScriptedPut::Panic)), "as scripted");
        if matches!(step, Some(ScriptedPut::Swallow)) {
            return Ok(vec![PutOutcome::Accepted; records.len()]);
        }
        let fails = |place| matches!(&step, Some(ScriptedPut::Fail(places)) if places.contains(&place));
        let mut delivered = self.lock();
        let mut outcomes = Vec::new();
        for (place, record) in records.iter().enumerate() {
            if fails(place) {
                outcomes.push(PutOutcome::Failed("ServiceUnavailableException".into()));
            } else {
                delivered.deliver(record.clone());
                outcomes.push(PutOutcome::Accepted);
            }
        }
        match step {
            Some(ScriptedPut::LoseAnswer) => Err(PortError::Unavailable("connection reset".into())),
            _ => Ok(outcomes),
        }
    }
}

#[async_trait]
impl ObjectStore for ScriptedFirehose {
    async fn list(&self, since: Option<SystemTime>) -> Result<Listing, PortError> {
        let delivered = self.lock();
        let of_late = |time: &SystemTime| since.is_none_or(|since| *time >= since);
        let keys = delivered.objects.iter().filter(|(_, (time, _))| of_late(time)).map(|(key, _)| key.clone()).collect();
        Ok(Listing { keys, newest: delivered.objects.values().map(|(time, _)| *time).max() })
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, PortError> {
        let (_, content) = self.lock().objects.get(key).cloned().ok_or_else(|| PortError::Refused("no such key".into()))?;
        Ok(Box::new(Cursor::new(content)))
    }

    async fn write(&self, _key: &str, _content: Vec<u8>) -> Result<(), PortError> {
        Ok(())
    }

    async fn remove(&self, _key: &str) -> Result<(), PortError> {
        Ok(())
    }

    fn url(&self, key: &str) -> String {
        format!("s3://bucket/{key}")
    }
}

/// What happens to one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScriptedCommit {
    LoseAnswer,
    FailBefore,
}

/// A warehouse in memory. Commits beyond the script work.
#[derive(Clone, Default)]
pub(crate) struct MemoryWarehouse(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    script: VecDeque<ScriptedCommit>,
    drivers: BTreeMap<String, DriverRow>,
    ledger: BTreeMap<String, Committed>,
    commits: u64,
}

impl MemoryWarehouse {
    pub(crate) fn new(script: impl IntoIterator<Item = ScriptedCommit>) -> Self {
        let fake = Self::default();
        fake.lock().script.extend(script);
        fake
    }

    /// The drivers' first names by plate.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        self.lock().drivers.iter().map(|(plate, row)| (plate.clone(), row.values[0].clone())).collect()
    }

    /// How many commits took effect.
    pub(crate) fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().expect("no test panics inside")
    }
}

#[async_trait]
impl Warehouse for MemoryWarehouse {
    async fn plan(&self) -> Result<SchemaPlan, PortError> {
        Ok(SchemaPlan::fitting())
    }

    async fn run_ddl(&self, _plan: &SchemaPlan) -> Result<(), PortError> {
        Ok(())
    }

    async fn find_load(&self, load_id: &str) -> Result<Option<Committed>, PortError> {
        Ok(self.lock().ledger.get(load_id).copied())
    }

    async fn commit_load(&self, load: &LoadFacts, rows: &BucketRows<'_>) -> Result<Committed, LoadFault> {
        let (sender, mut chunks) = mpsc::channel(1);
        let mut received = Vec::new();
        let receiving = async {
            while let Some(chunk) = chunks.recv().await {
                received.extend(chunk);
            }
        };
        let (copied, ()) = tokio::join!(staged_objects::copy_rows(rows.objects, rows.keys, &load.load_id, sender), receiving);
        copied?;
        let mut stored = self.lock();
        let step = stored.script.pop_front();
        if step == Some(ScriptedCommit::FailBefore) {
            return Err(Remote::Warehouse.fault(PortError::Unavailable("connection closed".into())));
        }
        if received.len() as u64 != load.sent {
            let counts = format!("{} rows of {}", received.len(), load.sent);
            return Err(Remote::Warehouse.fault(PortError::Refused(counts)));
        }
        if let Some(committed) = stored.ledger.get(&load.load_id) {
            return Ok(*committed);
        }
        received.sort_by_key(|row| row.line);
        let latest: BTreeMap<String, DriverRow> =
            received.into_iter().map(|row| (row.values[2].trim().to_uppercase(), row)).collect();
        let merged = latest.len() as u64;
        stored.drivers.extend(latest);
        let committed = Committed { rows: load.rows, merged, superseded: load.sent - merged, rejected: load.rejected };
        stored.ledger.insert(load.load_id.clone(), committed);
        stored.commits += 1;
        match step {
            Some(ScriptedCommit::LoseAnswer) => Err(Remote::Warehouse.fault(PortError::Unavailable("connection reset".into()))),
            _ => Ok(committed),
        }
    }
}
