//! A node's memory of drivers, in front of the warehouse.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as WallInstant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Driver, PlateKey};
use crate::ports::{DriverDirectory, FailureKind, RemoteFailure};

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

type Found = HashMap<PlateKey, Option<Arc<Driver>>>;
type Answer = Result<Found, RemoteFailure>;

/// A handle to the cache; clones share it. What it runs in the background ends with the last of them.
#[derive(Clone)]
pub struct CachedDrivers {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
    _coalescer: Arc<AbortOnDropHandle<()>>,
}

struct Shared {
    cache: Cache<PlateKey, Entry>,
    /// Number of loads committed so far. Each entry notes it, so that one made from an older answer never counts as a hit, even
    /// if it is inserted after the cache was emptied.
    epoch: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    queries: AtomicU64,
    failed_queries: AtomicU64,
    asked_again: AtomicU64,
}

#[derive(Clone)]
struct Entry {
    epoch: u64,
    driver: Option<Arc<Driver>>,
}

struct Ask {
    plates: Vec<PlateKey>,
    reply: oneshot::Sender<Answer>,
}

struct Lifetimes {
    known: Duration,
    unknown: Duration,
}

impl Expiry<PlateKey, Entry> for Lifetimes {
    fn expire_after_create(&self, _: &PlateKey, entry: &Entry, _: WallInstant) -> Option<Duration> {
        let longest = if entry.driver.is_some() { self.known } else { self.unknown };
        Some(longest.mul_f64(rand::random_range(0.9..=1.0)))
    }

    fn expire_after_update(&self, plate: &PlateKey, entry: &Entry, at: WallInstant, _: Option<Duration>) -> Option<Duration> {
        self.expire_after_create(plate, entry, at)
    }
}

impl CachedDrivers {
    /// An empty cache in front of `directory`. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(directory: Arc<dyn DriverDirectory>, limits: DriverCacheLimits) -> Self {
        let lifetimes = Lifetimes { known: limits.known_ttl, unknown: limits.unknown_ttl };
        let shared = Arc::new(Shared {
            cache: Cache::builder().max_capacity(limits.max_entries).expire_after(lifetimes).build(),
            epoch: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            failed_queries: AtomicU64::new(0),
            asked_again: AtomicU64::new(0),
        });
        let (asks, inbox) = mpsc::channel(MOST_WAITING_ASKS);
        let coalescer = Coalescer {
            directory,
            shared: Arc::clone(&shared),
            limits,
            waiters: HashMap::new(),
            n_waiters: 0,
            wanted: HashMap::new(),
            pending: VecDeque::new(),
            flush_at: None,
            queries: FuturesUnordered::new(),
        };
        let coalescer = AbortOnDropHandle::new(tokio::spawn(coalescer.run(inbox)));
        Self { shared, asks, _coalescer: Arc::new(coalescer) }
    }

    /// The drivers of these plates; `None` for a plate without one. Every plate asked for is in the answer.
    ///
    /// # Errors
    /// When a plate is not remembered and the directory does not answer; nothing is remembered of that.
    pub async fn resolve(&self, plates: &[PlateKey]) -> Result<Found, RemoteFailure> {
        let mut found = HashMap::with_capacity(plates.len());
        let mut missing = HashSet::new();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        for plate in plates {
            if found.contains_key(plate) || missing.contains(plate) {
                continue;
            }
            match self.shared.cache.get(plate).await {
                Some(entry) if entry.epoch == epoch => {
                    found.insert(plate.clone(), entry.driver);
                }
                _ => {
                    missing.insert(plate.clone());
                }
            }
        }
        add(&self.shared.hits, found.len());
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
        self.asks.send(Ask { plates: missing.into_iter().collect(), reply }).await.map_err(|_| ended())?;
        found.extend(answer.await.map_err(|_| ended())??);
        Ok(found)
    }

    /// Notes that drivers were loaded into the warehouse: what is remembered counts no more, and answers to queries that are on
    /// their way are asked for again.
    pub fn load_committed(&self) {
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        self.shared.cache.invalidate_all();
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

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// Gathers misses into queries. Each plate is asked for once at a time, however many wait for it.
struct Coalescer {
    directory: Arc<dyn DriverDirectory>,
    shared: Arc<Shared>,
    limits: DriverCacheLimits,
    waiters: HashMap<u64, Waiter>,
    n_waiters: u64,
    /// Who waits for a plate that is pending or being asked for.
    wanted: HashMap<PlateKey, Vec<u64>>,
    pending: VecDeque<PlateKey>,
    flush_at: Option<Instant>,
    queries: FuturesUnordered<BoxFuture<'static, QueryEnd>>,
}

struct Waiter {
    found: Found,
    n_missing: usize,
    reply: oneshot::Sender<Answer>,
}

struct QueryEnd {
    plates: Vec<PlateKey>,
    epoch: u64,
    answer: Result<HashMap<PlateKey, Driver>, RemoteFailure>,
}

impl Coalescer {
    async fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
        loop {
            self.start_queries();
            let may_start = self.queries.len() < self.limits.most_queries;
            let flush_at = self.flush_at.filter(|_| may_start);
            tokio::select! {
                ask = inbox.recv() => match ask {
                    Some(ask) => self.accept(ask),
                    None => return,
                },
                Some(end) = self.queries.next() => self.finish(end).await,
                () = tokio::time::sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {}
            }
        }
    }

    fn accept(&mut self, ask: Ask) {
        let id = self.n_waiters;
        self.n_waiters += 1;
        let n_missing = ask.plates.len();
        for plate in ask.plates {
            if !self.wanted.contains_key(&plate) {
                self.pending.push_back(plate.clone());
            }
            self.wanted.entry(plate).or_default().push(id);
        }
        self.waiters.insert(id, Waiter { found: HashMap::new(), n_missing, reply: ask.reply });
        self.arm();
    }

    fn arm(&mut self) {
        if self.pending.is_empty() {
            self.flush_at = None;
        } else if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + self.limits.linger);
        }
    }

    fn start_queries(&mut self) {
        while self.queries.len() < self.limits.most_queries {
            let due = self.flush_at.is_some_and(|at| at <= Instant::now());
            if self.pending.is_empty() || !(due || self.pending.len() >= self.limits.most_keys) {
                return;
            }
            let plates: Vec<_> = self.pending.drain(..self.pending.len().min(self.limits.most_keys)).collect();
            if self.pending.is_empty() {
                self.flush_at = None;
            }
            let directory = Arc::clone(&self.directory);
            let epoch = self.shared.epoch.load(Ordering::Acquire);
            add(&self.shared.queries, 1);
            self.queries.push(Box::pin(async move {
                // A panic in the directory must not take the cache of all lanes with it.
                let answer = AssertUnwindSafe(directory.drivers(&plates)).catch_unwind().await.unwrap_or_else(|_| {
                    let detail = "the directory panicked".to_owned();
                    Err(RemoteFailure { call: "driver lookup", kind: FailureKind::ServerError, detail })
                });
                QueryEnd { plates, epoch, answer }
            }));
        }
    }

    async fn finish(&mut self, end: QueryEnd) {
        match end.answer {
            Ok(_) if end.epoch != self.shared.epoch.load(Ordering::Acquire) => {
                add(&self.shared.asked_again, end.plates.len());
                self.pending.extend(end.plates);
                self.arm();
            }
            Ok(mut drivers) => {
                for plate in end.plates {
                    let driver = drivers.remove(&plate).map(Arc::new);
                    self.shared.cache.insert(plate.clone(), Entry { epoch: end.epoch, driver: driver.clone() }).await;
                    self.answer(&plate, &driver);
                }
            }
            Err(failure) => {
                add(&self.shared.failed_queries, 1);
                for plate in end.plates {
                    for id in self.wanted.remove(&plate).unwrap_or_default() {
                        if let Some(waiter) = self.waiters.remove(&id) {
                            // A send fails only if the lookup was given up, and then nobody misses the answer.
                            drop(waiter.reply.send(Err(failure.clone())));
                        }
                    }
                }
            }
        }
    }

    fn answer(&mut self, plate: &PlateKey, driver: &Option<Arc<Driver>>) {
        for id in self.wanted.remove(plate).unwrap_or_default() {
            let Some(waiter) = self.waiters.get_mut(&id) else { continue };
            waiter.found.insert(plate.clone(), driver.clone());
            waiter.n_missing -= 1;
            if waiter.n_missing == 0
                && let Some(waiter) = self.waiters.remove(&id)
            {
                drop(waiter.reply.send(Ok(waiter.found)));
            }
        }
    }
}
