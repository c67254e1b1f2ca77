//! Turns changes of the speeding table into archive lines.
//!
//! Child of `LaneSupervisor`. Receives `Accept` from `ShardReader`, hands what is left to `LaneEnd`. An image that is no violation
//! becomes a dead letter; a delivery stream that stays unavailable past its budget ends the lane.

use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::workbench::Workbench;
use crate::domain::Outcome;
use crate::flow::{Batch, LaneFailure, Leftovers, Unread};
use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::{Archive, RemoteFailure};
use crate::wire::{StreamImage, read_stream_image, write_archive_line};

pub(super) struct ArchiveWriter;

#[derive(Debug)]
pub(super) enum ArchiveWriterMsg {
    Accept(Batch<Unread>),
    Appended(Result<Leftovers, RemoteFailure>),
}

pub(super) struct ArchiveWriterArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) archive: Arc<dyn Archive>,
    pub(super) lane_end: Outlet<Leftovers>,
}

pub(super) struct ArchiveWriterState {
    myself: Mailbox<ArchiveWriterMsg>,
    archive: Arc<dyn Archive>,
    lane_end: Outlet<Leftovers>,
    bench: Workbench<Batch<Unread>>,
}

impl ractor::Message for ArchiveWriterMsg {}

impl Actor for ArchiveWriter {
    type Msg = ArchiveWriterMsg;
    type State = ArchiveWriterState;
    type Arguments = ArchiveWriterArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ArchiveWriterMsg>,
        args: ArchiveWriterArgs,
    ) -> Result<ArchiveWriterState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, args.meter);
        Ok(ArchiveWriterState { myself, archive: args.archive, lane_end: args.lane_end, bench: Workbench::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<ArchiveWriterMsg>,
        message: ArchiveWriterMsg,
        state: &mut ArchiveWriterState,
    ) -> Result<(), ActorProcessingErr> {
        let (archive, myself) = (Arc::clone(&state.archive), state.myself.clone());
        let start = |batch: Batch<Unread>| Some(work(Arc::clone(&archive), myself.clone(), batch.begin()?));
        match message {
            ArchiveWriterMsg::Accept(batch) => state.bench.accept(batch, start),
            ArchiveWriterMsg::Appended(appended) => {
                appended.map_err(LaneFailure::from)?.settle(&state.lane_end).map_err(LaneFailure::from)?;
                state.bench.done(start);
            }
        }
        Ok(())
    }
}

async fn work(archive: Arc<dyn Archive>, myself: Mailbox<ArchiveWriterMsg>, batch: Batch<Unread>) {
    let _waiting = myself.meter().wait();
    let appended = append(&*archive, batch).await;
    // When the actor is gone there is nobody left to tell.
    let _gone = myself.cast(ArchiveWriterMsg::Appended(appended));
}

async fn append(archive: &dyn Archive, batch: Batch<Unread>) -> Result<Leftovers, RemoteFailure> {
    let mut lines = Vec::with_capacity(batch.items.len());
    let mut batch = batch.convert(|ticket, index, record, Unread| match read_stream_image(record) {
        Ok(StreamImage::Put(line)) => {
            lines.push(Bytes::from(write_archive_line(&line)));
            Ok(Some(()))
        }
        Ok(StreamImage::Removed) => {
            ticket.end(index, Outcome::Skipped);
            Ok(None)
        }
        Err(error) => Err(error.to_string()),
    });
    if lines.is_empty() {
        return Ok(batch.end_all(Outcome::Archived));
    }
    match archive.append(&lines).await {
        Ok(refused) => {
            batch.reject(refused);
            Ok(batch.end_all(Outcome::Archived))
        }
        Err(failure) => {
            batch.ticket.abandon();
            Err(failure)
        }
    }
}
