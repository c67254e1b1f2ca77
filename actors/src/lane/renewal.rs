//! A lane that an operator drains and that goes on with a new generation: part of `LaneSupervisor`.

use std::time::Duration;

use super::shard_reader::ShardReaderMsg;
use super::supervisor::{LaneSupervisorMsg, LaneSupervisorState};
use crate::cluster::OrderAnswer;
use crate::observe::{LaneState, Ordered};

/// An operator's word that the lane of an actor starts anew once what it has begun is done.
#[derive(Debug, Clone)]
pub struct LaneRenewal {
    /// The actor's path, or the supervisor's.
    pub path: String,
    /// Who says so, and why.
    pub ordered: Ordered,
}

impl LaneSupervisorState {
    pub(super) fn begin_renewal(&mut self, renewal: LaneRenewal, patience: Duration) -> OrderAnswer {
        if !self.draining.is_empty() || self.renewal.is_some() {
            return OrderAnswer::not_now("its lane drains already");
        }
        match &self.generation {
            Some(generation) if generation.reader.cast(ShardReaderMsg::Drain).is_ok() => {}
            _ => return OrderAnswer::not_now("its lane does not run now: it is being started again"),
        }
        self.renewal = Some(renewal);
        self.args.stats.entered(&self.args.lease.shard, LaneState::Draining, None);
        let number = self.number;
        self.myself.cast_after(patience, move || LaneSupervisorMsg::RenewDue(number));
        OrderAnswer::Begun
    }

    /// What had begun is done, or will be done again: the next generation starts from the checkpoint.
    pub(super) async fn renew(&mut self) {
        let (Some(LaneRenewal { path, ordered }), Some(generation)) = (self.renewal.take(), &self.generation) else { return };
        // The supervisor itself goes on, so what it was told is noted of the actor that drained.
        let is_part = generation.children.iter().any(|child| child.path == path);
        let path = if is_part { path } else { self.args.spot.child("ShardReader", "shard_reader").path };
        let reason = ordered.reason.clone();
        let _still_there = self.args.table.order(&path, ordered);
        self.kill_generation(Some(&path)).await;
        self.args.table.failed(&path, &reason);
        self.start_again_after(Duration::ZERO, &path, &reason);
    }
}
