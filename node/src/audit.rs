//! What operators did: a line before each action and one after it, appended to a file that is never rewritten.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Lines shown; the file has all of them.
const SHOWN: usize = 200;

/// The log of one node.
pub(crate) struct Audit {
    node: String,
    /// Tells the actions of this run of the program apart.
    run: String,
    next: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    file: Option<File>,
    last: VecDeque<AuditLine>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditLine {
    /// When, in RFC 3339.
    pub(crate) at: String,
    /// The node that was asked.
    pub(crate) node: String,
    /// The same in both lines of one action.
    pub(crate) action_id: String,
    /// `intent` before it, `done`, `failed` or `cancelled` after it; `refused` alone, for what was never begun.
    pub(crate) phase: String,
    /// As their token names them; where none is needed, as they called themselves.
    pub(crate) who: String,
    /// What they may do: `viewer`, `operator` or `admin`; empty in lines of versions that knew no roles.
    #[serde(default)]
    pub(crate) role: String,
    /// `command` or `page`.
    pub(crate) from: String,
    /// What was asked for.
    pub(crate) action: String,
    /// Of whom or what.
    pub(crate) target: String,
    /// Why, in the operator's words.
    pub(crate) reason: String,
    /// What became of it; empty in the first line.
    pub(crate) outcome: String,
    /// The key by which the request may be repeated without being done twice, if it came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

/// An action that was begun.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    line: AuditLine,
}

/// Who wants what.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) who: &'a str,
    pub(crate) role: &'a str,
    pub(crate) from: &'a str,
    pub(crate) action: &'a str,
    pub(crate) target: &'a str,
    pub(crate) reason: &'a str,
    /// See [`AuditLine::key`].
    pub(crate) key: Option<&'a str>,
}

impl Intent {
    /// Tells this action from all others.
    pub(crate) fn action_id(&self) -> &str {
        &self.line.action_id
    }
}

impl Audit {
    /// A log that lives only as long as the process.
    pub(crate) fn in_memory(node: &str) -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_millis());
        Self { node: node.to_owned(), run: format!("{node}-{started}"), next: AtomicU64::new(1), lines: Mutex::default() }
    }

    /// Goes on with the log in a file; made if there is none, and its folder, too.
    ///
    /// # Errors
    /// When the file cannot be read or appended to.
    pub(crate) fn open(node: &str, path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
        let mut last = VecDeque::new();
        for line in BufReader::new(&file).lines() {
            // A line that was torn when the machine went down says nothing any more.
            let Ok(line) = serde_json::from_str(&line?) else { continue };
            last.push_back(line);
            if last.len() > SHOWN {
                last.pop_front();
            }
        }
        let audit = Self::in_memory(node);
        *audit.lock() = Lines { file: Some(file), last };
        Ok(audit)
    }

    /// Notes what is about to be done. Nothing may be done that cannot be noted.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn intend(&self, asked: &Asked<'_>) -> io::Result<Intent> {
        let line = self.line(asked, "intent", String::new());
        self.append(line.clone())?;
        Ok(Intent { line })
    }

    /// Notes what was asked for and not begun. Nothing follows from it, so a file that cannot be written is only told in the log.
    pub(crate) fn refused(&self, asked: &Asked<'_>, why: &str) {
        self.tell(self.line(asked, "refused", why.to_owned()));
    }

    /// Notes what became of it. The action is done, so a file that cannot be written is only told in the log.
    pub(crate) fn conclude(&self, intent: Intent, outcome: Result<String, String>) {
        let (phase, outcome) = match outcome {
            Ok(outcome) => ("done", outcome),
            Err(why) => ("failed", why),
        };
        self.tell(AuditLine { at: now(), phase: phase.to_owned(), outcome, ..intent.line });
    }

    /// Notes that it was broken off on somebody's word, and how far it was.
    pub(crate) fn cancelled(&self, intent: Intent, outcome: String) {
        self.tell(AuditLine { at: now(), phase: "cancelled".to_owned(), outcome, ..intent.line });
    }

    fn line(&self, asked: &Asked<'_>, phase: &str, outcome: String) -> AuditLine {
        AuditLine {
            at: now(),
            node: self.node.clone(),
            action_id: format!("{}-{}", self.run, self.next.fetch_add(1, Relaxed)),
            phase: phase.to_owned(),
            who: asked.who.to_owned(),
            role: asked.role.to_owned(),
            from: asked.from.to_owned(),
            action: asked.action.to_owned(),
            target: asked.target.to_owned(),
            reason: asked.reason.to_owned(),
            outcome,
            key: asked.key.map(str::to_owned),
        }
    }

    fn tell(&self, line: AuditLine) {
        if let Err(error) = self.append(line) {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }

    /// The last lines, oldest first.
    pub(crate) fn last(&self) -> Vec<AuditLine> {
        self.lock().last.iter().cloned().collect()
    }

    fn append(&self, line: AuditLine) -> io::Result<()> {
        let mut lines = self.lock();
        if let Some(file) = &mut lines.file {
            let mut text = serde_json::to_vec(&line)?;
            text.push(b'\n');
            // One write for a line, so that lines of two processes never mix; on disk before anything is done.
            file.write_all(&text)?;
            file.sync_data()?;
        }
        tracing::info!(action = line.action, target = line.target, phase = line.phase, who = line.who, "audit");
        lines.last.push_back(line);
        if lines.last.len() > SHOWN {
            lines.last.pop_front();
        }
        Ok(())
    }

    /// A panic while it was locked leaves whole lines.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str) -> Asked<'_> {
        Asked { who: "op", role: "admin", from: "command", action: "discard", target, reason: "a test", key: Some("k") }
    }

    #[test]
    fn a_line_of_an_earlier_version_is_read() {
        let old = r#"{"at":"t","node":"n","action_id":"n-1-1","phase":"done","who":"op","from":"page","action":"discard",
            "target":"x","reason":"r","outcome":"1 done"}"#;
        let line: AuditLine = serde_json::from_str(old).expect("it is a line");
        assert_eq!((line.role.as_str(), line.key), ("", None));
    }

    #[test]
    fn what_is_refused_stands_there_alone() {
        let audit = Audit::in_memory("node-1");
        audit.refused(&asked("one"), "the preview is too old");
        let lines = audit.last();
        let seen: Vec<_> = lines.iter().map(|line| (line.phase.as_str(), line.outcome.as_str(), line.key.as_deref())).collect();
        assert_eq!(seen, [("refused", "the preview is too old", Some("k"))]);
    }

    #[test]
    fn an_action_stands_there_before_and_after_it_even_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state/audit.ndjson");
        let audit = Audit::open("node-1", &path).expect("opened");
        let (one, two) = (audit.intend(&asked("one")).expect("noted"), audit.intend(&asked("two")).expect("noted"));
        audit.conclude(two, Err("no answer".to_owned()));
        audit.conclude(one, Ok("done".to_owned()));
        drop(audit);
        let again = Audit::open("node-1", &path).expect("opened");
        let lines = again.last();
        let seen: Vec<_> = lines.iter().map(|line| (line.target.as_str(), line.phase.as_str(), line.outcome.as_str())).collect();
        let expected = [("one", "intent", ""), ("two", "intent", ""), ("two", "failed", "no answer"), ("one", "done", "done")];
        assert_eq!(seen, expected);
        assert_eq!(lines[0].action_id, lines[3].action_id);
        assert_ne!(lines[0].action_id, lines[1].action_id);
    }

    #[test]
    fn a_torn_line_hides_no_other_and_only_the_owner_may_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        Audit::open("node-1", &path).expect("opened").intend(&asked("one")).expect("noted");
        OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"{\"at\":\"20\n").expect("torn");
        let again = Audit::open("node-1", &path).expect("opened");
        again.intend(&asked("two")).expect("noted");
        let targets: Vec<_> = Audit::open("node-1", &path).expect("opened").last().into_iter().map(|line| line.target).collect();
        assert_eq!(targets, ["one", "two"]);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
