//! Shows in the node table that this node lives.
//!
//! Child of `NodeSupervisor`. Writes the node's row every second; each write that succeeded is a beat of the pulse, without which
//! the lanes stand still. Told to drain it says so in the row at once; told to leave it takes the row away. A row that a later
//! boot of the same name has taken means that this process must end: the program is told.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::flow::Pulse;
use crate::observe::{Mailbox, Meter};
use crate::ports::{FailureKind, NodeRow, NodeTable, NodeTableError};

/// A pulse lasts two beats, so one that failed is repeated long before the next is due.
const REPEAT_AFTER: Duration = Duration::from_millis(250);

pub(super) struct Heartbeat;

#[derive(Debug)]
pub(super) enum HeartbeatMsg {
    BeatDue,
    /// A failed beat is to be repeated.
    RepeatDue,
    /// What became of the write that began then.
    Written(Instant, Result<(), NodeTableError>),
    /// The node gives its leases away.
    Drain,
    /// It takes part again.
    Resume,
    /// The node ends; answered when its row is gone, or could not be removed.
    Leave(RpcReplyPort<()>),
}

pub(super) struct HeartbeatArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) table: Arc<dyn NodeTable>,
    pub(super) row: NodeRow,
    pub(super) every: Duration,
    pub(super) pulse: Pulse,
    /// Called when a later boot has taken the row.
    pub(super) superseded: Arc<dyn Fn() + Send + Sync>,
}

pub(super) struct HeartbeatState {
    args: HeartbeatArgs,
    myself: Mailbox<HeartbeatMsg>,
    registered: bool,
    running: JoinSet<()>,
    writing: bool,
    /// The row changed while it was being written.
    again: bool,
    repeat_due: bool,
    leaving: bool,
    failing: bool,
}

impl ractor::Message for HeartbeatMsg {}

impl Actor for Heartbeat {
    type Msg = HeartbeatMsg;
    type State = HeartbeatState;
    type Arguments = HeartbeatArgs;

    async fn pre_start(&self, myself: ActorRef<HeartbeatMsg>, args: HeartbeatArgs) -> Result<HeartbeatState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        myself.cast(HeartbeatMsg::BeatDue)?;
        Ok(HeartbeatState {
            args,
            myself,
            registered: false,
            running: JoinSet::new(),
            writing: false,
            again: false,
            repeat_due: false,
            leaving: false,
            failing: false,
        })
    }

    async fn handle(
        &self,
        _: ActorRef<HeartbeatMsg>,
        message: HeartbeatMsg,
        state: &mut HeartbeatState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HeartbeatMsg::BeatDue => {
                state.myself.cast_after(state.args.every, || HeartbeatMsg::BeatDue);
                while let Some(ended) = state.running.try_join_next() {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        return Err(error.into());
                    }
                }
                state.beat();
            }
            HeartbeatMsg::RepeatDue => {
                state.repeat_due = false;
                state.beat();
            }
            HeartbeatMsg::Written(begun, result) => state.written(begun, result),
            HeartbeatMsg::Drain => state.show_draining(true),
            HeartbeatMsg::Resume => state.show_draining(false),
            HeartbeatMsg::Leave(done) => state.leave(done),
        }
        Ok(())
    }
}

impl HeartbeatState {
    fn show_draining(&mut self, draining: bool) {
        self.args.row.draining = draining;
        self.beat();
    }

    fn beat(&mut self) {
        if self.leaving {
            return;
        }
        if self.writing {
            self.again = true;
            return;
        }
        (self.writing, self.again) = (true, false);
        self.args.row.heartbeat += 1;
        let (table, row, registered) = (Arc::clone(&self.args.table), self.args.row.clone(), self.registered);
        let myself = self.myself.clone();
        self.running.spawn(async move {
            let mut begun = Instant::now();
            let mut result = match if registered { table.beat(&row).await } else { table.register(&row).await } {
                // A row that somebody deleted is no later boot's.
                Err(NodeTableError::Superseded(_)) if registered => table.register(&row).await,
                result => result,
            };
            // Somebody may have deleted the whole table.
            if matches!(&result, Err(NodeTableError::Remote(error)) if error.kind == FailureKind::Refused)
                && table.ensure().await.is_ok()
            {
                begun = Instant::now();
                result = table.register(&row).await;
            }
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(HeartbeatMsg::Written(begun, result));
        });
    }

    fn written(&mut self, begun: Instant, result: Result<(), NodeTableError>) {
        self.writing = false;
        match result {
            Ok(()) => {
                self.args.pulse.beat(begun);
                self.registered = true;
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the heartbeat is written again");
                }
                if self.again {
                    self.beat();
                }
            }
            Err(NodeTableError::Superseded(name)) => {
                tracing::error!(name, "a later start of this name has taken over; this node ends");
                self.leaving = true;
                (self.args.superseded)();
            }
            Err(NodeTableError::Remote(error)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the heartbeat cannot be written; the lanes stand still until it is");
                }
                if !std::mem::replace(&mut self.repeat_due, true) {
                    self.myself.cast_after(REPEAT_AFTER, || HeartbeatMsg::RepeatDue);
                }
            }
        }
    }

    fn leave(&mut self, done: RpcReplyPort<()>) {
        self.leaving = true;
        // A beat that is still on its way finds no row of this boot and changes nothing.
        self.running.abort_all();
        let (table, row) = (Arc::clone(&self.args.table), self.args.row.clone());
        self.running.spawn(async move {
            if let Err(error) = table.remove(&row.name, row.boot).await {
                tracing::warn!(%error, "this node's row was not removed; others see it stand still");
            }
            let _gone = done.send(());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::observe::{ActorTable, Spot};
    use crate::testing::{MemoryNodeTable, failure};

    struct Rig {
        table: MemoryNodeTable,
        pulse: Pulse,
        superseded: Arc<AtomicUsize>,
        heartbeat: Mailbox<HeartbeatMsg>,
    }

    fn row(boot: u64) -> NodeRow {
        let (name, heartbeat, draining) = ("node-1".to_owned(), 0, false);
        NodeRow { name, boot, address: None, dashboard: None, roles: Vec::new(), heartbeat, draining }
    }

    async fn rig() -> Rig {
        let (table, pulse, superseded) = (MemoryNodeTable::default(), Pulse::lasting(secs(2)), Arc::new(AtomicUsize::new(0)));
        let told = Arc::clone(&superseded);
        let args = |meter| HeartbeatArgs {
            meter,
            table: Arc::new(table.clone()),
            row: row(7),
            every: secs(1),
            pulse: pulse.clone(),
            superseded: Arc::new(move || {
                told.fetch_add(1, Relaxed);
            }),
        };
        let heartbeat = ActorTable::default().spawn(&Spot::root("Heartbeat", "heartbeat"), None, Heartbeat, args).await;
        Rig { table, pulse, superseded, heartbeat: heartbeat.expect("it starts") }
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Time is paused, so this ends when everything until then has happened.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    impl Rig {
        fn heartbeat(&self) -> u64 {
            self.table.row("node-1").expect("it is registered").heartbeat
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_beats_every_second_and_its_pulse_with_it() {
        let rig = rig().await;
        pass(Duration::from_millis(10_500)).await;
        assert_eq!(rig.heartbeat(), 11);
        assert!(rig.pulse.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_beat_is_repeated_soon_but_an_outage_is_no_storm() {
        let rig = rig().await;
        pass(Duration::from_millis(1_500)).await;
        rig.table.outage.fail_next(1, failure(FailureKind::TimedOut));
        pass(secs(1)).await;
        assert!(rig.pulse.is_fresh(), "the repeat came in time");
        rig.table.outage.fail_for(secs(60), failure(FailureKind::Unreachable));
        let before = rig.table.outage.n_calls();
        pass(secs(59)).await;
        assert!(!rig.pulse.is_fresh());
        let calls = rig.table.outage.n_calls() - before;
        assert!((59..=59 * 5).contains(&calls), "{calls} calls");
        pass(secs(2)).await;
        assert!(rig.pulse.is_fresh());
        assert_eq!(rig.superseded.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_boot_ends_the_node_and_its_row_is_left_alone() {
        let rig = rig().await;
        pass(secs(2)).await;
        rig.table.register(&row(8)).await.expect("a later boot may");
        pass(secs(5)).await;
        assert_eq!(rig.superseded.load(Relaxed), 1);
        assert_eq!(rig.table.row("node-1"), Some(row(8)));
        assert!(!rig.pulse.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_somebody_deleted_is_written_again() {
        let rig = rig().await;
        pass(secs(2)).await;
        rig.table.remove("node-1", 7).await.expect("removed");
        pass(secs(2)).await;
        assert!(rig.table.row("node-1").is_some() && rig.pulse.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_somebody_deleted_is_made_again() {
        let rig = rig().await;
        pass(secs(2)).await;
        rig.table.delete_table();
        pass(secs(2)).await;
        assert!(rig.table.row("node-1").is_some() && rig.pulse.is_fresh());
        assert_eq!(rig.superseded.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_is_told_at_once_and_a_node_that_leaves_has_no_row() {
        let rig = rig().await;
        pass(Duration::from_millis(100)).await;
        rig.table.outage.delay(Duration::from_millis(200));
        pass(Duration::from_millis(950)).await;
        rig.heartbeat.cast(HeartbeatMsg::Drain).expect("it runs");
        pass(Duration::from_millis(400)).await;
        assert!(rig.table.row("node-1").is_some_and(|row| row.draining), "though a beat was on its way");
        let left = rig.heartbeat.actor().call(HeartbeatMsg::Leave, Some(secs(1))).await.expect("it runs");
        assert!(left.is_success());
        pass(secs(5)).await;
        assert_eq!(rig.table.row("node-1"), None);
    }
}
