//! How misses of the driver cache become few queries.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cached_drivers::{DriverCacheLimits, Entry, Found, Shared, add};
use crate::domain::{Driver, PlateKey};
use crate::ports::{DriverDirectory, FailureKind, RemoteFailure};

type Answer = Result<Found, RemoteFailure>;

/// Plates that somebody waits for.
pub(super) struct Ask {
    pub(super) plates: Vec<PlateKey>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// Gathers misses into queries. Each plate is asked for once at a time, however many wait for it.
pub(super) struct Coalescer {
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
    pub(super) fn new(directory: Arc<dyn DriverDirectory>, shared: Arc<Shared>, limits: DriverCacheLimits) -> Self {
        Self {
            directory,
            shared,
            limits,
            waiters: HashMap::new(),
            n_waiters: 0,
            wanted: HashMap::new(),
            pending: VecDeque::new(),
            flush_at: None,
            queries: FuturesUnordered::new(),
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Ask>) {
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
            let shared = Arc::clone(&self.shared);
            add(&self.shared.queries, 1);
            self.queries.push(Box::pin(async move {
                let begun = Instant::now();
                // A panic in the directory must not take the cache of all lanes with it.
                let answer = AssertUnwindSafe(directory.drivers(&plates)).catch_unwind().await.unwrap_or_else(|_| {
                    let detail = "the directory panicked".to_owned();
                    Err(RemoteFailure { call: "driver lookup", kind: FailureKind::ServerError, detail })
                });
                if answer.is_ok() {
                    shared.took.record(begun.elapsed());
                }
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
                    self.shared.cache.insert(plate.clone(), Entry { epoch: end.epoch, driver: driver.clone() });
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
