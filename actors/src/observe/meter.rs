//! The counters of one actor: a handful of atomics, shared by whoever sends to it and the actor itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::latency::{Latency, micros};

/// Half of the time over which percentiles are taken.
const HALF_WINDOW: Duration = Duration::from_secs(30);

/// Counts the messages and the time of one actor. Messages that die with a killed actor die with its meter: the next incarnation
/// gets a new one.
#[derive(Debug)]
pub struct Meter {
    received: AtomicU64,
    done: AtomicU64,
    busy_us: AtomicU64,
    waited_us: AtomicU64,
    /// Microseconds after `born` at which the current wait began, plus one; 0 while nothing waits.
    waiting_since: AtomicU64,
    /// Waits begun and ended.
    wait_steps: AtomicU64,
    /// Pauses that last now, by cause.
    paused: [AtomicU64; Pause::ALL.len()],
    /// Microseconds after `born` at which the handler that runs was called, plus one; 0 while none runs.
    handling_since: AtomicU64,
    /// Which message's time in the mailbox is being taken, by its number; 0 while none is. One at a time is enough for a
    /// percentile, and the others cost no look at the clock.
    sample: AtomicU64,
    sampled_at: AtomicU64,
    /// Whether it handles nothing more, since a test wants it.
    frozen: AtomicBool,
    /// Made for the first message, so that an actor that gets none costs no room.
    latencies: OnceLock<Box<Latencies>>,
    born: Instant,
}

#[derive(Debug)]
struct Latencies {
    handle: Latency,
    mailbox: Latency,
}

/// What an actor waits for on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The delay before a call is tried again.
    Retry,
    /// A claim of somebody who may be alive.
    Claim,
    /// Its node's right to act.
    Tenure,
    /// The rate of texts.
    TextRate,
    /// Its turn among those that send.
    Turn,
}

/// The meter at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Messages sent to the actor and not handled yet.
    pub depth: u64,
    /// Messages sent to the actor.
    pub received: u64,
    /// Messages handled.
    pub done: u64,
    /// Time spent in handlers.
    pub busy: Duration,
    /// Time spent waiting for a rate limit, a retry or a remote answer.
    pub waiting: Duration,
    /// For how long it has been waiting now, if it does.
    pub waiting_for: Option<Duration>,
    /// Waits and pauses begun and ended so far: stands still while one call lasts.
    pub wait_steps: u64,
    /// What it waits for on purpose, if it does; the gravest cause of several.
    pub paused: Option<Pause>,
    /// How long the handler that runs has been running, if one does.
    pub handling_for: Option<Duration>,
    /// Time since the actor was started.
    pub up: Duration,
}

/// How long messages of the last minute took; `None` if there were none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// What 95 of 100 took to be handled.
    pub handle_p95: Option<Duration>,
    /// What 95 of 100 spent in the mailbox, of those whose time was taken.
    pub mailbox_p95: Option<Duration>,
}

/// Counts as waiting until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Waiting(Arc<Meter>);

/// Counts as waiting on purpose until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Pausing(Arc<Meter>, Pause);

impl Pause {
    /// All causes, the gravest first.
    pub const ALL: [Self; 5] = [Self::Retry, Self::Claim, Self::Tenure, Self::TextRate, Self::Turn];

    /// The words used in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Retry => "the delay before a retry",
            Self::Claim => "a claim of another node",
            Self::Tenure => "proof that its node lives",
            Self::TextRate => "the rate of texts",
            Self::Turn => "its turn to send",
        }
    }
}

impl Meter {
    /// A meter at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            received: AtomicU64::new(0),
            done: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
            waiting_since: AtomicU64::new(0),
            wait_steps: AtomicU64::new(0),
            paused: std::array::from_fn(|_| AtomicU64::new(0)),
            handling_since: AtomicU64::new(0),
            sample: AtomicU64::new(0),
            sampled_at: AtomicU64::new(0),
            frozen: AtomicBool::new(false),
            latencies: OnceLock::new(),
            born: Instant::now(),
        })
    }

    pub(crate) fn sent(&self) {
        let number = self.received.fetch_add(1, Relaxed) + 1;
        if self.sample.load(Relaxed) == 0 {
            self.sampled_at.store(micros(self.born.elapsed()), Relaxed);
            self.sample.store(number, Relaxed);
        }
    }

    pub(crate) fn unsent(&self) {
        self.received.fetch_sub(1, Relaxed);
    }

    /// Notes that a handler is called.
    pub(crate) fn begun(&self, at: Instant) {
        let now = micros(at.saturating_duration_since(self.born));
        self.handling_since.store(now + 1, Relaxed);
        let sample = self.sample.load(Relaxed);
        if sample != 0 && self.done.load(Relaxed) + 1 >= sample {
            let waited = now.saturating_sub(self.sampled_at.load(Relaxed));
            self.latencies().mailbox.record(now, waited);
            self.sample.store(0, Relaxed);
        }
    }

    /// Notes that the handler that was called then has returned.
    pub(crate) fn handled(&self, called: Instant) {
        let (called, now) = (micros(called.saturating_duration_since(self.born)), micros(self.born.elapsed()));
        self.handling_since.store(0, Relaxed);
        self.done.fetch_add(1, Relaxed);
        self.busy_us.fetch_add(now.saturating_sub(called), Relaxed);
        self.latencies().handle.record(now, now.saturating_sub(called));
    }

    /// Lets the actor handle nothing more.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Relaxed);
    }

    /// Ends at once, and never once the actor is frozen.
    pub(super) async fn thawed(&self) {
        if self.frozen.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn latencies(&self) -> &Latencies {
        let empty = || Box::new(Latencies { handle: Latency::over(HALF_WINDOW), mailbox: Latency::over(HALF_WINDOW) });
        self.latencies.get_or_init(empty)
    }

    /// Counts the time from now until the guard is dropped as waiting. One wait at a time is enough for a stage, which works on
    /// one batch at a time; a second one is not added.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        let now = micros(self.born.elapsed()) + 1;
        // A lost race means that another wait is being counted already, which is all that is asked for.
        let _already_waiting = self.waiting_since.compare_exchange(0, now, Relaxed, Relaxed);
        self.wait_steps.fetch_add(1, Relaxed);
        Waiting(Arc::clone(self))
    }

    /// Marks the time from now until the guard is dropped as a wait on purpose, which may last for as long as it has to. It is
    /// part of a wait, not one by itself.
    pub fn pause(self: &Arc<Self>, cause: Pause) -> Pausing {
        self.wait_steps.fetch_add(1, Relaxed);
        self.paused[cause as usize].fetch_add(1, Relaxed);
        Pausing(Arc::clone(self), cause)
    }

    /// Works out the percentiles, which costs more than reading the counters.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let Some(latencies) = self.latencies.get() else { return Percentiles::default() };
        let now = micros(self.born.elapsed());
        Percentiles { handle_p95: latencies.handle.p95(now), mailbox_p95: latencies.mailbox.p95(now) }
    }

    /// Reads all counters.
    #[must_use]
    pub fn snapshot(&self) -> MeterSnapshot {
        let up = self.born.elapsed();
        let since = self.waiting_since.load(Relaxed);
        let elapsed = |since: u64| (since != 0).then(|| Duration::from_micros(micros(up).saturating_sub(since - 1)));
        let current = elapsed(since);
        let done = self.done.load(Relaxed);
        let received = self.received.load(Relaxed).max(done);
        MeterSnapshot {
            depth: received - done,
            received,
            done,
            busy: Duration::from_micros(self.busy_us.load(Relaxed)),
            waiting: Duration::from_micros(self.waited_us.load(Relaxed)) + current.unwrap_or_default(),
            waiting_for: current,
            wait_steps: self.wait_steps.load(Relaxed),
            paused: Pause::ALL.into_iter().find(|cause| self.paused[*cause as usize].load(Relaxed) > 0),
            handling_for: elapsed(self.handling_since.load(Relaxed)),
            up,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.wait_steps.fetch_add(1, Relaxed);
        let since = self.0.waiting_since.swap(0, Relaxed);
        if since != 0 {
            let now = micros(self.0.born.elapsed());
            self.0.waited_us.fetch_add(now.saturating_sub(since - 1), Relaxed);
        }
    }
}

impl Drop for Pausing {
    fn drop(&mut self) {
        self.0.wait_steps.fetch_add(1, Relaxed);
        self.0.paused[self.1 as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn depth_is_what_was_sent_and_not_handled() {
        let meter = Meter::new();
        meter.sent();
        meter.sent();
        let called = Instant::now();
        meter.begun(called);
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!(meter.snapshot().handling_for, Some(Duration::from_millis(3)));
        meter.handled(called);
        let seen = meter.snapshot();
        assert_eq!((seen.depth, seen.received, seen.done, seen.busy), (1, 2, 1, Duration::from_millis(3)));
        assert_eq!(seen.handling_for, None);
    }

    #[tokio::test(start_paused = true)]
    async fn percentiles_are_unknown_until_something_was_handled_and_forgotten_after_a_while() {
        let meter = Meter::new();
        meter.sent();
        assert_eq!(meter.percentiles(), Percentiles::default());
        tokio::time::advance(Duration::from_millis(400)).await;
        let called = Instant::now();
        meter.begun(called);
        tokio::time::advance(Duration::from_millis(50)).await;
        meter.handled(called);
        let seen = meter.percentiles();
        let is_about =
            |shown: Option<Duration>, true_ms: u128| shown.expect("one was handled").as_millis().abs_diff(true_ms) * 8 <= true_ms;
        assert!(is_about(seen.handle_p95, 50) && is_about(seen.mailbox_p95, 400), "{seen:?}");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(meter.percentiles(), Percentiles::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_grows_while_it_lasts_and_stays_counted() {
        let meter = Meter::new();
        let waiting = meter.wait();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(
            (meter.snapshot().waiting, meter.snapshot().waiting_for),
            (Duration::from_secs(2), Some(Duration::from_secs(2)))
        );
        drop(waiting);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((meter.snapshot().waiting, meter.snapshot().waiting_for), (Duration::from_secs(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_and_pause_is_a_step_when_it_begins_and_when_it_ends() {
        let meter = Meter::new();
        let waiting = meter.wait();
        let pauses = (meter.pause(Pause::Retry), meter.pause(Pause::Turn));
        assert_eq!((meter.snapshot().wait_steps, meter.snapshot().paused), (3, Some(Pause::Retry)));
        drop(pauses.0);
        assert_eq!(meter.snapshot().paused, Some(Pause::Turn));
        drop((pauses.1, waiting));
        assert_eq!((meter.snapshot().wait_steps, meter.snapshot().paused), (6, None));
    }
}
