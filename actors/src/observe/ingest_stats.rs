//! What the ingest lane of a node did.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of an ingest lane. A cheap handle; its clones count together.
#[derive(Debug, Clone, Default)]
pub struct IngestStats(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    received: AtomicU64,
    stored: AtomicU64,
    letters: AtomicU64,
    acknowledged: AtomicU64,
    dropped: AtomicU64,
    connections: AtomicU64,
    sessions_begun: AtomicU64,
    open: AtomicU64,
    leads: AtomicBool,
    connected: AtomicBool,
    trouble: Mutex<Option<String>>,
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestSnapshot {
    /// Messages that came, repeats included.
    pub received: u64,
    /// Messages that the stream accepted.
    pub stored: u64,
    /// Messages that are no readings and became dead letters.
    pub letters: u64,
    /// Messages acknowledged to the broker.
    pub acknowledged: u64,
    /// Messages that nobody vouches for (QoS 0) and for which there was no room.
    pub dropped: u64,
    /// Connections made.
    pub connections: u64,
    /// Of those, the ones for which the broker kept no session: what was published before they were made may be lost.
    pub sessions_begun: u64,
    /// Messages that came and are not acknowledged yet.
    pub open: u64,
    /// Whether this node is the one that ingests.
    pub leads: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// What went wrong last, until it is connected again.
    pub trouble: Option<String>,
}

impl IngestStats {
    pub(crate) fn leads(&self, leads: bool) {
        self.0.leads.store(leads, Relaxed);
        if !leads {
            self.0.connected.store(false, Relaxed);
            self.0.open.store(0, Relaxed);
        }
    }

    pub(crate) fn connected(&self, resumed: bool) {
        self.0.connections.fetch_add(1, Relaxed);
        self.0.sessions_begun.fetch_add(u64::from(!resumed), Relaxed);
        self.0.connected.store(true, Relaxed);
        *self.trouble() = None;
    }

    pub(crate) fn lost(&self, why: &str) {
        self.0.connected.store(false, Relaxed);
        *self.trouble() = Some(why.to_owned());
    }

    pub(crate) fn received(&self) {
        self.0.received.fetch_add(1, Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }

    pub(crate) fn open(&self, open: usize) {
        self.0.open.store(open as u64, Relaxed);
    }

    pub(crate) fn stored(&self, stored: usize, letters: usize) {
        self.0.stored.fetch_add(stored as u64, Relaxed);
        self.0.letters.fetch_add(letters as u64, Relaxed);
    }

    pub(crate) fn acknowledged(&self) {
        self.0.acknowledged.fetch_add(1, Relaxed);
    }

    /// Reads them.
    #[must_use]
    pub fn snapshot(&self) -> IngestSnapshot {
        let inner = &self.0;
        IngestSnapshot {
            received: inner.received.load(Relaxed),
            stored: inner.stored.load(Relaxed),
            letters: inner.letters.load(Relaxed),
            acknowledged: inner.acknowledged.load(Relaxed),
            dropped: inner.dropped.load(Relaxed),
            connections: inner.connections.load(Relaxed),
            sessions_begun: inner.sessions_begun.load(Relaxed),
            open: inner.open.load(Relaxed),
            leads: inner.leads.load(Relaxed),
            connected: inner.connected.load(Relaxed),
            trouble: self.trouble().clone(),
        }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
