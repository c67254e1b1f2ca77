//! How far a load has come; shared by its actors and whoever shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::csv_rows::Reject;
use crate::fault::Remote;
use crate::finding::Finding;
use crate::journal::{Sample, Waiting};

/// Rejected rows that are remembered to be shown; the quarantine has all.
const MOST_REJECTED_SHOWN: usize = 100;

/// What a load is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Ledger and bucket are asked what is there already.
    #[default]
    Looking,
    /// Rows go to Firehose.
    Sending,
    /// All rows are sent; they are awaited in the bucket.
    Staging,
    /// All rows are in the bucket and go into the warehouse.
    Committing,
    /// The warehouse has them; a node is told.
    Telling,
}

/// Row counts of the present try. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    read_bytes: AtomicU64,
    read: AtomicU64,
    known: AtomicU64,
    sent: AtomicU64,
    staged: AtomicU64,
    objects: AtomicU64,
    merged: AtomicU64,
    rejected: AtomicU64,
    restarts: AtomicU64,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    stage: Stage,
    waits: Vec<Waiting>,
    /// The first ones by line; a restart finds the same again.
    rejected: BTreeMap<u64, RejectedPlace>,
}

/// Where a rejected row stands and why it was rejected, without anything of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RejectedPlace {
    pub(crate) line: u64,
    pub(crate) column: Option<String>,
    pub(crate) reason: &'static str,
    /// Nothing of a row that the warehouse refused: its words may quote the value.
    pub(crate) detail: Option<String>,
}

/// What a terminal shows beside a [`Sample`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) merged: u64,
}

impl Progress {
    /// The size of the file.
    pub(crate) fn file_is(&self, bytes: u64) {
        self.0.bytes.store(bytes, Relaxed);
    }

    pub(crate) fn read_bytes(&self, bytes: u64) {
        self.0.read_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn read(&self, rows: u64, rejected: u64) {
        self.0.read.store(rows, Relaxed);
        self.0.rejected.store(rejected, Relaxed);
    }

    /// Rows that were sent by an earlier try.
    pub(crate) fn known(&self, rows: u64) {
        self.0.known.store(rows, Relaxed);
    }

    /// Rows that this try has sent.
    pub(crate) fn sent(&self, rows: u64) {
        self.0.sent.store(rows, Relaxed);
    }

    pub(crate) fn staged(&self, rows: u64) {
        self.0.staged.store(rows, Relaxed);
    }

    /// Objects in the bucket that hold rows of the load.
    pub(crate) fn objects(&self, objects: u64) {
        self.0.objects.store(objects, Relaxed);
    }

    /// A row that is put aside.
    pub(crate) fn rejected(&self, reject: &Reject) {
        let mut now = self.now();
        let is_late = now.rejected.last_key_value().is_none_or(|(last, _)| reject.line > *last);
        if is_late && now.rejected.len() == MOST_REJECTED_SHOWN {
            return;
        }
        now.rejected.insert(reject.line, RejectedPlace::of(reject));
        if now.rejected.len() > MOST_REJECTED_SHOWN {
            now.rejected.pop_last();
        }
    }

    /// The first rejected rows, by line.
    pub(crate) fn rejected_places(&self) -> Vec<RejectedPlace> {
        self.now().rejected.values().cloned().collect()
    }

    pub(crate) fn merged(&self, rows: u64) {
        self.0.merged.store(rows, Relaxed);
    }

    pub(crate) fn enters(&self, stage: Stage) {
        self.now().stage = stage;
    }

    /// A call to it failed and will be repeated.
    pub(crate) fn waits_for(&self, remote: Remote, reason: &str) {
        self.now().waits.push(Waiting { remote, reason: reason.to_owned(), since: Timestamp::now() });
    }

    /// The call worked, or was given up.
    pub(crate) fn waits_no_more_for(&self, remote: Remote) {
        let mut now = self.now();
        if let Some(place) = now.waits.iter().position(|wait| wait.remote == remote) {
            now.waits.remove(place);
        }
    }

    /// All counts begin again, since a restart reads the file again.
    pub(crate) fn restarted(&self) {
        let counts = &self.0;
        for count in
            [&counts.read_bytes, &counts.read, &counts.known, &counts.sent, &counts.staged, &counts.objects, &counts.rejected]
        {
            count.store(0, Relaxed);
        }
        self.0.restarts.fetch_add(1, Relaxed);
        self.enters(Stage::Looking);
    }

    /// The counts at this moment, and the longest wait that lasts.
    pub(crate) fn sample(&self) -> Sample {
        let counts = &self.0;
        let now = self.now();
        Sample {
            stage: now.stage,
            rows: counts.read.load(Relaxed),
            rejected: counts.rejected.load(Relaxed),
            sent: counts.sent.load(Relaxed) + counts.known.load(Relaxed),
            staged: counts.staged.load(Relaxed),
            restarts: counts.restarts.load(Relaxed),
            read_bytes: Some(counts.read_bytes.load(Relaxed)),
            objects: Some(counts.objects.load(Relaxed)),
            waiting: now.waits.first().cloned(),
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent {
            bytes: self.0.bytes.load(Relaxed),
            read_bytes: self.0.read_bytes.load(Relaxed),
            merged: self.0.merged.load(Relaxed),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // A panic cannot leave it half done.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RejectedPlace {
    fn of(reject: &Reject) -> Self {
        let Reject { line, column, reason, detail, .. } = reject;
        let detail = (*reason != Finding::Refused).then(|| detail.clone());
        Self { line: *line, column: column.clone(), reason: reason.name(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64, reason: Finding) -> Reject {
        let detail = "value 515-555-0100 was refused".to_owned();
        Reject { line, byte: None, reason, column: Some("zipcode".into()), detail, raw: b"Ana,Ink".to_vec() }
    }

    #[test]
    fn the_first_rejected_rows_are_remembered_once_each_and_without_what_stands_in_them() {
        let progress = Progress::default();
        for line in (2..200).rev().chain(2..200) {
            progress.rejected(&reject(line, Finding::Refused));
        }
        let places = progress.rejected_places();
        assert_eq!(places.iter().map(|place| place.line).collect::<Vec<_>>(), (2..102).collect::<Vec<_>>());
        assert!(!format!("{places:?}").contains("0100") && !format!("{places:?}").contains("Ana"), "{:?}", places[0]);
        progress.rejected(&reject(1, Finding::Ragged));
        assert!(progress.rejected_places()[0].detail.is_some(), "our own words name no value");
    }
}
