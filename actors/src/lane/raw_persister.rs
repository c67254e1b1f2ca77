//! Stores every event, violation or not, when the raw table is configured.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `ShardReader`, sends the batch on to `SpeedFilter` once its events are
//! stored. Records that are no readings are left for the filter to judge.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::workbench::Workbench;
use crate::domain::SpeedEvent;
use crate::flow::{Batch, LaneFailure, Unread};
use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::{Refused, RemoteFailure, ViolationStore};
use crate::wire::read_reading;

pub(super) struct RawPersister;

#[derive(Debug)]
pub(super) enum RawPersisterMsg {
    Accept(Batch<Unread>),
    Stored(Result<Batch<Unread>, RemoteFailure>),
}

pub(super) struct RawPersisterArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) store: Arc<dyn ViolationStore>,
    pub(super) next: Outlet<Batch<Unread>>,
}

pub(super) struct RawPersisterState {
    myself: Mailbox<RawPersisterMsg>,
    store: Arc<dyn ViolationStore>,
    next: Outlet<Batch<Unread>>,
    bench: Workbench<Batch<Unread>>,
}

impl ractor::Message for RawPersisterMsg {}

impl Actor for RawPersister {
    type Msg = RawPersisterMsg;
    type State = RawPersisterState;
    type Arguments = RawPersisterArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<RawPersisterMsg>,
        args: RawPersisterArgs,
    ) -> Result<RawPersisterState, ActorProcessingErr> {
        Ok(RawPersisterState {
            myself: Mailbox::new(myself, args.meter),
            store: args.store,
            next: args.next,
            bench: Workbench::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<RawPersisterMsg>,
        message: RawPersisterMsg,
        state: &mut RawPersisterState,
    ) -> Result<(), ActorProcessingErr> {
        let (store, myself) = (Arc::clone(&state.store), state.myself.clone());
        let start = |batch: Batch<Unread>| Some(work(Arc::clone(&store), myself.clone(), batch.begin()?));
        match message {
            RawPersisterMsg::Accept(batch) => state.bench.accept(batch, start),
            RawPersisterMsg::Stored(stored) => {
                state.next.send(stored.map_err(LaneFailure::from)?).map_err(LaneFailure::from)?;
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(store: Arc<dyn ViolationStore>, myself: Mailbox<RawPersisterMsg>, batch: Batch<Unread>) {
    let _waiting = myself.meter().wait();
    let stored = persist(&*store, batch).await;
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(RawPersisterMsg::Stored(stored));
}

async fn persist(store: &dyn ViolationStore, mut batch: Batch<Unread>) -> Result<Batch<Unread>, RemoteFailure> {
    let read =
        |(at, item): (usize, &crate::flow::Item<Unread>)| read_reading(&item.record).ok().map(|reading| (at, reading.to_event()));
    let events: Vec<(usize, SpeedEvent)> = batch.items.iter().enumerate().filter_map(read).collect();
    let result = store.put(&events.iter().map(|(_, event)| event).collect::<Vec<_>>()).await;
    match result {
        Ok(refused) => {
            let at = |one: Refused| Refused { index: events[one.index].0, reason: one.reason };
            batch.reject(refused.into_iter().map(at).collect());
            Ok(batch)
        }
        Err(failure) => {
            batch.ticket.abandon();
            Err(failure)
        }
    }
}
