//! Puts each violation with a known driver on the out-stream, and ends it.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `ViolationPersister`, hands what is left to `LaneEnd`. A violation without a
//! known driver ends here unpublished. An out-stream that stays unavailable past its budget ends the lane.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::workbench::Workbench;
use crate::domain::{Outcome, Violation};
use crate::flow::{Batch, LaneFailure, Leftovers};
use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::{OutRecord, RemoteFailure, ViolationStream};
use crate::wire::write_published;

pub(super) struct ViolationPublisher;

#[derive(Debug)]
pub(super) enum ViolationPublisherMsg {
    Accept(Batch<Violation>),
    Published(Result<Leftovers, RemoteFailure>),
}

pub(super) struct ViolationPublisherArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) stream: Arc<dyn ViolationStream>,
    pub(super) lane_end: Outlet<Leftovers>,
}

pub(super) struct ViolationPublisherState {
    myself: Mailbox<ViolationPublisherMsg>,
    stream: Arc<dyn ViolationStream>,
    lane_end: Outlet<Leftovers>,
    bench: Workbench<Batch<Violation>>,
}

impl ractor::Message for ViolationPublisherMsg {}

impl Actor for ViolationPublisher {
    type Msg = ViolationPublisherMsg;
    type State = ViolationPublisherState;
    type Arguments = ViolationPublisherArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ViolationPublisherMsg>,
        args: ViolationPublisherArgs,
    ) -> Result<ViolationPublisherState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, args.meter);
        Ok(ViolationPublisherState { myself, stream: args.stream, lane_end: args.lane_end, bench: Workbench::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<ViolationPublisherMsg>,
        message: ViolationPublisherMsg,
        state: &mut ViolationPublisherState,
    ) -> Result<(), ActorProcessingErr> {
        let (stream, myself) = (Arc::clone(&state.stream), state.myself.clone());
        let start = |batch: Batch<Violation>| Some(work(Arc::clone(&stream), myself.clone(), batch.begin()?));
        match message {
            ViolationPublisherMsg::Accept(batch) => state.bench.accept(batch, start),
            ViolationPublisherMsg::Published(published) => {
                published.map_err(LaneFailure::from)?.settle(&state.lane_end).map_err(LaneFailure::from)?;
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(stream: Arc<dyn ViolationStream>, myself: Mailbox<ViolationPublisherMsg>, batch: Batch<Violation>) {
    let _waiting = myself.meter().wait();
    let published = publish(&*stream, batch).await;
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(ViolationPublisherMsg::Published(published));
}

async fn publish(stream: &dyn ViolationStream, batch: Batch<Violation>) -> Result<Leftovers, RemoteFailure> {
    let mut records = Vec::with_capacity(batch.items.len());
    let mut known = batch.convert(|ticket, index, _, violation: Violation| {
        let Some(driver) = violation.driver else {
            ticket.end(index, Outcome::OwnerUnknown);
            return Ok(None);
        };
        let partition_key = violation.event.license_plate().to_owned();
        records.push(OutRecord { partition_key, data: write_published(&violation.event, &driver).into() });
        Ok(Some(()))
    });
    if records.is_empty() {
        return Ok(known.end_all(Outcome::Published));
    }
    match stream.publish(&records).await {
        Ok(refused) => {
            known.reject(refused);
            Ok(known.end_all(Outcome::Published))
        }
        Err(failure) => {
            known.ticket.abandon();
            Err(failure)
        }
    }
}
