//! What the root of a node's tree does with operators' orders: part of `NodeSupervisor`.

use ractor::RpcReplyPort;

use super::heartbeat::HeartbeatMsg;
use super::membership::MembershipMsg;
use super::node_supervisor::NodeState;
use super::orders::{ActorEnd, NodeOrder, OrderAnswer, OrderRefusal, why_never_ended};
use super::shard_assigner::ShardAssignerMsg;
use crate::domain::ShardId;
use crate::ingest::IngestSupervisorMsg;
use crate::lane::{LaneRenewal, Role};
use crate::observe::Ordered;

impl NodeState {
    pub(super) fn ordered(&mut self, order: NodeOrder, answer: RpcReplyPort<OrderAnswer>) {
        if self.draining {
            let _gone = answer.send(OrderAnswer::not_now("this node gives its leases away and ends"));
            return;
        }
        // Whoever gave the order may have gone; the order stands all the same.
        match order {
            NodeOrder::EndActor { path, how, by, reason } => {
                let ordered = Ordered { reason: format!("{} by {by}: {reason}", how.past()), by };
                self.end_actor(path, how, ordered, answer);
            }
            NodeOrder::HandOver { application, shard, to } => {
                let shard = ShardId::new(&shard);
                self.pass_on(&application, answer, |answer| ShardAssignerMsg::HandOver { shard, to, answer });
            }
            NodeOrder::Balance { application } => self.pass_on(&application, answer, ShardAssignerMsg::Balance),
            NodeOrder::StandAside => {
                self.stand_aside(true);
                let _gone = answer.send(OrderAnswer::Begun);
            }
            NodeOrder::Resume => {
                self.stand_aside(false);
                let _gone = answer.send(OrderAnswer::Begun);
            }
        }
    }

    /// Without an answer, the asker waits in vain for a short while.
    fn pass_on(
        &self,
        application: &str,
        answer: RpcReplyPort<OrderAnswer>,
        message: impl FnOnce(RpcReplyPort<OrderAnswer>) -> ShardAssignerMsg,
    ) {
        match self.assigner(application) {
            Some(assigner) => {
                let _gone = assigner.cast(message(answer));
            }
            None => {
                let _gone = answer.send(OrderAnswer::not_found(format!("`{application}` does not run here now")));
            }
        }
    }

    /// Ends an actor as told. Its supervisor hears of it as of any other end, and finds the order in the table.
    fn end_actor(&mut self, path: String, how: ActorEnd, ordered: Ordered, answer: RpcReplyPort<OrderAnswer>) {
        let rows = self.args.table.rows();
        let Some(row) = rows.iter().find(|row| row.spot.path == path) else {
            let _gone = answer.send(OrderAnswer::not_found(format!("there is no actor `{path}` here")));
            return;
        };
        if let Some(why) = why_never_ended(row.spot.kind) {
            let _gone = answer.send(OrderAnswer::Refused(OrderRefusal::NotAllowed, why.to_owned()));
            return;
        }
        if let (ActorEnd::Drain, Some((role, shard))) = (how, self.lane_of(&path)) {
            if let Some(assigner) = self.assigners.get(&role) {
                let renewal = LaneRenewal { path, ordered };
                let _gone = assigner.cast(ShardAssignerMsg::RenewLane { shard, renewal, answer });
            }
            return;
        }
        let reason = ordered.reason.clone();
        let Some(cell) = self.args.table.order(&path, ordered) else {
            let _gone = answer.send(OrderAnswer::not_now(format!("`{path}` does not run now: it is being started again")));
            return;
        };
        tracing::warn!(actor = path, reason, "an operator ends an actor");
        match how {
            ActorEnd::Kill => cell.kill(),
            ActorEnd::Restart => cell.stop(Some(reason)),
            ActorEnd::Drain => {
                // One that has ended meanwhile is started again anyway.
                let _ended = cell.drain();
            }
        }
        let _gone = answer.send(OrderAnswer::Begun);
    }

    /// The lane that an actor is part of: of `<node>/<role>/<shard>/...` the two in the middle.
    fn lane_of(&self, path: &str) -> Option<(Role, ShardId)> {
        let mut parts = path.strip_prefix(&self.args.spot.path)?.strip_prefix('/')?.split('/');
        let (role, shard) = (parts.next()?, parts.next()?);
        let role = *self.assigners.keys().find(|known| known.label() == role)?;
        Some((role, ShardId::new(shard)))
    }

    /// Gives all leases away and takes none, or takes part again. What is dead hears of it when it starts again.
    fn stand_aside(&mut self, aside: bool) {
        self.aside = aside;
        if let Some(heartbeat) = &self.heartbeat {
            let _gone = heartbeat.cast(if aside { HeartbeatMsg::Drain } else { HeartbeatMsg::Resume });
        }
        if let Some(membership) = &self.membership {
            let _gone = membership.cast(if aside { MembershipMsg::Drain } else { MembershipMsg::Resume });
        }
        if let Some(ingest) = &self.ingest {
            let _gone = ingest.cast(if aside { IngestSupervisorMsg::StandAside } else { IngestSupervisorMsg::Resume });
        }
        for assigner in self.assigners.values() {
            let _gone = assigner.cast(if aside { ShardAssignerMsg::StandAside } else { ShardAssignerMsg::Resume });
        }
    }
}
