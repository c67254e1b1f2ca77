//! What is told on standard error while a statement runs: a line that follows the work on a terminal, and notes.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use speedtrap_actors::domain::ShardId;
use speedtrap_actors::ports::RemoteFailure;
use tokio::time::Instant;

use crate::window::Window;

const SHOWN_EVERY: Duration = Duration::from_millis(300);

/// How far the reading of streams is.
#[derive(Debug)]
pub(crate) struct Progress {
    is_quiet: bool,
    follows: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    bad: u64,
    in_window: u64,
    late: u64,
    window: Option<Window>,
    behind_ms: HashMap<ShardId, u64>,
    gone: HashSet<ShardId>,
    trouble: Option<String>,
    shown: Option<Instant>,
}

impl Progress {
    /// One that speaks.
    pub(crate) fn new() -> Self {
        Self { is_quiet: false, follows: std::io::stderr().is_terminal(), counts: Mutex::default() }
    }

    /// One that only counts.
    #[cfg(test)]
    pub(crate) fn quiet() -> Self {
        Self { is_quiet: true, follows: false, counts: Mutex::default() }
    }

    /// Says something that stays.
    pub(crate) fn note(&self, text: &str) {
        self.clear();
        if !self.is_quiet {
            eprintln!("note: {text}");
        }
    }

    /// A read brought so many records, and is so far behind the newest one.
    pub(crate) fn read(&self, shard: &ShardId, records: usize, behind_ms: Option<u64>) {
        let mut counts = self.lock();
        counts.records += records as u64;
        counts.trouble = None;
        counts.behind_ms.insert(shard.clone(), behind_ms.unwrap_or_default());
        self.show(&mut counts);
    }

    /// A call failed, and is tried again.
    pub(crate) fn failed(&self, failure: &RemoteFailure) {
        let mut counts = self.lock();
        counts.trouble = Some(format!("{} ({})", failure.call, failure.kind));
        self.show(&mut counts);
    }

    /// A shard went away while it was read, or before.
    pub(crate) fn gone(&self, shard: &ShardId) {
        if self.lock().gone.insert(shard.clone()) {
            self.note(&format!("{shard} is gone: its records expired before they were read"));
        }
    }

    /// So many records of what was given out are not what they should be.
    pub(crate) fn bad(&self, records: u64) {
        self.lock().bad += records;
    }

    /// So many records belong to the window at hand, and so many came after theirs was closed.
    pub(crate) fn in_window(&self, records: u64, late: u64) {
        let mut counts = self.lock();
        counts.in_window += records;
        counts.late += late;
    }

    /// Begins a window.
    pub(crate) fn begin(&self, window: Window) {
        let mut counts = self.lock();
        (counts.window, counts.in_window, counts.late) = (Some(window), 0, 0);
    }

    /// What `in_window` was told since the window began.
    pub(crate) fn of_window(&self) -> (u64, u64) {
        let counts = self.lock();
        (counts.in_window, counts.late)
    }

    /// The window at hand.
    pub(crate) fn window(&self) -> Option<Window> {
        self.lock().window
    }

    /// The records that are not what they should be, since this was last asked.
    pub(crate) fn take_bad(&self) -> u64 {
        std::mem::take(&mut self.lock().bad)
    }

    /// Records read so far.
    pub(crate) fn records(&self) -> u64 {
        self.lock().records
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.follows {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&self, counts: &mut Counts) {
        let now = Instant::now();
        if !self.follows || counts.shown.is_some_and(|shown| now - shown < SHOWN_EVERY) {
            return;
        }
        counts.shown = Some(now);
        let (shards, behind) = (counts.behind_ms.len(), counts.behind_ms.values().max().copied().unwrap_or_default());
        let trouble = counts.trouble.as_ref().map(|trouble| format!(", waiting after {trouble}")).unwrap_or_default();
        eprint!("\r\x1b[K{} records of {shards} shards, {} s behind{trouble}", counts.records, behind / 1_000);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
