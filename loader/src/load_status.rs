//! What is known of one load, in the form that `status --json` prints and nodes are told (pure).

use jiff::Timestamp;
use serde::Serialize;

use crate::journal::JournalState;
use crate::load_ledger::Committed;
use crate::progress::Stage;

/// One load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LoadStatus {
    pub(crate) load_id: String,
    pub(crate) file: String,
    pub(crate) state: LoadPhase,
    /// Bytes of the file; unknown of a load of another machine.
    pub(crate) size: Option<u64>,
    /// How many of them this try has read.
    pub(crate) read_bytes: Option<u64>,
    /// Rows of the file; read so far, while it is being read.
    pub(crate) rows: u64,
    pub(crate) sent: u64,
    /// Calls that Firehose took them in.
    pub(crate) batches: Option<u64>,
    pub(crate) staged: u64,
    /// Objects in the bucket that hold them.
    pub(crate) objects: Option<u64>,
    pub(crate) merged: u64,
    pub(crate) rejected: u64,
    /// Rows whose plate came again later in the file.
    pub(crate) duplicates: u64,
    /// Different plates among the rows, once committed.
    pub(crate) drivers: u64,
    /// Rows staged a second since the last start.
    pub(crate) rows_per_second: Option<f64>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) committed_at: Option<Timestamp>,
    pub(crate) waits_for: Option<WaitsFor>,
    pub(crate) last_error: Option<String>,
    pub(crate) restarts: u64,
    /// Whether a node has taken the message of the commit; nothing where no node is to be told.
    pub(crate) node_told: Option<bool>,
    /// Whether the ledger has it; nothing where the warehouse was not asked.
    pub(crate) in_warehouse: Option<bool>,
    /// The process that works at it.
    pub(crate) pid: Option<u32>,
}

/// Where a load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoadPhase {
    Looking,
    Sending,
    Staging,
    Committing,
    /// In the warehouse.
    Committed,
    /// Its process is gone; loading the file again goes on with it.
    Interrupted,
    Failed,
}

/// What a load cannot go on without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct WaitsFor {
    /// `firehose`, `bucket`, `warehouse`, `node`; `rows` are those that Firehose has not delivered yet.
    pub(crate) what: &'static str,
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
}

impl LoadStatus {
    /// What a journal knows. `is_held`: a process works at the load.
    pub(crate) fn of_journal(journal: &JournalState, is_held: bool) -> Self {
        let sample = &journal.sample;
        let committed = journal.committed.map(|(_, committed)| committed);
        let (state, last_error) = phase(journal, is_held);
        let is_running = is_held && committed.is_none();
        let rows = committed.map_or(sample.rows, |committed| committed.rows);
        let rejected = committed.map_or(sample.rejected, |committed| committed.rejected);
        // A process that was killed between two samples has sent and staged more than it could say.
        let passed = |sampled| committed.map_or(sampled, |committed| committed.rows - committed.rejected);
        let size = journal.file.as_ref().map(|file| file.size);
        let file = journal.file.as_ref().and_then(|file| file.path.rsplit('/').next()).unwrap_or_default();
        Self {
            load_id: journal.load_id.clone(),
            file: file.to_owned(),
            state,
            size,
            read_bytes: if committed.is_some() { size } else { sample.read_bytes },
            rows,
            sent: passed(sample.sent.max(journal.accepted_rows)),
            batches: journal.file.as_ref().map(|_| journal.batches),
            staged: passed(sample.staged),
            objects: sample.objects,
            merged: committed.map_or(0, |committed| committed.merged),
            rejected,
            duplicates: committed.map_or(0, |committed| committed.superseded),
            drivers: committed.map_or(0, |committed| committed.merged),
            rows_per_second: rate(journal),
            started_at: journal.begun_at,
            updated_at: journal.updated_at,
            committed_at: journal.committed.map(|(at, _)| at),
            waits_for: if is_running || journal.is_to_be_told() { waits_for(journal) } else { None },
            last_error,
            restarts: sample.restarts,
            node_told: journal.to_tell.then_some(journal.told.is_some()),
            in_warehouse: committed.map(|_| true),
            pid: is_held.then_some(journal.pid),
        }
    }

    /// What the ledger knows of a load of another machine.
    pub(crate) fn of_ledger(load_id: &str, ledger: Committed) -> Self {
        let journal = JournalState { load_id: load_id.to_owned(), ..JournalState::default() };
        let mut status = Self::of_journal(&journal, false);
        status.look_up(Some(ledger));
        status
    }

    /// Corrects what a journal says by what the ledger says.
    pub(crate) fn look_up(&mut self, ledger: Option<Committed>) {
        self.in_warehouse = Some(ledger.is_some());
        let Some(ledger) = ledger else { return };
        self.state = LoadPhase::Committed;
        (self.rows, self.merged, self.duplicates) = (ledger.rows, ledger.merged, ledger.superseded);
        (self.rejected, self.drivers) = (ledger.rejected, ledger.merged);
        (self.sent, self.staged) = (ledger.rows - ledger.rejected, ledger.rows - ledger.rejected);
        (self.waits_for, self.last_error) = (None, None);
    }
}

impl LoadPhase {
    /// The phase for people; scripts get the same word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Sending => "sending",
            Self::Staging => "staging",
            Self::Committing => "committing",
            Self::Committed => "committed",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

fn phase(journal: &JournalState, is_held: bool) -> (LoadPhase, Option<String>) {
    let error = journal.failed.as_ref().map(|(reason, _)| reason.clone());
    let state = match (journal.sample.stage, is_held) {
        _ if journal.committed.is_some() => LoadPhase::Committed,
        _ if error.is_some() => LoadPhase::Failed,
        (_, false) => LoadPhase::Interrupted,
        (Stage::Looking, true) => LoadPhase::Looking,
        (Stage::Sending, true) => LoadPhase::Sending,
        (Stage::Staging, true) => LoadPhase::Staging,
        (Stage::Committing | Stage::Telling, true) => LoadPhase::Committing,
    };
    (state, error)
}

fn waits_for(journal: &JournalState) -> Option<WaitsFor> {
    if let Some((since, _)) = journal.committed {
        let reason = "no node has taken the message of the commit".to_owned();
        return Some(WaitsFor { what: "node", reason, since });
    }
    if let Some(waiting) = &journal.sample.waiting {
        return Some(WaitsFor { what: waiting.remote.name(), reason: waiting.reason.clone(), since: waiting.since });
    }
    let missing = journal.sample.sent.saturating_sub(journal.sample.staged);
    let since = journal.stage_since.filter(|_| journal.sample.stage == Stage::Staging && missing > 0)?;
    Some(WaitsFor { what: "rows", reason: format!("{missing} rows are on their way through Firehose"), since })
}

fn rate(journal: &JournalState) -> Option<f64> {
    let until = journal.committed.map(|(at, _)| at).or(journal.updated_at)?;
    let seconds = until.duration_since(journal.resumed_at?).as_secs_f64();
    let rows = journal.committed.map_or(journal.sample.staged, |(_, committed)| committed.rows);
    (seconds > 0.0).then(|| (rows as f64 / seconds).round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Entry, FileMark, Sample, Waiting, What};

    fn journal(entries: Vec<What>) -> JournalState {
        let file = FileMark { path: "/in/drivers.csv".into(), inode: 1, size: 1, modified: 1 };
        let begun = What::Begun { load_id: "l1".into(), target: "t".into(), file, since: None, pid: 7 };
        let mut journal = JournalState::default();
        for (second, what) in (0..).zip([begun].into_iter().chain(entries)) {
            journal.add(Entry { at: Timestamp::from_second(second).unwrap(), what });
        }
        journal
    }

    fn seen(stage: Stage, waiting: Option<Waiting>) -> What {
        What::Seen(Sample { stage, rows: 10, rejected: 1, sent: 9, staged: 4, waiting, ..Sample::default() })
    }

    #[test]
    fn a_load_whose_process_is_gone_is_interrupted_and_waits_for_nothing() {
        let journal = journal(vec![seen(Stage::Staging, None)]);
        let (running, gone) = (LoadStatus::of_journal(&journal, true), LoadStatus::of_journal(&journal, false));
        assert_eq!((running.state, running.pid, running.file.as_str()), (LoadPhase::Staging, Some(7), "drivers.csv"));
        assert!(running.waits_for.is_some_and(|wait| wait.what == "rows" && wait.reason.starts_with('5')));
        assert_eq!((gone.state, gone.pid, gone.waits_for, gone.staged), (LoadPhase::Interrupted, None, None, 4));
    }

    #[test]
    fn what_a_load_waits_for_is_named_with_its_beginning() {
        let since = Timestamp::from_second(99).unwrap();
        let waiting = Waiting { remote: crate::fault::Remote::Warehouse, reason: "refused".into(), since };
        let status = LoadStatus::of_journal(&journal(vec![seen(Stage::Committing, Some(waiting))]), true);
        assert_eq!(status.waits_for, Some(WaitsFor { what: "warehouse", reason: "refused".into(), since }));
    }

    #[test]
    fn the_ledger_has_the_last_word() {
        let failed = What::Failed { reason: "no answer".into(), is_final: false };
        let mut status = LoadStatus::of_journal(&journal(vec![seen(Stage::Committing, None), failed]), false);
        assert_eq!((status.state, status.last_error.as_deref()), (LoadPhase::Failed, Some("no answer")));
        status.look_up(Some(Committed { rows: 10, merged: 8, superseded: 1, rejected: 1 }));
        assert_eq!((status.state, status.sent, status.merged, status.last_error), (LoadPhase::Committed, 9, 8, None));
    }

    #[test]
    fn a_commit_that_no_node_knows_of_waits_for_one() {
        let committed = What::Committed { rows: 10, merged: 9, superseded: 0, rejected: 1, to_tell: true };
        let untold = LoadStatus::of_journal(&journal(vec![committed.clone()]), false);
        assert_eq!((untold.node_told, untold.waits_for.map(|wait| wait.what)), (Some(false), Some("node")));
        let told = LoadStatus::of_journal(&journal(vec![committed, What::Told { node: "http://n".into() }]), false);
        assert_eq!((told.node_told, told.waits_for), (Some(true), None));
    }
}
