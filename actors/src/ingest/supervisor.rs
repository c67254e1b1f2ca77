//! Elects the node that ingests, and runs the lane there.
//!
//! Child of `NodeSupervisor`. A row of a lease table says which node holds the broker's session, since two under one client id would
//! cut each other off. Whoever finds the row free takes it, starts `StreamWriter` and `MqttReader`, and renews it. A child that ends
//! takes the other with it; both start again after a delay. A lease that is another node's, or could not be renewed until it expired,
//! ends both. A table that does not answer is asked again.

use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::oneshot;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::IngestSettings;
use super::lease_watch::LeaseWatch;
use super::mqtt_reader::{MqttReader, MqttReaderArgs, MqttReaderMsg};
use super::stream_writer::{StreamWriter, StreamWriterArgs, StreamWriterMsg};
use crate::cluster::Cluster;
use crate::flow::{Backoff, Tenure};
use crate::observe::{ActorTable, Mailbox, Meter, Spot};
use crate::ports::{Checkpoint, Lease, LeaseError, NewLease};

/// Longest time between two looks at the lease.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Delays before the lane starts again.
const RESTART: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) };
/// A lane that ran for so long begins with the first delay again.
const PROVEN_AFTER: Duration = Duration::from_secs(60);
/// How long finishing may take when the node stands aside.
const ASIDE_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct IngestSupervisor;

#[derive(Debug)]
pub(crate) enum IngestSupervisorMsg {
    LookDue,
    /// Looks at once: the connection was lost, perhaps to another node.
    LookNow,
    Looked(Result<Looked, LeaseError>),
    RestartDue,
    /// Finishes what came, gives the lease up, and answers.
    Drain {
        patience: Duration,
        done: RpcReplyPort<bool>,
    },
    /// Finishes what came and gives the lease up, until it is to take part again.
    StandAside,
    Resume,
}

/// What one look at the lease came to.
#[derive(Debug)]
pub(crate) enum Looked {
    /// It is another's, or nobody's.
    Seen(Lease),
    /// It is ours; with when that began to be so.
    Ours(Lease, Instant),
    /// Its row was made, or taken by another meanwhile.
    Again,
}

pub(crate) struct IngestArgs {
    pub(crate) meter: Arc<Meter>,
    pub(crate) table: ActorTable,
    pub(crate) spot: Spot,
    pub(crate) worker: String,
    pub(crate) cluster: Cluster,
    pub(crate) settings: IngestSettings,
    /// The node stands aside.
    pub(crate) aside: bool,
}

pub(crate) struct IngestState {
    args: IngestArgs,
    myself: Mailbox<IngestSupervisorMsg>,
    watch: LeaseWatch,
    held: Option<(Lease, Tenure)>,
    written_at: Instant,
    is_looking: bool,
    lane: Option<Lane>,
    deaths: u32,
    draining: bool,
    running: JoinSet<()>,
}

struct Lane {
    reader: Mailbox<MqttReaderMsg>,
    writer: Mailbox<StreamWriterMsg>,
    started: Instant,
}

impl ractor::Message for IngestSupervisorMsg {}

impl Actor for IngestSupervisor {
    type Msg = IngestSupervisorMsg;
    type State = IngestState;
    type Arguments = IngestArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<IngestSupervisorMsg>,
        args: IngestArgs,
    ) -> Result<IngestState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        myself.cast(IngestSupervisorMsg::LookDue)?;
        args.settings.stats.leads(false);
        Ok(IngestState {
            watch: LeaseWatch::new(args.settings.expires_after),
            draining: args.aside,
            args,
            myself,
            held: None,
            written_at: Instant::now(),
            is_looking: false,
            lane: None,
            deaths: 0,
            running: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<IngestSupervisorMsg>,
        message: IngestSupervisorMsg,
        state: &mut IngestState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            IngestSupervisorMsg::LookDue => {
                let every = LOOK_EVERY.min(state.args.settings.renew_every);
                state.myself.cast_after(every, || IngestSupervisorMsg::LookDue);
                state.look_if_due();
            }
            IngestSupervisorMsg::LookNow => state.look(),
            IngestSupervisorMsg::Looked(looked) => state.looked(myself.get_cell(), looked).await?,
            IngestSupervisorMsg::RestartDue => state.start_lane(myself.get_cell()).await?,
            IngestSupervisorMsg::Drain { patience, done } => state.drain(patience, done),
            IngestSupervisorMsg::StandAside => {
                let (done, _nobody_waits) = oneshot();
                state.drain(ASIDE_PATIENCE, done.into());
            }
            IngestSupervisorMsg::Resume => {
                // A reader that has drained reads nothing more.
                state.end_lane().await;
                state.draining = false;
                state.look();
            }
        }
        while let Some(ended) = state.running.try_join_next() {
            ended?;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<IngestSupervisorMsg>,
        event: SupervisionEvent,
        state: &mut IngestState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => state.child_ended(&cell, &error.to_string()).await,
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                state.child_ended(&cell, reason.as_deref().unwrap_or("stopped")).await;
            }
            _ => {}
        }
        Ok(())
    }
}

impl IngestState {
    fn look_if_due(&mut self) {
        let renew_every = self.args.settings.renew_every;
        if self.held.is_none() || self.written_at.elapsed() + LOOK_EVERY.min(renew_every) / 2 >= renew_every {
            self.look();
        }
    }

    /// Renews the lease if it is ours; else reads it and takes it if it is free.
    fn look(&mut self) {
        if self.is_looking || self.draining {
            return;
        }
        self.is_looking = true;
        let (table, key, myself) = (Arc::clone(&self.args.settings.leases), self.args.settings.lease_key(), self.myself.clone());
        let held = self.held.as_ref().map(|(lease, _)| lease.clone());
        self.running.spawn(async move {
            let begun = Instant::now();
            let looked = async {
                if let Some(lease) = held {
                    return Ok(Looked::Ours(table.renew(&lease).await?, begun));
                }
                table.ensure().await?;
                if let Some(row) = table.get(&key).await? {
                    return Ok(Looked::Seen(row));
                }
                let new = NewLease { shard: key, checkpoint: Checkpoint::TrimHorizon, parents: Vec::new(), hash_range: None };
                table.create(&new).await?;
                Ok(Looked::Again)
            };
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(IngestSupervisorMsg::Looked(looked.await));
        });
    }

    fn take(&mut self, row: Lease) {
        self.is_looking = true;
        let (table, worker, myself) = (Arc::clone(&self.args.settings.leases), self.args.worker.clone(), self.myself.clone());
        self.running.spawn(async move {
            let begun = Instant::now();
            let taken = match table.take(&row, &worker).await {
                Ok(lease) => Ok(Looked::Ours(lease, begun)),
                Err(LeaseError::Lost(_)) => Ok(Looked::Again),
                Err(error) => Err(error),
            };
            let _gone = myself.cast(IngestSupervisorMsg::Looked(taken));
        });
    }

    async fn looked(&mut self, cell: ActorCell, looked: Result<Looked, LeaseError>) -> Result<(), ActorProcessingErr> {
        self.is_looking = false;
        match looked {
            Ok(Looked::Seen(row)) => {
                let view = self.args.cluster.view.borrow().clone();
                let is_free = self.watch.is_free(&row, Instant::now(), |worker| view.is_dead(worker));
                if is_free && !self.draining && self.args.cluster.pulse.is_fresh() {
                    self.take(row);
                }
            }
            Ok(Looked::Again) => {}
            Ok(Looked::Ours(lease, begun)) => {
                self.written_at = begun;
                match &mut self.held {
                    Some((held, tenure)) => {
                        *held = lease;
                        tenure.proven(begun);
                    }
                    None => {
                        let tenure = Tenure::new(self.args.cluster.pulse.clone(), self.args.settings.expires_after, begun);
                        self.held = Some((lease, tenure));
                        self.args.settings.stats.leads(true);
                        tracing::info!(topic_filter = self.args.settings.topic_filter, "this node ingests from the MQTT broker");
                        self.start_lane(cell).await?;
                    }
                }
            }
            Err(error @ (LeaseError::Lost(_) | LeaseError::Unusable(_))) => self.step_down(&error.to_string()).await,
            Err(LeaseError::Remote(failure)) => tracing::warn!(%failure, "the lease of the ingest lane cannot be looked at"),
        }
        if self.held.as_ref().is_some_and(|(_, tenure)| tenure.is_expired()) {
            self.step_down("it was not renewed in time").await;
        }
        Ok(())
    }

    /// Another node may ingest now.
    async fn step_down(&mut self, why: &str) {
        if self.held.take().is_some() {
            tracing::warn!(why, "this node does not ingest any more");
            self.args.settings.stats.leads(false);
            self.end_lane().await;
        }
    }

    async fn start_lane(&mut self, cell: ActorCell) -> Result<(), ActorProcessingErr> {
        if self.held.is_none() || self.lane.is_some() || self.draining {
            return Ok(());
        }
        let IngestArgs { table, spot, settings, .. } = &self.args;
        let writer_spot = spot.child("StreamWriter", "stream_writer");
        let args = |meter| StreamWriterArgs { meter, settings: settings.clone() };
        let writer = table.spawn(&writer_spot, Some(cell.clone()), StreamWriter, args).await?;
        let lost = self.myself.outlet(|()| IngestSupervisorMsg::LookNow);
        let reader_spot = spot.child("MqttReader", "mqtt_reader");
        let args = |meter| MqttReaderArgs { meter, settings: settings.clone(), writer: writer.clone(), lost };
        let reader = table.spawn(&reader_spot, Some(cell), MqttReader, args).await?;
        self.lane = Some(Lane { reader, writer, started: Instant::now() });
        Ok(())
    }

    async fn end_lane(&mut self) {
        let Some(Lane { reader, writer, .. }) = self.lane.take() else { return };
        for child in [reader.cell(), writer.cell()] {
            if let Some(path) = self.args.table.path_of(&child) {
                self.args.table.stopped(&path);
            }
            child.kill();
            // Without a limit there is no timeout to tell.
            let _ended = child.wait(None).await;
        }
    }

    async fn child_ended(&mut self, cell: &ActorCell, reason: &str) {
        let id = cell.get_id();
        let of_lane = |lane: &&Lane| [lane.reader.cell().get_id(), lane.writer.cell().get_id()].contains(&id);
        let Some(started) = self.lane.as_ref().filter(of_lane).map(|lane| lane.started) else { return };
        let path = self.args.table.path_of(cell);
        let ordered = path.as_ref().and_then(|path| self.args.table.ordered(path));
        let reason = ordered.as_ref().map_or(reason, |ordered| &ordered.reason);
        self.end_lane().await;
        if let Some(path) = &path {
            self.args.table.failed(path, reason);
        }
        if started.elapsed() >= PROVEN_AFTER || ordered.is_some() {
            self.deaths = 0;
        }
        let delay = RESTART.delay(self.deaths, rand::random());
        self.deaths += 1;
        if let Some(path) = path {
            self.args.table.starts_after(&path, delay);
        }
        self.args.settings.stats.lost(reason);
        tracing::error!(reason, delay_ms = delay.as_millis(), "the ingest lane ended and will start again");
        self.myself.cast_after(delay, || IngestSupervisorMsg::RestartDue);
    }

    fn drain(&mut self, patience: Duration, done: RpcReplyPort<bool>) {
        self.draining = true;
        let reader = self.lane.as_ref().map(|lane| lane.reader.actor().clone());
        let held = self.held.take().map(|(lease, _)| lease);
        let (table, stats) = (Arc::clone(&self.args.settings.leases), self.args.settings.stats.clone());
        self.running.spawn(async move {
            let mut finished = true;
            if let Some(reader) = reader {
                let answer = reader.call(MqttReaderMsg::Drain, Some(patience)).await;
                finished = matches!(answer, Ok(ractor::rpc::CallResult::Success(())));
            }
            if let Some(lease) = held
                && let Err(error) = table.release(&lease).await
            {
                tracing::warn!(%error, "the lease of the ingest lane is left to expire");
            }
            stats.leads(false);
            let _gone = done.send(finished);
        });
    }
}
