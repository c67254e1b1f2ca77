//! Adds the registered owner to each violation.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `SpeedFilter`, sends to `ViolationPersister`. A batch whose plates are all
//! cached asks the warehouse nothing; else the batches behind it wait, so that they stay in order. A directory that
//! stays unavailable past its budget ends the lane; an unknown plate does not. A draining lane waits for no look-up.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::workbench::Workbench;
use crate::adapters::CachedDrivers;
use crate::domain::{PlateKey, SpeedEvent, Violation};
use crate::flow::{Batch, LaneFailure};
use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::RemoteFailure;

pub(super) struct DriverLookup;

#[derive(Debug)]
pub(super) enum DriverLookupMsg {
    Accept(Batch<SpeedEvent>),
    /// `None` when the batch was dropped because the lane drains.
    LookedUp(Result<Option<Batch<Violation>>, RemoteFailure>),
}

pub(super) struct DriverLookupArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) drivers: Arc<CachedDrivers>,
    pub(super) next: Outlet<Batch<Violation>>,
}

pub(super) struct DriverLookupState {
    myself: Mailbox<DriverLookupMsg>,
    drivers: Arc<CachedDrivers>,
    next: Outlet<Batch<Violation>>,
    bench: Workbench<Batch<SpeedEvent>>,
}

impl ractor::Message for DriverLookupMsg {}

impl Actor for DriverLookup {
    type Msg = DriverLookupMsg;
    type State = DriverLookupState;
    type Arguments = DriverLookupArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<DriverLookupMsg>,
        args: DriverLookupArgs,
    ) -> Result<DriverLookupState, ActorProcessingErr> {
        Ok(DriverLookupState {
            myself: Mailbox::new(myself, args.meter),
            drivers: args.drivers,
            next: args.next,
            bench: Workbench::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<DriverLookupMsg>,
        message: DriverLookupMsg,
        state: &mut DriverLookupState,
    ) -> Result<(), ActorProcessingErr> {
        let (drivers, myself) = (Arc::clone(&state.drivers), state.myself.clone());
        let start = |batch: Batch<SpeedEvent>| Some(work(Arc::clone(&drivers), myself.clone(), batch.wanted()?));
        match message {
            DriverLookupMsg::Accept(batch) => state.bench.accept(batch, start),
            DriverLookupMsg::LookedUp(looked_up) => {
                if let Some(batch) = looked_up.map_err(LaneFailure::from)? {
                    state.next.send(batch).map_err(LaneFailure::from)?;
                }
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(drivers: Arc<CachedDrivers>, myself: Mailbox<DriverLookupMsg>, batch: Batch<SpeedEvent>) {
    let _waiting = myself.meter().wait();
    let looked_up = look_up(&drivers, batch).await;
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(DriverLookupMsg::LookedUp(looked_up));
}

async fn look_up(drivers: &CachedDrivers, batch: Batch<SpeedEvent>) -> Result<Option<Batch<Violation>>, RemoteFailure> {
    let keys: Vec<PlateKey> = batch.items.iter().map(|item| item.event.plate_key()).collect();
    let found = tokio::select! {
        found = drivers.resolve(&keys) => found,
        () = unwanted(&batch) => {
            batch.ticket.abandon();
            return Ok(None);
        }
    };
    match found {
        Ok(found) => {
            let mut found = found.into_iter();
            Ok(Some(batch.convert(|_, _, _, event| Ok(Some(Violation { event, driver: found.next().flatten() })))))
        }
        Err(failure) => {
            batch.ticket.abandon();
            Err(failure)
        }
    }
}

/// Ends when the lane drains and this batch will not be let begin.
async fn unwanted(batch: &Batch<SpeedEvent>) {
    batch.ticket.gate().closed().await;
    if batch.ticket.is_wanted() {
        std::future::pending::<()>().await;
    }
}
