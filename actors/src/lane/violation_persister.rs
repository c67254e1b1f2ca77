//! Stores each violation in the speeding table.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `DriverLookup`, sends to `ViolationPublisher`. What the table refuses for its
//! content becomes a dead letter; a table that stays unavailable past its budget ends the lane.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::workbench::Workbench;
use crate::domain::Violation;
use crate::flow::{Batch, LaneFailure};
use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::{RemoteFailure, ViolationStore};

pub(super) struct ViolationPersister;

#[derive(Debug)]
pub(super) enum ViolationPersisterMsg {
    Accept(Batch<Violation>),
    Stored(Result<Batch<Violation>, RemoteFailure>),
}

pub(super) struct ViolationPersisterArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) store: Arc<dyn ViolationStore>,
    pub(super) next: Outlet<Batch<Violation>>,
}

pub(super) struct ViolationPersisterState {
    myself: Mailbox<ViolationPersisterMsg>,
    store: Arc<dyn ViolationStore>,
    next: Outlet<Batch<Violation>>,
    bench: Workbench<Batch<Violation>>,
}

impl ractor::Message for ViolationPersisterMsg {}

impl Actor for ViolationPersister {
    type Msg = ViolationPersisterMsg;
    type State = ViolationPersisterState;
    type Arguments = ViolationPersisterArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ViolationPersisterMsg>,
        args: ViolationPersisterArgs,
    ) -> Result<ViolationPersisterState, ActorProcessingErr> {
        Ok(ViolationPersisterState {
            myself: Mailbox::new(myself, args.meter),
            store: args.store,
            next: args.next,
            bench: Workbench::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<ViolationPersisterMsg>,
        message: ViolationPersisterMsg,
        state: &mut ViolationPersisterState,
    ) -> Result<(), ActorProcessingErr> {
        let (store, myself) = (Arc::clone(&state.store), state.myself.clone());
        let start = |batch: Batch<Violation>| Some(work(Arc::clone(&store), myself.clone(), batch.begin()?));
        match message {
            ViolationPersisterMsg::Accept(batch) => state.bench.accept(batch, start),
            ViolationPersisterMsg::Stored(stored) => {
                state.next.send(stored.map_err(LaneFailure::from)?).map_err(LaneFailure::from)?;
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(store: Arc<dyn ViolationStore>, myself: Mailbox<ViolationPersisterMsg>, mut batch: Batch<Violation>) {
    let _waiting = myself.meter().wait();
    let stored = store.put(&batch.items.iter().map(|item| &item.event.event).collect::<Vec<_>>()).await;
    let stored = match stored {
        Ok(refused) => {
            batch.reject(refused);
            Ok(batch)
        }
        Err(failure) => {
            batch.ticket.abandon();
            Err(failure)
        }
    };
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(ViolationPersisterMsg::Stored(stored));
}
