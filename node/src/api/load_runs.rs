//! The loads that one node was told of, for whoever wants to see them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::cluster::Answer;
use super::pages::time;

/// Loads that a node remembers; the warehouse's ledger has all of them.
const KEPT: usize = 100;
/// Rejected rows of a load that it remembers; the quarantine beside the file has all of them.
const MOST_REJECTED: usize = 100;
/// Longest text that is kept of a loader's words.
const LONGEST_TEXT: usize = 500;

/// What a loader says of a load. Only the id is needed; further members are for later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadRun {
    pub(crate) load_id: String,
    pub(crate) file: Option<String>,
    pub(crate) rows: Option<u64>,
    pub(crate) merged: Option<u64>,
    pub(crate) duplicates: Option<u64>,
    pub(crate) rejected: Option<u64>,
    pub(crate) started_at: Option<String>,
    pub(crate) committed_at: Option<String>,
    #[serde(flatten)]
    pub(crate) course: Course,
    /// The node that was told.
    #[serde(default)]
    pub(crate) node: String,
    /// When it was told.
    #[serde(default)]
    pub(crate) told_at: String,
}

/// How far a load is, member by member as `speedtrap-loader status --json` has them. What a loader does not say is null, and what it
/// says in another form as well: older ones must be able to tell of a commit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Course {
    #[serde(deserialize_with = "lenient")]
    pub(crate) state: Option<String>,
    /// Bytes of the file.
    #[serde(deserialize_with = "lenient")]
    pub(crate) size: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) read_bytes: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) sent: Option<u64>,
    /// Calls that Firehose took rows in.
    #[serde(deserialize_with = "lenient")]
    pub(crate) batches: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) staged: Option<u64>,
    /// Objects in the bucket that hold its rows.
    #[serde(deserialize_with = "lenient")]
    pub(crate) objects: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) rows_per_second: Option<f64>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) restarts: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) updated_at: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) waits_for: Option<LoadWait>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) last_error: Option<String>,
    /// Rejected rows that can be looked at; null where none were told of.
    #[serde(deserialize_with = "lenient")]
    pub(crate) rejected_shown: Option<u64>,
}

/// What a load cannot go on without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoadWait {
    pub(crate) what: String,
    pub(crate) reason: String,
    pub(crate) since: String,
}

/// A row that was put aside, without anything that stands in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RejectedRow {
    pub(crate) line: u64,
    pub(crate) column: Option<String>,
    pub(crate) reason: String,
    pub(crate) detail: Option<String>,
}

/// The rejected rows of one load, as far as they were told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RejectedRows {
    pub(crate) run: LoadRun,
    pub(crate) rows: Option<Vec<RejectedRow>>,
}

/// The loads that one node was told of, oldest first.
#[derive(Default)]
pub(crate) struct LoadRuns(Mutex<VecDeque<RejectedRows>>);

impl Answer for Vec<LoadRun> {}

impl LoadRuns {
    /// The loads, oldest first.
    pub(super) fn all(&self) -> Vec<LoadRun> {
        self.lock().iter().map(|kept| kept.run.clone()).collect()
    }

    /// The rejected rows of a load, if the node was told of it.
    pub(super) fn rejected(&self, load_id: &str) -> Option<RejectedRows> {
        self.lock().iter().find(|kept| kept.run.load_id == load_id).cloned()
    }

    /// Keeps that a load is committed, whatever was told of it before.
    pub(super) fn committed(&self, node: &str, run: LoadRun) {
        // It said that it waits for a node to take this, and no more before it can know that one has.
        let course = Course { state: Some("committed".to_owned()), waits_for: None, ..run.course };
        keep(&mut self.lock(), node, LoadRun { course, ..run }, Vec::new());
    }

    /// Keeps how far a load is. News that was overtaken by later ones is dropped.
    pub(super) fn progressed(&self, node: &str, run: LoadRun, rejected: Vec<RejectedRow>) {
        let mut runs = self.lock();
        let known = runs.iter().find(|kept| kept.run.load_id == run.load_id);
        if known.is_none_or(|kept| moment(&kept.run.course) <= moment(&run.course)) {
            keep(&mut runs, node, run, rejected);
        }
    }

    /// A panic while it was locked leaves whole loads.
    fn lock(&self) -> MutexGuard<'_, VecDeque<RejectedRows>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(runs: &mut VecDeque<RejectedRows>, node: &str, run: LoadRun, rejected: Vec<RejectedRow>) {
    let before = runs.iter().position(|kept| kept.run.load_id == run.load_id).and_then(|at| runs.remove(at));
    let told: Vec<_> = rejected.into_iter().take(MOST_REJECTED).map(RejectedRow::clipped).collect();
    // The same load has the same rows, so those told of by an earlier process are true still.
    let rows = if told.is_empty() { before.and_then(|kept| kept.rows) } else { Some(told) };
    let mut run = run.clipped();
    (run.node, run.told_at) = (node.to_owned(), time(SystemTime::now()));
    run.course.rejected_shown = rows.as_ref().map(|rows| rows.len() as u64);
    runs.push_back(RejectedRows { run, rows });
    if runs.len() > KEPT {
        runs.pop_front();
    }
}

impl LoadRun {
    /// When what it says was so, as far as it can be told.
    pub(super) fn moment(&self) -> Option<jiff::Timestamp> {
        moment(&self.course).or_else(|| self.told_at.parse().ok())
    }

    fn clipped(mut self) -> Self {
        let texts = [&mut self.file, &mut self.course.last_error, &mut self.course.state];
        texts.into_iter().flatten().for_each(clip);
        self.course.waits_for.iter_mut().for_each(|wait| clip(&mut wait.reason));
        self
    }
}

impl RejectedRow {
    fn clipped(mut self) -> Self {
        clip(&mut self.reason);
        [&mut self.column, &mut self.detail].into_iter().flatten().for_each(clip);
        self
    }
}

fn clip(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    }
}

fn moment(course: &Course) -> Option<jiff::Timestamp> {
    course.updated_at.as_ref()?.parse().ok()
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(said: Value) -> LoadRun {
        serde_json::from_value(said).expect("a load")
    }

    fn row(line: u64) -> RejectedRow {
        RejectedRow { line, column: None, reason: "ragged".into(), detail: Some("x".repeat(2_000)) }
    }

    #[test]
    fn late_news_changes_nothing_and_a_commit_keeps_the_rejected_rows() {
        let runs = LoadRuns::default();
        let said = |second: u32, state: &str| {
            run(json!({"load_id": "l", "state": state, "updated_at": format!("2026-01-01T00:00:{second:02}Z"), "sent": second}))
        };
        let state = || runs.all()[0].course.state.clone().unwrap_or_default();
        runs.progressed("n", said(5, "sending"), vec![row(7)]);
        runs.progressed("n", said(4, "looking"), Vec::new());
        assert_eq!((runs.all().len(), state().as_str()), (1, "sending"));
        runs.committed("n", run(json!({"load_id": "l", "updated_at": "2026-01-01T00:00:09Z"})));
        runs.progressed("n", said(8, "committing"), Vec::new());
        assert_eq!(state(), "committed");
        let kept = runs.rejected("l").and_then(|kept| kept.rows).expect("rows");
        assert_eq!((kept[0].line, kept[0].detail.as_ref().map(String::len)), (7, Some(LONGEST_TEXT)));
        assert_eq!(runs.all()[0].course.rejected_shown, Some(1));
        runs.progressed("n", said(10, "sending"), Vec::new());
        assert_eq!(state(), "sending", "the warehouse was set back, and it is loaded once more");
        assert!(runs.rejected("m").is_none());
    }

    #[test]
    fn what_a_loader_says_in_another_form_is_unknown_and_no_fault() {
        let run = run(json!({"load_id": "l", "rows": 3, "state": 5, "sent": -1, "waits_for": "x", "size": 9, "more": []}));
        assert_eq!(run.course, Course { size: Some(9), ..Course::default() });
        assert_eq!(serde_json::to_value(&run).expect("JSON")["sent"], Value::Null);
    }
}
