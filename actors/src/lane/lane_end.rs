//! Turns the rejected events of a batch into dead letters, then gives its ticket back.
//!
//! Child of `LaneSupervisor`, the last actor of every lane. Receives `Accept` from whichever stage has nothing left to do with a
//! batch. A dead letter table that stays unavailable past its budget ends the lane; the records start again from the checkpoint.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::workbench::Workbench;
use crate::domain::{Outcome, ShardId};
use crate::flow::{LaneFailure, Leftovers};
use crate::observe::{LaneStats, Mailbox, Meter};
use crate::ports::{DeadLetter, DeadLetters, RemoteFailure};

pub(super) struct LaneEnd;

#[derive(Debug)]
pub(super) enum LaneEndMsg {
    Accept(Leftovers),
    Stored(Result<(), RemoteFailure>),
}

pub(super) struct LaneEndArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) letters: Arc<dyn DeadLetters>,
    pub(super) stage: &'static str,
    pub(super) stream: String,
    pub(super) shard: ShardId,
    pub(super) stats: LaneStats,
}

pub(super) struct LaneEndState {
    myself: Mailbox<LaneEndMsg>,
    args: Arc<LaneEndArgs>,
    bench: Workbench<Leftovers>,
}

impl ractor::Message for LaneEndMsg {}

impl Actor for LaneEnd {
    type Msg = LaneEndMsg;
    type State = LaneEndState;
    type Arguments = LaneEndArgs;

    async fn pre_start(&self, myself: ActorRef<LaneEndMsg>, args: LaneEndArgs) -> Result<LaneEndState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        Ok(LaneEndState { myself, args: Arc::new(args), bench: Workbench::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<LaneEndMsg>,
        message: LaneEndMsg,
        state: &mut LaneEndState,
    ) -> Result<(), ActorProcessingErr> {
        let (args, myself) = (Arc::clone(&state.args), state.myself.clone());
        let start = |leftovers: Leftovers| Some(work(Arc::clone(&args), myself.clone(), leftovers.begin()?));
        match message {
            LaneEndMsg::Accept(leftovers) => state.bench.accept(leftovers, start),
            LaneEndMsg::Stored(stored) => {
                stored.map_err(LaneFailure::from)?;
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(args: Arc<LaneEndArgs>, myself: Mailbox<LaneEndMsg>, leftovers: Leftovers) {
    let stored = store(&args, leftovers).await;
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(LaneEndMsg::Stored(stored));
}

async fn store(args: &LaneEndArgs, leftovers: Leftovers) -> Result<(), RemoteFailure> {
    let Leftovers { mut ticket, rejects } = leftovers;
    for reject in rejects {
        let letter = DeadLetter {
            stage: args.stage,
            reason: reject.reason,
            payload: reject.payload,
            stream: args.stream.clone(),
            shard: args.shard.clone(),
            position: ticket.position(reject.index).clone(),
        };
        let waiting = args.meter.wait();
        let stored = args.letters.put(&letter).await;
        drop(waiting);
        if let Err(failure) = stored {
            ticket.abandon();
            return Err(failure);
        }
        tracing::warn!(
            stage = args.stage,
            letter = letter.id(),
            source = letter.source(),
            reason = letter.reason,
            "record became a dead letter"
        );
        args.stats.letter(&args.shard, letter.id(), letter.reason);
        ticket.end(reject.index, Outcome::Rejected);
    }
    ticket.finish();
    Ok(())
}
