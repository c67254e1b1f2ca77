//! Turns each error record of the IoT rule into a dead letter with the message that the device published.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `ShardReader`, hands everything to `LaneEnd`. It does no slow work.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::flow::{Batch, Item, LaneFailure, Leftovers, Reject, Unread};
use crate::observe::Outlet;
use crate::wire::read_rule_error;

pub(super) struct RuleErrorReader;

#[derive(Debug)]
pub(super) enum RuleErrorReaderMsg {
    Accept(Batch<Unread>),
}

pub(super) struct RuleErrorReaderArgs {
    pub(super) lane_end: Outlet<Leftovers>,
}

impl ractor::Message for RuleErrorReaderMsg {}

impl Actor for RuleErrorReader {
    type Msg = RuleErrorReaderMsg;
    type State = RuleErrorReaderArgs;
    type Arguments = RuleErrorReaderArgs;

    async fn pre_start(
        &self,
        _: ActorRef<RuleErrorReaderMsg>,
        args: RuleErrorReaderArgs,
    ) -> Result<RuleErrorReaderArgs, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _: ActorRef<RuleErrorReaderMsg>,
        RuleErrorReaderMsg::Accept(batch): RuleErrorReaderMsg,
        state: &mut RuleErrorReaderArgs,
    ) -> Result<(), ActorProcessingErr> {
        let Batch { ticket, items, mut rejects } = batch;
        rejects.extend(items.into_iter().map(|Item { index, record, .. }| {
            let error = read_rule_error(&record);
            Reject { index, reason: error.reason, payload: error.payload }
        }));
        Ok(Leftovers { ticket, rejects }.settle(&state.lane_end).map_err(LaneFailure::from)?)
    }
}
