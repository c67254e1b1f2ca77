//! A node's memory of drivers, in front of the warehouse.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::driver_queries::{Ask, Coalescer};
use crate::domain::{Driver, PlateKey};
use crate::observe::{Durations, DurationsSnapshot};
use crate::ports::{Connections, DriverDirectory, FailureKind, RemoteFailure};

/// Lookups on their way to the coalescer; each lane has few at a time, and a full queue only makes them wait.
const MOST_WAITING_ASKS: usize = 256;

/// How much is remembered, and how misses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverCacheLimits {
    /// Most plates remembered.
    pub max_entries: u64,
    /// How long a driver is remembered, less up to a tenth by chance, so that what was learnt together is not forgotten together.
    pub known_ttl: Duration,
    /// How long it is remembered that a plate has no driver.
    pub unknown_ttl: Duration,
    /// How long a miss waits for others to share its query.
    pub linger: Duration,
    /// Most plates of one query.
    pub most_keys: usize,
    /// Most queries at a time: the warehouse has few slots, and others use them too.
    pub most_queries: usize,
}

impl Default for DriverCacheLimits {
    fn default() -> Self {
        Self {
            max_entries: 1_000_000,
            known_ttl: Duration::from_secs(3600),
            unknown_ttl: Duration::from_secs(60),
            linger: Duration::from_millis(5),
            most_keys: 512,
            most_queries: 3,
        }
    }
}

/// What the cache has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DriverCacheSnapshot {
    /// Plates answered from memory.
    pub hits: u64,
    /// Plates that were not.
    pub misses: u64,
    /// Queries sent.
    pub queries: u64,
    /// Queries that failed.
    pub failed_queries: u64,
    /// Plates asked again because a load was committed while their query ran.
    pub asked_again: u64,
    /// Plates remembered, about.
    pub entries: u64,
}

pub(super) type Found = HashMap<PlateKey, Option<Arc<Driver>>>;

/// A handle to the cache; clones share it. What it runs in the background ends with the last of them.
#[derive(Clone)]
pub struct CachedDrivers {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    directory: Arc<dyn DriverDirectory>,
    _coalescer: Arc<AbortOnDropHandle<()>>,
}

pub(super) struct Shared {
    pub(super) cache: Cache<PlateKey, Entry, ahash::RandomState>,
    /// Number of loads committed so far. Each entry notes it, so that one made from an older answer never counts as a hit, even
    /// if it is inserted after the cache was emptied.
    pub(super) epoch: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) queries: AtomicU64,
    pub(super) failed_queries: AtomicU64,
    pub(super) asked_again: AtomicU64,
    /// Queries that were answered.
    pub(super) took: Durations,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) epoch: u64,
    pub(super) driver: Option<Arc<Driver>>,
}

struct Lifetimes {
    known: Duration,
    unknown: Duration,
}

impl Expiry<PlateKey, Entry> for Lifetimes {
    fn expire_after_create(&self, _: &PlateKey, entry: &Entry, _: Instant) -> Option<Duration> {
        let longest = if entry.driver.is_some() { self.known } else { self.unknown };
        Some(longest.mul_f64(rand::random_range(0.9..=1.0)))
    }

    fn expire_after_update(&self, plate: &PlateKey, entry: &Entry, at: Instant, _: Option<Duration>) -> Option<Duration> {
        self.expire_after_create(plate, entry, at)
    }
}

impl CachedDrivers {
    /// An empty cache in front of `directory`. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(directory: Arc<dyn DriverDirectory>, limits: DriverCacheLimits) -> Self {
        let lifetimes = Lifetimes { known: limits.known_ttl, unknown: limits.unknown_ttl };
        let shared = Arc::new(Shared {
            cache: Cache::builder()
                .max_capacity(limits.max_entries)
                .expire_after(lifetimes)
                .build_with_hasher(ahash::RandomState::new()),
            epoch: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            failed_queries: AtomicU64::new(0),
            asked_again: AtomicU64::new(0),
            took: Durations::default(),
        });
        let (asks, inbox) = mpsc::channel(MOST_WAITING_ASKS);
        let coalescer = Coalescer::new(Arc::clone(&directory), Arc::clone(&shared), limits);
        let coalescer = AbortOnDropHandle::new(tokio::spawn(coalescer.run(inbox)));
        Self { shared, asks, directory, _coalescer: Arc::new(coalescer) }
    }

    /// The drivers of these plates, in their order; `None` for a plate without one.
    ///
    /// # Errors
    /// When a plate is not remembered and the directory does not answer; nothing is remembered of that.
    pub async fn resolve(&self, plates: &[PlateKey]) -> Result<Vec<Option<Arc<Driver>>>, RemoteFailure> {
        let mut found = Vec::with_capacity(plates.len());
        let mut missing: HashMap<&PlateKey, Vec<usize>> = HashMap::new();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        for (at, plate) in plates.iter().enumerate() {
            match self.shared.cache.get(plate) {
                Some(entry) if entry.epoch == epoch => found.push(entry.driver),
                _ => {
                    found.push(None);
                    missing.entry(plate).or_default().push(at);
                }
            }
        }
        add(&self.shared.hits, plates.len() - missing.values().map(Vec::len).sum::<usize>());
        if missing.is_empty() {
            return Ok(found);
        }
        add(&self.shared.misses, missing.len());
        let ended = || RemoteFailure {
            call: "driver lookup",
            kind: FailureKind::Unreachable,
            detail: "the cache is being shut down".to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        let plates = missing.keys().map(|plate| (*plate).clone()).collect();
        self.asks.send(Ask { plates, reply }).await.map_err(|_| ended())?;
        for (plate, driver) in answer.await.map_err(|_| ended())?? {
            for at in missing.remove(&plate).unwrap_or_default() {
                found[at].clone_from(&driver);
            }
        }
        Ok(found)
    }

    /// Notes that drivers were loaded into the warehouse: what is remembered counts no more, and answers to queries that are on
    /// their way are asked for again.
    pub fn load_committed(&self) {
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        self.shared.cache.invalidate_all();
    }

    /// How long queries took that were answered, repeats and the wait for a connection included.
    #[must_use]
    pub fn query_times(&self) -> DurationsSnapshot {
        self.shared.took.snapshot()
    }

    /// How the connections to the warehouse are used now.
    #[must_use]
    pub fn connections(&self) -> Option<Connections> {
        self.directory.connections()
    }

    /// What the cache has done so far.
    #[must_use]
    pub fn snapshot(&self) -> DriverCacheSnapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DriverCacheSnapshot {
            hits: count(&self.shared.hits),
            misses: count(&self.shared.misses),
            queries: count(&self.shared.queries),
            failed_queries: count(&self.shared.failed_queries),
            asked_again: count(&self.shared.asked_again),
            entries: self.shared.cache.entry_count(),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryDriverDirectory, failure, sample_driver};

    fn cache(directory: &MemoryDriverDirectory) -> CachedDrivers {
        CachedDrivers::new(Arc::new(directory.clone()), DriverCacheLimits::default())
    }

    fn plates(names: &[&str]) -> Vec<PlateKey> {
        names.iter().map(|name| PlateKey::of(name)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn known_and_unknown_plates_are_asked_for_once() {
        let directory = MemoryDriverDirectory::default();
        directory.register("A", sample_driver("Ada"));
        let cache = cache(&directory);
        for _ in 0..3 {
            let found = cache.resolve(&plates(&["A", "B", "A"])).await.expect("the directory answers");
            assert_eq!(found.len(), 3);
            assert_eq!(&*found[0].as_ref().expect("a driver").first_name, "Ada");
            assert_eq!(found[1], None);
            assert_eq!(found[2], found[0]);
        }
        assert_eq!(directory.calls().len(), 1);
        let seen = cache.snapshot();
        assert_eq!((seen.hits, seen.misses, seen.queries), (6, 2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_misses_become_few_queries_of_limited_width() {
        let directory = MemoryDriverDirectory::default();
        directory.outage.delay(Duration::from_millis(100));
        let cache = cache(&directory);
        let lookups = (0..2000).map(|n| {
            let cache = cache.clone();
            async move { cache.resolve(&plates(&[&format!("P{}", n % 1000)])).await.expect("the directory answers") }
        });
        futures::future::join_all(lookups).await;
        let calls = directory.calls();
        assert!(calls.len() <= 4, "{} queries", calls.len());
        assert!(calls.iter().all(|call| call.len() <= 512));
        assert_eq!(calls.iter().map(Vec::len).sum::<usize>(), 1000, "each plate was asked for once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_a_load_is_neither_used_nor_remembered() {
        let directory = MemoryDriverDirectory::default();
        directory.register("A", sample_driver("Old"));
        directory.outage.delay(Duration::from_secs(1));
        let cache = cache(&directory);
        let asked = plates(&["A"]);
        let load = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            directory.register("A", sample_driver("New"));
            cache.load_committed();
        };
        let (found, ()) = tokio::join!(cache.resolve(&asked), load);
        assert_eq!(&*found.expect("the directory answers")[0].as_ref().expect("a driver").first_name, "New");
        assert_eq!(directory.calls().len(), 2);
        directory.register("A", sample_driver("Newest"));
        cache.load_committed();
        let found = cache.resolve(&asked).await.expect("the directory answers");
        assert_eq!(&*found[0].as_ref().expect("a driver").first_name, "Newest");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_reach_every_waiter_and_are_not_remembered() {
        let directory = MemoryDriverDirectory::default();
        directory.outage.fail_next(1, failure(FailureKind::TimedOut));
        let cache = cache(&directory);
        let (one, other) = (plates(&["A"]), plates(&["A", "B"]));
        let (first, second) = tokio::join!(cache.resolve(&one), cache.resolve(&other));
        assert_eq!(first.expect_err("told to fail").kind, FailureKind::TimedOut);
        assert_eq!(second.expect_err("told to fail").kind, FailureKind::TimedOut);
        assert_eq!(cache.resolve(&other).await.expect("the directory answers").len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_background_work_ends_with_the_last_handle() {
        let directory: Arc<dyn DriverDirectory> = Arc::new(MemoryDriverDirectory::default());
        let cache = CachedDrivers::new(Arc::clone(&directory), DriverCacheLimits::default());
        let other = cache.clone();
        drop(cache);
        assert!(other.resolve(&plates(&["A"])).await.is_ok());
        drop(other);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(Arc::strong_count(&directory), 1);
    }

    #[test]
    fn entries_live_as_long_as_their_kind_less_a_little() {
        let lifetimes = Lifetimes { known: Duration::from_secs(3600), unknown: Duration::from_secs(60) };
        let age = |driver| {
            lifetimes.expire_after_create(&PlateKey::of("A"), &Entry { epoch: 0, driver }, Instant::now()).expect("a lifetime")
        };
        assert!((Duration::from_secs(54)..=Duration::from_secs(60)).contains(&age(None)));
        assert!((Duration::from_secs(3240)..=Duration::from_secs(3600)).contains(&age(Some(Arc::new(sample_driver("Ada"))))));
    }
}
