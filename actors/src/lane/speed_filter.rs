//! Reads each record and ends the readings at or under the limit.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `ShardReader` (or `RawPersister`), sends the violations to `DriverLookup` and
//! batches without any straight to the end of the lane. A record that is no reading becomes a dead letter. It does no slow work.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::domain::{Outcome, SpeedEvent, SpeedMph};
use crate::flow::{Batch, LaneFailure, Leftovers, Unread};
use crate::observe::{Outlet, TrafficMark};
use crate::wire::read_reading;

pub(super) struct SpeedFilter;

#[derive(Debug)]
pub(super) enum SpeedFilterMsg {
    Accept(Batch<Unread>),
}

pub(super) struct SpeedFilterArgs {
    pub(super) limit: SpeedMph,
    pub(super) next: Outlet<Batch<SpeedEvent>>,
    pub(super) lane_end: Outlet<Leftovers>,
}

impl ractor::Message for SpeedFilterMsg {}

impl Actor for SpeedFilter {
    type Msg = SpeedFilterMsg;
    type State = SpeedFilterArgs;
    type Arguments = SpeedFilterArgs;

    async fn pre_start(&self, _: ActorRef<SpeedFilterMsg>, args: SpeedFilterArgs) -> Result<SpeedFilterArgs, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _: ActorRef<SpeedFilterMsg>,
        SpeedFilterMsg::Accept(batch): SpeedFilterMsg,
        state: &mut SpeedFilterArgs,
    ) -> Result<(), ActorProcessingErr> {
        let violations = filter(batch, state.limit);
        let sent = if violations.items.is_empty() {
            Leftovers { ticket: violations.ticket, rejects: violations.rejects }.settle(&state.lane_end)
        } else {
            state.next.send(violations)
        };
        Ok(sent.map_err(LaneFailure::from)?)
    }
}

fn filter(batch: Batch<Unread>, limit: SpeedMph) -> Batch<SpeedEvent> {
    batch.convert(|ticket, index, record, Unread| {
        let reading = read_reading(record).map_err(|error| error.to_string())?;
        ticket.mark(index, TrafficMark::of(&reading, limit));
        if reading.speed > limit {
            return Ok(Some(reading.to_event()));
        }
        ticket.end(index, Outcome::UnderLimit);
        Ok(None)
    })
}
