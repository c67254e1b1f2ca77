//! The counters of one actor: a handful of atomics, shared by whoever sends to it and the actor itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

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
    /// Pauses that last now.
    paused: AtomicU64,
    born: Instant,
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
    /// Whether it waits on purpose: for a rate limit, a turn, or the delay before a repeat.
    pub is_paused: bool,
    /// Time since the actor was started.
    pub up: Duration,
}

/// Counts as waiting until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Waiting(Arc<Meter>);

/// Counts as waiting on purpose until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Pausing(Arc<Meter>);

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
            paused: AtomicU64::new(0),
            born: Instant::now(),
        })
    }

    pub(crate) fn sent(&self) {
        self.received.fetch_add(1, Relaxed);
    }

    pub(crate) fn unsent(&self) {
        self.received.fetch_sub(1, Relaxed);
    }

    pub(crate) fn handled(&self, took: Duration) {
        self.done.fetch_add(1, Relaxed);
        self.busy_us.fetch_add(micros(took), Relaxed);
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
    pub fn pause(self: &Arc<Self>) -> Pausing {
        self.wait_steps.fetch_add(1, Relaxed);
        self.paused.fetch_add(1, Relaxed);
        Pausing(Arc::clone(self))
    }

    /// Reads all counters.
    #[must_use]
    pub fn snapshot(&self) -> MeterSnapshot {
        let up = self.born.elapsed();
        let since = self.waiting_since.load(Relaxed);
        let current = (since != 0).then(|| Duration::from_micros(micros(up).saturating_sub(since.saturating_sub(1))));
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
            is_paused: self.paused.load(Relaxed) > 0,
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
        self.0.paused.fetch_sub(1, Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn depth_is_what_was_sent_and_not_handled() {
        let meter = Meter::new();
        meter.sent();
        meter.sent();
        meter.handled(Duration::from_millis(3));
        let seen = meter.snapshot();
        assert_eq!((seen.depth, seen.received, seen.done, seen.busy), (1, 2, 1, Duration::from_millis(3)));
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
        let pauses = (meter.pause(), meter.pause());
        assert_eq!((meter.snapshot().wait_steps, meter.snapshot().is_paused), (3, true));
        drop(pauses.0);
        assert!(meter.snapshot().is_paused);
        drop((pauses.1, waiting));
        assert_eq!((meter.snapshot().wait_steps, meter.snapshot().is_paused), (6, false));
    }
}
