//! One generation of a lane: its actors, spawned from the end to the front, so that each is born knowing the next.

use std::sync::Arc;

use ractor::{ActorCell, SpawnErr};

use super::archive_writer::{ArchiveWriter, ArchiveWriterArgs, ArchiveWriterMsg};
use super::driver_lookup::{DriverLookup, DriverLookupArgs, DriverLookupMsg};
use super::isolation::Admission;
use super::lane_end::{LaneEnd, LaneEndArgs, LaneEndMsg};
use super::lease_keeper::LeaseKeeperMsg;
use super::owner_notifier::{OwnerNotifier, OwnerNotifierArgs, OwnerNotifierMsg};
use super::raw_persister::{RawPersister, RawPersisterArgs, RawPersisterMsg};
use super::rule_error_reader::{RuleErrorReader, RuleErrorReaderArgs, RuleErrorReaderMsg};
use super::shard_reader::{ShardReader, ShardReaderArgs, ShardReaderMsg};
use super::speed_filter::{SpeedFilter, SpeedFilterArgs, SpeedFilterMsg};
use super::supervisor::{LaneArgs, LaneNews};
use super::violation_persister::{ViolationPersister, ViolationPersisterArgs, ViolationPersisterMsg};
use super::violation_publisher::{ViolationPublisher, ViolationPublisherArgs, ViolationPublisherMsg};
use super::{EnrichStages, Stages};
use crate::domain::{Position, ShardId};
use crate::flow::{Batch, Leftovers, Tenure, Unread};
use crate::observe::{ActorTable, Mailbox, Meter, Outlet, Spot};
use crate::ports::StartAt;

/// The actors of a running generation, from the end of the lane to its reader, which is the last of them.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) children: Vec<Child>,
    pub(super) reader: Mailbox<ShardReaderMsg>,
}

/// An actor of a generation.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) path: String,
    pub(super) cell: ActorCell,
    pub(super) meter: Arc<Meter>,
}

/// What differs from one generation of a lane to the next.
pub(super) struct Birth {
    pub(super) number: u64,
    pub(super) start: StartAt,
    pub(super) done_to: Option<Position>,
    pub(super) admission: Admission,
    pub(super) tenure: Tenure,
    pub(super) keeper: Mailbox<LeaseKeeperMsg>,
    pub(super) news: Outlet<LaneNews>,
}

impl Generation {
    /// Spawns all actors of the lane, linked to its supervisor.
    pub(super) async fn spawn(args: &LaneArgs, supervisor: ActorCell, birth: Birth) -> Result<Self, SpawnErr> {
        let mut nursery = Nursery { table: &args.table, spot: &args.spot, supervisor, children: Vec::new() };
        let shard = args.lease.shard.clone();
        let lane_end = nursery.lane_end(args, &shard).await?;
        let first_stage = nursery.stages(args, &shard, &birth, &lane_end).await?;
        let reader_args = |meter| ShardReaderArgs {
            meter,
            shard,
            source: Arc::clone(&args.source),
            settings: args.settings,
            start: birth.start,
            done_to: birth.done_to,
            admission: birth.admission,
            tenure: birth.tenure,
            stats: args.stats.clone(),
            first_stage,
            lane_end,
            keeper: birth.keeper,
            news: birth.news,
        };
        let reader = nursery.spawn("ShardReader", "shard_reader", ShardReader, reader_args).await?;
        Ok(Self { children: nursery.children, reader })
    }
}

struct Nursery<'a> {
    table: &'a ActorTable,
    spot: &'a Spot,
    supervisor: ActorCell,
    children: Vec<Child>,
}

impl Nursery<'_> {
    async fn spawn<A: ractor::Actor>(
        &mut self,
        kind: &'static str,
        name: &str,
        actor: A,
        args: impl FnOnce(Arc<Meter>) -> A::Arguments,
    ) -> Result<Mailbox<A::Msg>, SpawnErr> {
        let spot = self.spot.child(kind, name);
        let mailbox = self.table.spawn(&spot, Some(self.supervisor.clone()), actor, args).await?;
        self.children.push(Child { path: spot.path, cell: mailbox.cell(), meter: Arc::clone(mailbox.meter()) });
        Ok(mailbox)
    }

    async fn lane_end(&mut self, args: &LaneArgs, shard: &ShardId) -> Result<Outlet<Leftovers>, SpawnErr> {
        let role = args.stages.role();
        let lane_end = |meter| LaneEndArgs {
            meter,
            letters: Arc::clone(&args.letters),
            stage: role.label(),
            stream: args.source.stream().to_owned(),
            shard: shard.clone(),
            stats: args.stats.clone(),
        };
        Ok(self.spawn("LaneEnd", "lane_end", LaneEnd, lane_end).await?.outlet(LaneEndMsg::Accept))
    }

    async fn stages(
        &mut self,
        args: &LaneArgs,
        shard: &ShardId,
        birth: &Birth,
        lane_end: &Outlet<Leftovers>,
    ) -> Result<Outlet<Batch<Unread>>, SpawnErr> {
        let lane_end = lane_end.clone();
        match args.stages.clone() {
            Stages::Enrich(stages) => self.enrich(stages, lane_end).await,
            Stages::Notify(stages) => {
                let (worker, shard, stats) = (args.worker.clone(), shard.clone(), args.stats.clone());
                let (generation, tenure) = (birth.number, birth.tenure.clone());
                let notifier =
                    move |meter| OwnerNotifierArgs { meter, stages, worker, shard, generation, tenure, stats, lane_end };
                Ok(self.spawn("OwnerNotifier", "owner_notifier", OwnerNotifier, notifier).await?.outlet(OwnerNotifierMsg::Accept))
            }
            Stages::Archive(stages) => {
                let writer = |meter| ArchiveWriterArgs { meter, archive: stages.archive, lane_end };
                Ok(self.spawn("ArchiveWriter", "archive_writer", ArchiveWriter, writer).await?.outlet(ArchiveWriterMsg::Accept))
            }
            Stages::Errors => {
                let reader = |_| RuleErrorReaderArgs { lane_end };
                Ok(self
                    .spawn("RuleErrorReader", "rule_error_reader", RuleErrorReader, reader)
                    .await?
                    .outlet(RuleErrorReaderMsg::Accept))
            }
        }
    }

    async fn enrich(&mut self, stages: EnrichStages, lane_end: Outlet<Leftovers>) -> Result<Outlet<Batch<Unread>>, SpawnErr> {
        let end = lane_end.clone();
        let publisher = |meter| ViolationPublisherArgs { meter, stream: stages.stream, lane_end: end };
        let publisher = self.spawn("ViolationPublisher", "violation_publisher", ViolationPublisher, publisher).await?;
        let next = publisher.outlet(ViolationPublisherMsg::Accept);
        let persister = |meter| ViolationPersisterArgs { meter, store: stages.store, next };
        let persister = self.spawn("ViolationPersister", "violation_persister", ViolationPersister, persister).await?;
        let next = persister.outlet(ViolationPersisterMsg::Accept);
        let lookup = |meter| DriverLookupArgs { meter, drivers: stages.drivers, next };
        let lookup = self.spawn("DriverLookup", "driver_lookup", DriverLookup, lookup).await?;
        let next = lookup.outlet(DriverLookupMsg::Accept);
        let filter = |_| SpeedFilterArgs { limit: stages.limit, next, lane_end };
        let filter = self.spawn("SpeedFilter", "speed_filter", SpeedFilter, filter).await?;
        let next = filter.outlet(SpeedFilterMsg::Accept);
        let Some(store) = stages.raw else { return Ok(next) };
        let raw = |meter| RawPersisterArgs { meter, store, next };
        Ok(self.spawn("RawPersister", "raw_persister", RawPersister, raw).await?.outlet(RawPersisterMsg::Accept))
    }
}
