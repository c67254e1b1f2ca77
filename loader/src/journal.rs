//! What a journal of a load says (pure): its entries, and the state they add up to.
//!
//! The journal spares work after a crash and feeds `status`. It is never the truth: whether a load is done stands in the
//! warehouse's ledger, which rows have arrived stands in the bucket. Losing it costs rows sent twice, and those count once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault::Remote;
use crate::line_set::LineSet;
use crate::load_ledger::Committed;
use crate::progress::Stage;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(crate) enum What {
    /// The load begins; whatever stood here of an earlier one no longer counts.
    Begun {
        load_id: String,
        /// Stands for stream, bucket and warehouse: what another cloud has accepted says nothing about this one.
        target: String,
        file: FileMark,
        /// Objects delivered before this hold no row of it.
        since: Option<Timestamp>,
        pid: u32,
    },
    /// Another try, by this or another process.
    Resumed { pid: u32, file: FileMark },
    /// Firehose has taken the rows on these lines, first and last of each record.
    Accepted { lines: Vec<(u64, u64)>, rows: u64 },
    /// Accepted rows did not reach the bucket; they will be sent again.
    Forgotten,
    /// How far it is.
    Seen(Sample),
    /// The ledger has it. `to_tell`: nodes are to be told.
    Committed { rows: u64, merged: u64, superseded: u64, rejected: u64, to_tell: bool },
    /// A node has taken the message that it is committed.
    Told { node: String },
    /// This try ended without success.
    Failed { reason: String, is_final: bool },
}

/// The file as it was found; it tells the same file from a changed one without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FileMark {
    pub(crate) path: String,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: i64,
}

/// Counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) stage: Stage,
    pub(crate) rows: u64,
    pub(crate) rejected: u64,
    pub(crate) sent: u64,
    pub(crate) staged: u64,
    pub(crate) restarts: u64,
    #[serde(default)]
    pub(crate) read_bytes: Option<u64>,
    /// Objects in the bucket that hold rows of the load.
    #[serde(default)]
    pub(crate) objects: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
}

/// A remote side that does not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) remote: Remote,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
}

/// All entries of a journal, added up.
#[derive(Debug, Clone, Default)]
pub(crate) struct JournalState {
    pub(crate) load_id: String,
    pub(crate) file: Option<FileMark>,
    pub(crate) target: String,
    pub(crate) pid: u32,
    pub(crate) since: Option<Timestamp>,
    pub(crate) accepted: LineSet,
    pub(crate) accepted_rows: u64,
    /// Calls that Firehose has taken all rows of, over all tries.
    pub(crate) batches: u64,
    pub(crate) sample: Sample,
    pub(crate) begun_at: Option<Timestamp>,
    pub(crate) resumed_at: Option<Timestamp>,
    pub(crate) stage_since: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) committed: Option<(Timestamp, Committed)>,
    pub(crate) to_tell: bool,
    pub(crate) told: Option<String>,
    /// Why the last try ended, and whether another one with the same file would end in the same way.
    pub(crate) failed: Option<(String, bool)>,
}

impl What {
    /// Whether it must survive a power cut before work goes on.
    pub(crate) fn is_durable(&self) -> bool {
        !matches!(self, Self::Seen(_) | Self::Failed { .. })
    }
}

impl JournalState {
    /// Adds one entry.
    pub(crate) fn add(&mut self, Entry { at, what }: Entry) {
        self.updated_at = Some(at);
        match what {
            What::Begun { load_id, target, file, since, pid } => {
                *self = Self { load_id, target, file: Some(file), since, pid, updated_at: Some(at), ..Self::default() };
                (self.begun_at, self.resumed_at, self.stage_since) = (Some(at), Some(at), Some(at));
            }
            What::Resumed { pid, file } => {
                (self.pid, self.file, self.resumed_at, self.failed) = (pid, Some(file), Some(at), None);
                self.sample.waiting = None;
            }
            What::Accepted { lines, rows } => {
                lines.into_iter().for_each(|range| self.accepted.insert_range(range));
                self.accepted_rows += rows;
                self.batches += 1;
            }
            What::Forgotten => (self.accepted, self.accepted_rows) = (LineSet::default(), 0),
            What::Seen(sample) => {
                if sample.stage != self.sample.stage {
                    self.stage_since = Some(at);
                }
                self.sample = sample;
            }
            What::Committed { rows, merged, superseded, rejected, to_tell } => {
                self.committed = Some((at, Committed { rows, merged, superseded, rejected }));
                (self.to_tell, self.failed, self.sample.waiting) = (to_tell, None, None);
            }
            What::Told { node } => self.told = Some(node),
            What::Failed { reason, is_final } => {
                self.failed = Some((reason, is_final));
                self.sample.waiting = None;
            }
        }
    }

    /// Reads as much as is whole: also gives how many bytes that is. What a crash tore off at the end is left out.
    pub(crate) fn read(text: &[u8]) -> (Self, usize) {
        let (mut state, mut whole) = (Self::default(), 0);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let entry = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
            let Some(entry) = entry else { break };
            state.add(entry);
            whole += line.len();
        }
        (state, whole)
    }

    /// Committed, and no node has taken the message yet.
    pub(crate) fn is_to_be_told(&self) -> bool {
        self.committed.is_some() && self.to_tell && self.told.is_none()
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
