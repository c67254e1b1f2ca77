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

use super::MembershipSettings;
use crate::observe::{Mailbox, Meter};
use crate::ports::{NodeRow, NodeTable, NodeTableError};

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
    /// The node ends; answered when its row is gone, or could not be removed.
    Leave(RpcReplyPort<()>),
}

pub(super) struct HeartbeatArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) settings: MembershipSettings,
    pub(super) table: Arc<dyn NodeTable>,
    pub(super) draining: bool,
}

pub(super) struct HeartbeatState {
    args: HeartbeatArgs,
    myself: Mailbox<HeartbeatMsg>,
    row: NodeRow,
    registered: bool,
    running: JoinSet<()>,
    writing: bool,
    /// The row changed while it was being written.
    again: bool,
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
        let row = NodeRow { draining: args.draining, ..args.settings.me.clone() };
        let running = JoinSet::new();
        let (registered, writing, again, leaving, failing) = (false, false, false, false, false);
        Ok(HeartbeatState { args, myself, row, registered, running, writing, again, leaving, failing })
    }

    async fn handle(
        &self,
        _: ActorRef<HeartbeatMsg>,
        message: HeartbeatMsg,
        state: &mut HeartbeatState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HeartbeatMsg::BeatDue => {
                state.myself.cast_after(state.args.settings.timings.beat_every, || HeartbeatMsg::BeatDue);
                while let Some(ended) = state.running.try_join_next() {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        return Err(error.into());
                    }
                }
                state.beat();
            }
            HeartbeatMsg::RepeatDue => state.beat(),
            HeartbeatMsg::Written(begun, result) => state.written(begun, result),
            HeartbeatMsg::Drain => {
                state.row.draining = true;
                state.beat();
            }
            HeartbeatMsg::Leave(done) => state.leave(done),
        }
        Ok(())
    }
}

impl HeartbeatState {
    fn beat(&mut self) {
        if self.leaving {
            return;
        }
        if self.writing {
            self.again = true;
            return;
        }
        (self.writing, self.again) = (true, false);
        self.row.heartbeat += 1;
        let (table, row, registered) = (Arc::clone(&self.args.table), self.row.clone(), self.registered);
        let myself = self.myself.clone();
        self.running.spawn(async move {
            let begun = Instant::now();
            let result = match if registered { table.beat(&row).await } else { table.register(&row).await } {
                // A row that somebody deleted is no later boot's.
                Err(NodeTableError::Superseded(_)) if registered => table.register(&row).await,
                result => result,
            };
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(HeartbeatMsg::Written(begun, result));
        });
    }

    fn written(&mut self, begun: Instant, result: Result<(), NodeTableError>) {
        self.writing = false;
        match result {
            Ok(()) => {
                self.args.settings.pulse.beat(begun);
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
                (self.args.settings.superseded)();
            }
            Err(NodeTableError::Remote(error)) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "the heartbeat cannot be written; the lanes stand still until it is");
                }
                self.myself.cast_after(REPEAT_AFTER, || HeartbeatMsg::RepeatDue);
            }
        }
    }

    fn leave(&mut self, done: RpcReplyPort<()>) {
        self.leaving = true;
        // A beat that is still on its way finds no row of this boot and changes nothing.
        self.running.abort_all();
        let (table, row) = (Arc::clone(&self.args.table), self.row.clone());
        self.running.spawn(async move {
            if let Err(error) = table.remove(&row.name, row.boot).await {
                tracing::warn!(%error, "this node's row was not removed; others see it stand still");
            }
            let _gone = done.send(());
        });
    }
}
