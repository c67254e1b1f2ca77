//! The rows of all actors of a process, and the log of their restarts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ractor::{Actor, ActorCell, ActorId, SpawnErr};

use super::metered::Metered;
use super::{Mailbox, Meter, MeterSnapshot, Percentiles};

/// Restarts kept in the log.
const RESTARTS_KEPT: usize = 200;

/// All actors of a process. A cheap handle; every actor gets one in its arguments if it spawns others.
#[derive(Clone, Default)]
pub struct ActorTable(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    rows: BTreeMap<String, Row>,
    restarts: VecDeque<Restart>,
}

struct Row {
    kind: &'static str,
    parent: Option<String>,
    state: ActorState,
    pid: Option<ActorId>,
    meter: Arc<Meter>,
    restarts: u64,
    restarts_by_class: BTreeMap<&'static str, u64>,
    last: Option<Restart>,
    /// Noted before its incarnation is ended by it.
    ordered: Option<Ordered>,
}

/// An operator's word that an actor is to end and start again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Who said so.
    pub by: String,
    /// What stands in the restart log.
    pub reason: String,
}

/// Where an actor stands in the tree.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Its path, such as `enrich/shardId-000000000001/speed_filter`; the same for each incarnation.
    pub path: String,
    /// What it is, such as `SpeedFilter`.
    pub kind: &'static str,
    /// Its supervisor's path; `None` for the root.
    pub parent: Option<String>,
}

/// What an actor is doing as far as its supervisor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorState {
    /// It takes messages.
    Running,
    /// It is dead and will be started again after a delay.
    Backoff,
    /// It ended and will not be started again.
    Stopped,
}

/// One end of an actor that its supervisor did not ask for.
#[derive(Debug, Clone)]
pub struct Restart {
    /// When.
    pub at: SystemTime,
    /// The actor's path.
    pub path: String,
    /// Why; holds nothing personal.
    pub reason: String,
    /// The operator who ended it; `None` if it ended by itself.
    pub by: Option<String>,
    /// How many restarts the actor had, this one included.
    pub attempt: u64,
    /// How long its supervisor waited before it; `None` until that is known.
    pub delay: Option<Duration>,
}

/// One actor as it is seen.
#[derive(Debug, Clone)]
pub struct ActorRow {
    /// The actor's place in the tree.
    pub spot: Spot,
    /// The process-wide number of this incarnation; `None` while it is not running.
    pub pid: Option<u64>,
    /// What it is doing.
    pub state: ActorState,
    /// Its counters.
    pub meter: MeterSnapshot,
    counted_by: Arc<Meter>,
    /// How often it was restarted.
    pub restarts: u64,
    /// Of those, how many for each class of reason.
    pub restarts_by_class: BTreeMap<&'static str, u64>,
    /// The last restart.
    pub last_restart: Option<Restart>,
}

impl ActorRow {
    /// How long its messages of the last minute took.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        self.counted_by.percentiles()
    }
}

impl Spot {
    /// The root of a tree.
    #[must_use]
    pub fn root(kind: &'static str, name: &str) -> Self {
        Self { path: name.to_owned(), kind, parent: None }
    }

    /// A place below this one.
    #[must_use]
    pub fn child(&self, kind: &'static str, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path), kind, parent: Some(self.path.clone()) }
    }
}

impl ActorTable {
    /// Spawns an actor, linked to its supervisor if it has one, with a meter of its own. `args` is made with that meter, so that
    /// the actor can count its own timers and waits.
    ///
    /// # Errors
    /// When the actor's `pre_start` fails.
    pub async fn spawn<A: Actor>(
        &self,
        spot: &Spot,
        supervisor: Option<ActorCell>,
        actor: A,
        args: impl FnOnce(Arc<Meter>) -> A::Arguments,
    ) -> Result<Mailbox<A::Msg>, SpawnErr> {
        let meter = Meter::new();
        let args = args(Arc::clone(&meter));
        let wrapped = Metered { inner: actor, meter: Arc::clone(&meter) };
        // Unnamed: registry names are process-wide, and a dying incarnation would still hold its name.
        let (actor, _) = match supervisor {
            Some(supervisor) => Actor::spawn_linked(None, wrapped, args, supervisor).await?,
            None => Actor::spawn(None, wrapped, args).await?,
        };
        self.started(spot, actor.get_id(), Arc::clone(&meter));
        Ok(Mailbox::new(actor, meter))
    }

    pub(super) fn started(&self, spot: &Spot, pid: ActorId, meter: Arc<Meter>) {
        let mut inner = self.lock();
        let known = inner.rows.get(&spot.path);
        let (restarts, last) = known.map_or((0, None), |row| (row.restarts, row.last.clone()));
        let restarts_by_class = known.map(|row| row.restarts_by_class.clone()).unwrap_or_default();
        let row = Row {
            kind: spot.kind,
            parent: spot.parent.clone(),
            state: ActorState::Running,
            pid: Some(pid),
            meter,
            restarts,
            restarts_by_class,
            last,
            ordered: None,
        };
        inner.rows.insert(spot.path.clone(), row);
    }

    /// Notes that an operator ends the running incarnation of an actor, which the caller then does with what this returns. `None`
    /// if it does not run now.
    #[must_use]
    pub fn order(&self, path: &str, ordered: Ordered) -> Option<ActorCell> {
        let mut inner = self.lock();
        let row = inner.rows.get_mut(path)?;
        let cell = ractor::registry::where_is_pid(row.pid?)?;
        row.ordered = Some(ordered);
        Some(cell)
    }

    /// Freezes the running incarnation of an actor: the next message is never handled. Tests do so to see it told of. Whether there
    /// is such an actor.
    #[must_use]
    pub fn freeze(&self, path: &str) -> bool {
        let inner = self.lock();
        let row = inner.rows.get(path).filter(|row| row.pid.is_some());
        row.map(|row| row.meter.freeze()).is_some()
    }

    /// Why an operator ends, or has just ended, this actor: no fault of its own or of a record.
    #[must_use]
    pub fn ordered(&self, path: &str) -> Option<Ordered> {
        self.lock().rows.get(path)?.ordered.clone()
    }

    /// Notes an end that the supervisor will answer with a restart. What ran below it ends, too. An operator's word that was noted
    /// before stands as the reason in place of what the supervisor was told.
    pub fn failed(&self, path: &str, reason: &str) {
        let mut inner = self.lock();
        let Inner { rows, .. } = &mut *inner;
        let below = format!("{path}/");
        let is_below = |other: &str| other.starts_with(&below);
        for (_, row) in rows.range_mut(below.clone()..).take_while(|(other, _)| is_below(other)) {
            if row.pid.take().is_some() {
                row.state = ActorState::Backoff;
            }
        }
        let Some(row) = rows.get_mut(path) else { return };
        row.state = ActorState::Backoff;
        row.pid = None;
        row.restarts += 1;
        let (reason, by) = match row.ordered.take() {
            Some(ordered) => (ordered.reason, Some(ordered.by)),
            None => (reason.to_owned(), None),
        };
        let class = if by.is_some() { "operator" } else { reason_class(&reason) };
        *row.restarts_by_class.entry(class).or_default() += 1;
        let restart = Restart { at: SystemTime::now(), path: path.to_owned(), reason, by, attempt: row.restarts, delay: None };
        row.last = Some(restart.clone());
        inner.restarts.push_back(restart);
        if inner.restarts.len() > RESTARTS_KEPT {
            inner.restarts.pop_front();
        }
    }

    /// Notes how long the supervisor of an actor that failed waits before it starts it again.
    pub fn starts_after(&self, path: &str, delay: Duration) {
        let mut inner = self.lock();
        if let Some(restart) = inner.restarts.iter_mut().rev().find(|restart| restart.path == path) {
            restart.delay = Some(delay);
        }
        if let Some(last) = inner.rows.get_mut(path).and_then(|row| row.last.as_mut()) {
            last.delay = Some(delay);
        }
    }

    /// Notes that an actor waits for its siblings to be started again; it did not fail itself.
    pub fn backing_off(&self, path: &str) {
        if let Some(row) = self.lock().rows.get_mut(path) {
            row.state = ActorState::Backoff;
            row.pid = None;
        }
    }

    /// Notes that an actor ended for good.
    pub fn stopped(&self, path: &str) {
        if let Some(row) = self.lock().rows.get_mut(path) {
            row.state = ActorState::Stopped;
            row.pid = None;
        }
    }

    /// Forgets an actor and all below it, such as the lane of a lease that was given away.
    pub fn forget_tree(&self, path: &str) {
        let below = format!("{path}/");
        self.lock().rows.retain(|other, _| other != path && !other.starts_with(&below));
    }

    /// The path of a running actor.
    #[must_use]
    pub fn path_of(&self, cell: &ActorCell) -> Option<String> {
        let pid = cell.get_id();
        self.lock().rows.iter().find(|(_, row)| row.pid == Some(pid)).map(|(path, _)| path.clone())
    }

    /// All actors, by path.
    #[must_use]
    pub fn rows(&self) -> Vec<ActorRow> {
        self.rows_after(None, usize::MAX)
    }

    /// How many actors there are.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.lock().rows.len()
    }

    /// The next actors by path.
    #[must_use]
    pub fn rows_after(&self, after: Option<&str>, most: usize) -> Vec<ActorRow> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let row_of = |(path, row): (&String, &Row)| ActorRow {
            spot: Spot { path: path.clone(), kind: row.kind, parent: row.parent.clone() },
            pid: row.pid.map(|pid| pid.pid()),
            state: row.state,
            meter: row.meter.snapshot(),
            counted_by: Arc::clone(&row.meter),
            restarts: row.restarts,
            restarts_by_class: row.restarts_by_class.clone(),
            last_restart: row.last.clone(),
        };
        inner.rows.range::<str, _>((from, Bound::Unbounded)).take(most).map(row_of).collect()
    }

    /// The last restarts, oldest first.
    #[must_use]
    pub fn restarts(&self) -> Vec<Restart> {
        self.lock().restarts.iter().cloned().collect()
    }

    /// The table holds counters only, so a panic while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What kind of reason a restart had, by the words that are used for it.
fn reason_class(reason: &str) -> &'static str {
    const REMOTE: [&str; 5] =
        ["failed (throttled)", "failed (timed out)", "failed (unreachable)", "failed (server error)", "failed (refused)"];
    if reason.starts_with("killed by") || reason.starts_with("restarted by") {
        "operator"
    } else if REMOTE.iter().any(|words| reason.contains(words)) {
        "remote"
    } else if reason.contains(" froze: ") {
        "frozen"
    } else {
        "fault"
    }
}

impl ActorState {
    /// The name used in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Debug for ActorTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActorTable")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ractor::{ActorProcessingErr, ActorRef};

    use super::*;

    struct Quiet;

    impl Actor for Quiet {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    fn ordered() -> Ordered {
        Ordered { by: "op".into(), reason: "killed by op: a test".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_actor_handles_nothing_until_it_is_ended_and_started_again() {
        let (table, spot) = (ActorTable::default(), Spot::root("Parent", "node"));
        assert!(!table.freeze("node"), "it does not run yet");
        let actor = table.spawn(&spot, None, Quiet, |_| ()).await.expect("spawned");
        assert!(table.freeze("node"));
        actor.cast(()).expect("it takes messages");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let seen = table.rows()[0].meter;
        assert_eq!((seen.depth, seen.done, seen.handling_for.map(|time| time.as_secs())), (1, 0, Some(5)));
        actor.cell().kill_and_wait(None).await.expect("it ends all the same");
        let actor = table.spawn(&spot, None, Quiet, |_| ()).await.expect("spawned");
        actor.cast(()).expect("it takes messages");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(table.rows()[0].meter.done, 1);
    }

    #[tokio::test]
    async fn an_operators_word_is_the_reason_of_one_restart_and_of_no_later_one() {
        let table = ActorTable::default();
        let parent = Spot::root("Parent", "node");
        let child = parent.child("Child", "child");
        for spot in [&parent, &child] {
            table.spawn(spot, None, Quiet, |_| ()).await.expect("spawned");
        }
        assert!(table.order("node/nobody", ordered()).is_none());
        let cell = table.order("node", ordered()).expect("it runs");
        assert_eq!(Some(cell.get_id().pid()), table.rows()[0].pid);
        table.failed("node", "killed");
        let rows = table.rows();
        assert_eq!((rows[0].state, rows[1].state, rows[1].restarts), (ActorState::Backoff, ActorState::Backoff, 0));
        assert!(table.order("node", ordered()).is_none(), "it does not run");

        table.spawn(&parent, None, Quiet, |_| ()).await.expect("spawned");
        assert_eq!(table.ordered("node"), None);
        table.failed("node", "panicked");
        let log: Vec<_> = table.restarts().into_iter().map(|restart| (restart.reason, restart.by, restart.attempt)).collect();
        let told = ("killed by op: a test".to_owned(), Some("op".to_owned()), 1);
        assert_eq!(log, [told, ("panicked".to_owned(), None, 2)]);
        table.starts_after("node", Duration::from_millis(250));
        let delays: Vec<_> = table.restarts().into_iter().map(|restart| restart.delay).collect();
        assert_eq!(delays, [None, Some(Duration::from_millis(250))]);
        assert_eq!(table.rows()[0].last_restart.as_ref().and_then(|last| last.delay), delays[1]);
    }

    #[tokio::test]
    async fn rows_come_in_parts_by_path() {
        let table = ActorTable::default();
        for name in ["a", "b", "b/c", "d"] {
            table.spawn(&Spot::root("Quiet", name), None, Quiet, |_| ()).await.expect("spawned");
        }
        let part = |after, most| table.rows_after(after, most).into_iter().map(|row| row.spot.path).collect::<Vec<_>>();
        assert_eq!((part(None, 2), part(Some("b"), 9)), (vec!["a".into(), "b".into()], vec!["b/c".into(), "d".into()]));
        assert_eq!((part(Some("c"), 9), part(Some("d"), 9), table.n_rows()), (vec!["d".to_owned()], vec![], 4));
    }
}
