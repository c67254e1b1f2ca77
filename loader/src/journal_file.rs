//! The journals of all loads, one file each: `<state_dir>/loads/<load_id>.jsonl`, readable by their owner only.
//!
//! A journal is locked while its load runs, so that two processes do not send the same rows. Where no journal can be kept, a load
//! runs without one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::fault::LoadFault;
use crate::journal::{Entry, JournalState, What};

/// `status` holds the lock for an instant to see whether somebody else does.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Journals kept; each is a few kilobytes.
const MOST_JOURNALS: usize = 1_000;

/// The folder of journals.
#[derive(Debug, Clone)]
pub(crate) struct Journals {
    folder: Option<PathBuf>,
}

/// The journal of one load, locked. A cheap handle.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Mutex<Open>>);

struct Open {
    /// None once it cannot be written.
    file: Option<File>,
    state: JournalState,
}

/// A journal as somebody else sees it.
pub(crate) struct Reading {
    pub(crate) state: JournalState,
    /// Whether a process works at the load right now.
    pub(crate) is_held: bool,
}

impl Journals {
    /// Journals under a state folder; without one none are kept.
    pub(crate) fn new(state_dir: Option<&Path>) -> Self {
        Self { folder: state_dir.map(|folder| folder.join("loads")) }
    }

    /// Opens and locks the journal of a load, and cuts off what a crash tore; blocks.
    ///
    /// # Errors
    /// When another process works at the load.
    pub(crate) fn open(&self, load_id: &str) -> Result<Journal, LoadFault> {
        let Some(folder) = &self.folder else { return Ok(Journal::in_memory()) };
        let path = folder.join(format!("{load_id}.jsonl"));
        match open_locked(folder, &path) {
            Ok(Some(open)) => Ok(Journal(Arc::new(Mutex::new(open)))),
            Ok(None) => {
                let pid = read(&path).map(|reading| reading.state.pid).unwrap_or_default();
                Err(LoadFault::Busy { load_id: load_id.to_owned(), pid })
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "the load runs without a journal; after a crash it sends all rows again");
                Ok(Journal::in_memory())
            }
        }
    }

    /// Reads all journals, the youngest load first; blocks.
    pub(crate) fn read_all(&self) -> io::Result<Vec<Reading>> {
        let mut readings: Vec<Reading> = self.paths()?.iter().filter_map(|path| read(path).ok()).collect();
        readings.retain(|reading| !reading.state.load_id.is_empty());
        readings.sort_by_key(|reading| std::cmp::Reverse(reading.state.begun_at));
        Ok(readings)
    }

    /// Takes away the oldest journals of loads that are over; blocks.
    pub(crate) fn prune(&self) -> io::Result<()> {
        let mut paths = self.paths()?;
        if paths.len() <= MOST_JOURNALS {
            return Ok(());
        }
        paths.sort_by_cached_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
        for path in &paths[..paths.len() - MOST_JOURNALS] {
            let is_over = |reading: &Reading| reading.state.committed.is_some() && !reading.state.is_to_be_told();
            if read(path).is_ok_and(|reading| is_over(&reading) && !reading.is_held) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let listing = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let paths = listing.map(|file| file.map(|file| file.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect())
    }
}

impl Journal {
    /// A journal that ends with the process.
    pub(crate) fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(Open { file: None, state: JournalState::default() })))
    }

    /// Adds an entry, and brings it to the disk if it is to survive a power cut; blocks.
    pub(crate) fn append(&self, what: What) {
        let is_durable = what.is_durable();
        let entry = Entry { at: Timestamp::now(), what };
        let mut open = self.lock();
        let written = match &open.file {
            Some(file) => write(file, &entry, is_durable),
            None => Ok(()),
        };
        if let Err(error) = written {
            warn!(%error, "the journal cannot be written any more; after a crash more rows are sent again");
            open.file = None;
        }
        open.state.add(entry);
    }

    /// All entries, added up.
    pub(crate) fn state(&self) -> JournalState {
        self.lock().state.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A panic leaves at worst a line without its end, which the next reader cuts off.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` if another process has it.
fn open_locked(folder: &Path, path: &Path) -> io::Result<Option<Open>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if !is_locked_now(&file)? {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let (state, whole) = JournalState::read(&text);
    if whole < text.len() {
        warn!(path = %path.display(), bytes = text.len() - whole, "the end of the journal was torn and is cut off");
        file.set_len(whole as u64)?;
    }
    Ok(Some(Open { file: Some(file), state }))
}

fn is_locked_now(file: &File) -> io::Result<bool> {
    for n in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if n + 1 < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Ok(false)
}

fn read(path: &Path) -> io::Result<Reading> {
    let mut file = File::open(path)?;
    let is_held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Reading { state: JournalState::read(&text).0, is_held })
}

fn write(mut file: &File, entry: &Entry, is_durable: bool) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    // In one call, so that a crash of this process alone tears nothing.
    file.write_all(&line)?;
    if is_durable { file.sync_data() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::journal::FileMark;

    fn begun(load_id: &str) -> What {
        let file = FileMark { path: "a.csv".into(), inode: 1, size: 1, modified: 1 };
        What::Begun { load_id: load_id.into(), target: "t".into(), file, since: None, pid: 42 }
    }

    #[test]
    fn a_journal_is_read_back_after_a_crash_that_tore_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::new(Some(folder.path()));
        let journal = journals.open("l1").unwrap();
        journal.append(begun("l1"));
        journal.append(What::Accepted { lines: vec![(2, 9)], rows: 8 });
        drop(journal);
        let path = folder.path().join("loads/l1.jsonl");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":\"20").unwrap();
        let journal = journals.open("l1").unwrap();
        assert_eq!(journal.state().accepted.len(), 8);
        journal.append(What::Accepted { lines: vec![(10, 10)], rows: 1 });
        drop(journal);
        assert_eq!(journals.open("l1").unwrap().state().accepted.len(), 9);
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_process_is_told_who_works_at_the_load() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::new(Some(folder.path()));
        let journal = journals.open("l1").unwrap();
        journal.append(begun("l1"));
        assert!(journals.read_all().unwrap()[0].is_held);
        assert!(matches!(journals.open("l1"), Err(LoadFault::Busy { pid: 42, .. })));
        assert!(journals.open("l2").is_ok(), "other loads are free");
        drop(journal);
        assert!(!journals.read_all().unwrap()[0].is_held);
        assert!(journals.open("l1").is_ok());
    }

    #[test]
    fn a_load_runs_without_a_journal_where_none_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        let journal = Journals::new(Some(&blocked)).open("l1").unwrap();
        journal.append(begun("l1"));
        assert_eq!(journal.state().load_id, "l1");
    }
}
