//! How far a load has come; shared by its actors and whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::fault::Remote;

/// Row counts of the present try. A cheap handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    sent: AtomicU64,
    staged: AtomicU64,
    merged: AtomicU64,
    rejected: AtomicU64,
    restarts: AtomicU64,
    waits: Mutex<Vec<Wait>>,
}

/// A remote side that does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) remote: Remote,
    pub(crate) reason: String,
    pub(crate) since: SystemTime,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) read: u64,
    pub(crate) sent: u64,
    pub(crate) staged: u64,
    pub(crate) merged: u64,
    pub(crate) rejected: u64,
    pub(crate) restarts: u64,
}

impl Progress {
    pub(crate) fn read(&self, rows: u64, rejected: u64) {
        self.0.read.store(rows, Relaxed);
        self.0.rejected.store(rejected, Relaxed);
    }

    pub(crate) fn sent(&self, rows: u64) {
        self.0.sent.store(rows, Relaxed);
    }

    pub(crate) fn staged(&self, rows: u64) {
        self.0.staged.store(rows, Relaxed);
    }

    pub(crate) fn merged(&self, rows: u64) {
        self.0.merged.store(rows, Relaxed);
    }

    /// A call to it failed and will be repeated.
    pub(crate) fn waits_for(&self, remote: Remote, reason: &str) {
        self.with_waits(|waits| waits.push(Wait { remote, reason: reason.to_owned(), since: SystemTime::now() }));
    }

    /// The call worked, or was given up.
    pub(crate) fn waits_no_more_for(&self, remote: Remote) {
        self.with_waits(|waits| {
            if let Some(place) = waits.iter().position(|wait| wait.remote == remote) {
                waits.remove(place);
            }
        });
    }

    /// The longest wait of those that last.
    #[allow(dead_code, reason = "status comes next")]
    pub(crate) fn wait(&self) -> Option<Wait> {
        self.with_waits(|waits| waits.first().cloned())
    }

    fn with_waits<T>(&self, use_them: impl FnOnce(&mut Vec<Wait>) -> T) -> T {
        // A panic cannot leave the list half done.
        use_them(&mut self.0.waits.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All counts begin again, since a restart sends the file again.
    pub(crate) fn restarted(&self) {
        for count in [&self.0.read, &self.0.sent, &self.0.staged, &self.0.merged, &self.0.rejected] {
            count.store(0, Relaxed);
        }
        self.0.restarts.fetch_add(1, Relaxed);
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            read: self.0.read.load(Relaxed),
            sent: self.0.sent.load(Relaxed),
            staged: self.0.staged.load(Relaxed),
            merged: self.0.merged.load(Relaxed),
            rejected: self.0.rejected.load(Relaxed),
            restarts: self.0.restarts.load(Relaxed),
        }
    }
}
