//! How the remote calls of a node fare: what fails, since when and why, what does not answer, and how long answers take.
//!
//! Adapters retry within a budget of their own, so a lane may be held up for many seconds before it dies; this says so at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::latency::{Latency, micros};

/// Half of the time over which calls are counted and timed.
const HALF_WINDOW: Duration = Duration::from_secs(5);

/// The calls of a node. A cheap handle.
#[derive(Clone, Default)]
pub struct CallLog(Arc<Mutex<BTreeMap<Key, Fares>>>);

/// Where one adapter notes its calls, and whom it calls for.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    log: Option<CallLog>,
    user: &'static str,
}

/// A call that is under way; dropped before its end, it was given up by whoever wanted it.
#[must_use]
pub struct CallGuard(Option<Begun>);

struct Begun {
    log: CallLog,
    key: Key,
    number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    user: &'static str,
    call: &'static str,
    resource: String,
}

struct Fares {
    born: Instant,
    under_way: BTreeMap<u64, Instant>,
    begun: u64,
    answered: u64,
    failed: u64,
    /// Failures since the last answer.
    streak: u32,
    failing_since: Option<Instant>,
    last_failure: Option<(Instant, String)>,
    answers: Latency,
    failures: Latency,
}

/// How one kind of call fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSnapshot {
    /// Whom the calls are made for: an actor, or `<role>/<actor>`.
    pub user: &'static str,
    /// The API call, such as `kinesis GetRecords`.
    pub call: &'static str,
    /// What it is about, such as a table.
    pub resource: String,
    /// Calls answered so far.
    pub answered: u64,
    /// Calls that failed so far.
    pub failed: u64,
    /// Failures since the last answer.
    pub streak: u32,
    /// How long ago the first of them was.
    pub failing_for: Option<Duration>,
    /// The last failure; holds nothing personal.
    pub last_failure: Option<String>,
    /// How long ago that was.
    pub last_failure_age: Option<Duration>,
    /// How long the oldest call under way has lasted.
    pub unanswered_for: Option<Duration>,
    /// Calls answered within the last 5 to 10 s.
    pub answered_of_late: u64,
    /// Calls failed within the last 5 to 10 s.
    pub failed_of_late: u64,
    /// What 95 of 100 of the answers of late took at most.
    pub p95: Option<Duration>,
}

impl CallLog {
    /// Notes for one adapter.
    #[must_use]
    pub fn of(&self, user: &'static str) -> Calls {
        Calls { log: Some(self.clone()), user }
    }

    /// All kinds of call that were made.
    #[must_use]
    pub fn snapshot(&self) -> Vec<CallSnapshot> {
        let seen = |(key, fares): (&Key, &Fares)| {
            let now = micros(fares.born.elapsed());
            CallSnapshot {
                user: key.user,
                call: key.call,
                resource: key.resource.clone(),
                answered: fares.answered,
                failed: fares.failed,
                streak: fares.streak,
                failing_for: fares.failing_since.map(|since| since.elapsed()),
                last_failure: fares.last_failure.as_ref().map(|(_, why)| why.clone()),
                last_failure_age: fares.last_failure.as_ref().map(|(at, _)| at.elapsed()),
                unanswered_for: fares.under_way.values().min().map(Instant::elapsed),
                answered_of_late: fares.answers.count(now),
                failed_of_late: fares.failures.count(now),
                p95: fares.answers.p95(now),
            }
        };
        self.lock().iter().map(seen).collect()
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Fares)) {
        let mut calls = self.lock();
        if let Some(fares) = calls.get_mut(key) {
            change(fares);
        } else {
            change(calls.entry(key.clone()).or_insert_with(Fares::new));
        }
    }

    /// The map holds counters only, so a panic while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Fares>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Notes nothing.
    #[must_use]
    pub const fn unwatched() -> Self {
        Self { log: None, user: "" }
    }

    /// Notes that a call begins.
    pub fn begin(&self, call: &'static str, resource: &str) -> CallGuard {
        let Some(log) = &self.log else { return CallGuard(None) };
        let key = Key { user: self.user, call, resource: resource.to_owned() };
        let mut number = 0;
        log.change(&key, |fares| {
            fares.begun += 1;
            number = fares.begun;
            fares.under_way.insert(number, Instant::now());
        });
        CallGuard(Some(Begun { log: log.clone(), key, number }))
    }
}

impl CallGuard {
    /// The other side answered, be it with a refusal of what was asked.
    pub fn answered(self) {
        self.end(|fares, took| {
            fares.answered += 1;
            fares.streak = 0;
            fares.failing_since = None;
            fares.answers.record(micros(fares.born.elapsed()), micros(took));
        });
    }

    /// It did not answer, or could not do what was asked.
    pub fn failed(self, why: &impl fmt::Display) {
        self.end(|fares, took| {
            fares.failed += 1;
            fares.streak += 1;
            fares.failing_since.get_or_insert_with(Instant::now);
            fares.last_failure = Some((Instant::now(), why.to_string()));
            fares.failures.record(micros(fares.born.elapsed()), micros(took));
        });
    }

    fn end(mut self, note: impl FnOnce(&mut Fares, Duration)) {
        let Some(Begun { log, key, number }) = self.0.take() else { return };
        log.change(&key, |fares| {
            let took = fares.under_way.remove(&number).map(|at| at.elapsed()).unwrap_or_default();
            note(fares, took);
        });
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if let Some(Begun { log, key, number }) = self.0.take() {
            log.change(&key, |fares| {
                fares.under_way.remove(&number);
            });
        }
    }
}

impl Fares {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            under_way: BTreeMap::new(),
            begun: 0,
            answered: 0,
            failed: 0,
            streak: 0,
            failing_since: None,
            last_failure: None,
            answers: Latency::over(HALF_WINDOW),
            failures: Latency::over(HALF_WINDOW),
        }
    }
}

impl fmt::Debug for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallLog")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(log: &CallLog) -> CallSnapshot {
        let [seen] = log.snapshot().try_into().expect("one kind of call");
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_from_the_first_one_after_an_answer() {
        let log = CallLog::default();
        let calls = log.of("driver_lookup");
        calls.begin("query", "warehouse").answered();
        for _ in 0..3 {
            calls.begin("query", "warehouse").failed(&"unreachable");
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let seen = only(&log);
        assert_eq!((seen.answered, seen.failed, seen.streak), (1, 3, 3));
        assert_eq!((seen.failing_for, seen.last_failure_age), (Some(Duration::from_secs(3)), Some(Duration::from_secs(1))));
        assert_eq!((seen.answered_of_late, seen.failed_of_late, seen.last_failure.as_deref()), (1, 3, Some("unreachable")));
        calls.begin("query", "warehouse").answered();
        let seen = only(&log);
        assert_eq!((seen.streak, seen.failing_for, seen.failed), (0, None, 3));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!((only(&log).answered_of_late, only(&log).failed_of_late, only(&log).p95), (0, 0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ages_until_it_is_given_up() {
        let log = CallLog::default();
        let calls = log.of("owner_notifier");
        let call = calls.begin("sns Publish", "SMS");
        tokio::time::advance(Duration::from_secs(2)).await;
        let second = calls.begin("sns Publish", "SMS");
        assert_eq!(only(&log).unanswered_for, Some(Duration::from_secs(2)));
        drop(call);
        assert_eq!(only(&log).unanswered_for, Some(Duration::ZERO));
        second.answered();
        assert_eq!((only(&log).unanswered_for, only(&log).answered, only(&log).failed), (None, 1, 0));
        Calls::unwatched().begin("sns Publish", "SMS").answered();
        assert_eq!(only(&log).answered, 1);
    }
}
