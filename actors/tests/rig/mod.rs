//! A node on memory ports: what the lane tests drive and look at.
#![allow(dead_code, reason = "each test binary uses its own part of the rig")]

mod bombs;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bombs::Bombs;
use ractor::rpc::CallResult;
use speedtrap_actors::adapters::{CachedDrivers, DriverCacheLimits};
use speedtrap_actors::cluster::{Application, Cluster, NodeSupervisorMsg, start_node};
use speedtrap_actors::domain::{OutcomeCounts, Position, ShardId, SpeedMph};
use speedtrap_actors::flow::{Backoff, Pulse};
use speedtrap_actors::lane::{
    ArchiveStages, EnrichStages, LaneArgs, LaneSettings, LaneSupervisor, LaneSupervisorMsg, LeaseTiming, NotifyStages, Stages,
    TextRate,
};
use speedtrap_actors::observe::{ActorTable, LaneStats, LeaseBoard, Mailbox, Spot};
use speedtrap_actors::ports::{Checkpoint, Lease, LeaseTable, NewLease, ShardSource, StartAt};
use speedtrap_actors::testing::{
    MemoryAlertLedger, MemoryArchive, MemoryDeadLetters, MemoryDriverDirectory, MemoryLeaseTable, MemoryViolationStore,
    MemoryViolationStream, RecordingAlertSender, ScriptedShard,
};
use speedtrap_actors::wire::SmsTemplate;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) struct Rig {
    pub(crate) shard: ShardId,
    pub(crate) source: ScriptedShard,
    pub(crate) leases: MemoryLeaseTable,
    pub(crate) letters: MemoryDeadLetters,
    pub(crate) directory: MemoryDriverDirectory,
    pub(crate) store: MemoryViolationStore,
    pub(crate) raw: MemoryViolationStore,
    pub(crate) out: MemoryViolationStream,
    pub(crate) ledger: MemoryAlertLedger,
    pub(crate) sender: RecordingAlertSender,
    pub(crate) archive: MemoryArchive,
    pub(crate) stats: LaneStats,
    pub(crate) table: ActorTable,
    pub(crate) bombs: Bombs,
    pub(crate) settings: LaneSettings,
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) pulse: Pulse,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Enrich { raw: bool },
    Notify,
    Archive,
    Errors,
}

const TIMING: LeaseTiming = LeaseTiming {
    renew_every: Duration::from_millis(3_308),
    expires_after: Duration::from_secs(10),
    sync_every: Duration::from_secs(1),
};

/// The JSON of a reading; its event id is `e-<n>`.
pub(crate) fn reading(plate: &str, mph: u16, n: usize) -> String {
    format!(
        r#"{{"iottimestamp":"2020-07-01 12:00:00.123456","licensePlate":"{plate}","longitude":"101.766855","latitude":"79.694526","city":"West Kristopher","state":"Iowa","speed":"{mph}","eventId":"e-{n}"}}"#
    )
}

impl Rig {
    pub(crate) fn enrich() -> Self {
        Self::new(Kind::Enrich { raw: false })
    }

    pub(crate) fn enrich_with_raw() -> Self {
        Self::new(Kind::Enrich { raw: true })
    }

    pub(crate) fn notify() -> Self {
        let mut rig = Self::new(Kind::Notify);
        rig.settings = LaneSettings { credit_events: 32, batch_events: 16, ..rig.settings };
        rig
    }

    pub(crate) fn archive() -> Self {
        Self::new(Kind::Archive)
    }

    pub(crate) fn errors() -> Self {
        Self::new(Kind::Errors)
    }

    fn new(kind: Kind) -> Self {
        let settings = LaneSettings {
            credit_events: 2_000,
            credit_bytes: 2 << 20,
            batch_events: 500,
            batch_bytes: 512 << 10,
            poll_interval: Duration::from_millis(200),
            read_limit: 1_000,
            checkpoint_interval: Duration::from_secs(1),
            backoff: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(30) },
            stall_after: Duration::from_secs(30),
            longest_call: Duration::from_secs(60),
        };
        Self {
            shard: ShardId::new("shardId-000000000000"),
            source: ScriptedShard::new("stream", "shardId-000000000000"),
            leases: MemoryLeaseTable::default(),
            letters: MemoryDeadLetters::default(),
            directory: MemoryDriverDirectory::default(),
            store: MemoryViolationStore::default(),
            raw: MemoryViolationStore::default(),
            out: MemoryViolationStream::default(),
            ledger: MemoryAlertLedger::default(),
            sender: RecordingAlertSender::default(),
            archive: MemoryArchive::default(),
            stats: LaneStats::default(),
            table: ActorTable::default(),
            bombs: Bombs::default(),
            settings,
            in_flight: Arc::new(Semaphore::new(4)),
            pulse: Pulse::unwatched(),
            kind,
        }
    }

    pub(crate) async fn start(&self, worker: &str) -> Mailbox<NodeSupervisorMsg> {
        start_node(worker, &self.table, vec![self.application()], Cluster::alone()).await.expect("a node starts")
    }

    /// Another node on the same ports, with counts and caches of its own.
    pub(crate) fn other_node(&self) -> Self {
        Self {
            shard: self.shard.clone(),
            source: self.source.clone(),
            leases: self.leases.clone(),
            letters: self.letters.clone(),
            directory: self.directory.clone(),
            store: self.store.clone(),
            raw: self.raw.clone(),
            out: self.out.clone(),
            ledger: self.ledger.clone(),
            sender: self.sender.clone(),
            archive: self.archive.clone(),
            bombs: self.bombs.clone(),
            settings: self.settings,
            ..Self::new(self.kind)
        }
    }

    /// Makes the lease of a shard, as an assigner would.
    pub(crate) async fn make_lease(&self, checkpoint: Checkpoint) {
        let lease = NewLease { shard: self.shard.clone(), checkpoint, parents: Vec::new(), hash_range: None };
        assert!(self.leases.create(&lease).await.expect("the fake answers"));
    }

    /// Runs one lane without an assigner. Its lease is made and taken unless it is this worker's already.
    pub(crate) async fn lane(&self, worker: &str) -> Mailbox<LaneSupervisorMsg> {
        if self.leases.lease(&self.shard).is_none() {
            self.make_lease(Checkpoint::TrimHorizon).await;
        }
        let taken_at = Instant::now();
        let mut lease = self.leases.lease(&self.shard).expect("it was made");
        if lease.owner.as_deref() != Some(worker) {
            lease = self.leases.take(&lease, worker).await.expect("nobody else takes it");
        }
        self.run_lane(worker, lease, taken_at).await
    }

    /// Runs one lane with a lease that was taken then.
    pub(crate) async fn run_lane(&self, worker: &str, lease: Lease, taken_at: Instant) -> Mailbox<LaneSupervisorMsg> {
        let spot = Spot::root("LaneSupervisor", "lane");
        let args = |meter| LaneArgs {
            meter,
            table: self.table.clone(),
            spot: spot.clone(),
            worker: worker.to_owned(),
            lease,
            taken_at,
            start: StartAt::TrimHorizon,
            leases: Arc::new(self.leases.clone()),
            timing: TIMING,
            source: self.bombs.source(self.source.clone()),
            stages: self.stages(),
            letters: self.bombs.letters(self.letters.clone()),
            settings: self.settings,
            stats: self.stats.clone(),
            pulse: self.pulse.clone(),
        };
        self.table.spawn(&spot, None, LaneSupervisor, args).await.expect("a lane starts")
    }

    /// Hands a lane over, or gives its lease back. Says whether everything that had begun had ended.
    pub(crate) async fn hand_over(&self, lane: &Mailbox<LaneSupervisorMsg>, to: Option<&str>) -> bool {
        let to = to.map(str::to_owned);
        let drain = |done| LaneSupervisorMsg::Drain { to, patience: Duration::from_secs(30), done };
        match lane.actor().call(drain, Some(Duration::from_secs(60))).await {
            Ok(CallResult::Success(finished)) => finished,
            other => panic!("the lane did not drain: {other:?}"),
        }
    }

    pub(crate) fn application(&self) -> Application {
        Application {
            name: "app".to_owned(),
            source: Arc::new(self.source.clone()),
            leases: Arc::new(self.leases.clone()),
            letters: self.bombs.letters(self.letters.clone()),
            stages: self.stages(),
            settings: self.settings,
            start: StartAt::TrimHorizon,
            stats: self.stats.clone(),
            board: LeaseBoard::default(),
            timing: TIMING,
        }
    }

    fn stages(&self) -> Stages {
        match self.kind {
            Kind::Enrich { raw } => Stages::Enrich(EnrichStages {
                limit: SpeedMph::new(75).expect("a speed"),
                raw: raw.then(|| Arc::new(self.raw.clone()) as _),
                drivers: Arc::new(CachedDrivers::new(self.bombs.drivers(self.directory.clone()), DriverCacheLimits::default())),
                store: self.bombs.store(self.store.clone()),
                stream: self.bombs.stream(self.out.clone()),
            }),
            Kind::Notify => Stages::Notify(NotifyStages {
                ledger: Arc::new(self.ledger.clone()),
                sender: Arc::new(self.sender.clone()),
                in_flight: Arc::clone(&self.in_flight),
                rate: Arc::new(TextRate::per_second(NonZeroU32::new(1_000_000).expect("not zero"))),
                template: SmsTemplate::default(),
                claim_expiry: Duration::from_secs(10),
            }),
            Kind::Archive => Stages::Archive(ArchiveStages { archive: Arc::new(self.archive.clone()) }),
            Kind::Errors => Stages::Errors,
        }
    }

    /// Drains the node; everything in its lanes has to end.
    pub(crate) async fn drain(&self, node: &Mailbox<NodeSupervisorMsg>) {
        assert!(self.drained_whole(node).await, "everything in the lanes ended");
    }

    /// Drains the node; says whether everything in its lanes ended in time.
    pub(crate) async fn drained_whole(&self, node: &Mailbox<NodeSupervisorMsg>) -> bool {
        let drain = |done| NodeSupervisorMsg::Drain { patience: Duration::from_secs(30), done };
        match node.actor().call(drain, Some(Duration::from_secs(120))).await {
            Ok(CallResult::Success(finished)) => finished,
            other => panic!("the node did not drain: {other:?}"),
        }
    }

    pub(crate) fn outcomes(&self) -> OutcomeCounts {
        let mut sum = OutcomeCounts::default();
        for lane in self.stats.snapshot() {
            sum.merge(&lane.outcomes);
        }
        sum
    }

    /// Events of the last hour, and violations among them.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let counts = self.stats.traffic().last(std::time::SystemTime::now(), 60);
        counts.states.iter().fold((0, 0), |(events, violations), one| (events + one.events, violations + one.violations))
    }

    /// Waits until so many events ended.
    pub(crate) async fn settled(&self, n_events: u64) {
        self.until(|rig| rig.outcomes().total() >= n_events, "events to end").await;
    }

    /// Waits until the checkpoint is the last record of the first shard.
    pub(crate) async fn checkpointed_to_end(&self) {
        let last = Checkpoint::At(self.last_position());
        self.until(|rig| rig.checkpoint() == last, "the checkpoint to reach the last record").await;
    }

    pub(crate) async fn until(&self, reached: impl Fn(&Self) -> bool, what: &str) {
        for _ in 0..200_000 {
            if reached(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("waited in vain for {what}; outcomes {:?}, lanes {:#?}", self.outcomes(), self.stats.snapshot());
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.leases.lease(&self.shard).map_or(Checkpoint::TrimHorizon, |lease| lease.checkpoint)
    }

    pub(crate) fn owner(&self) -> Option<String> {
        self.leases.lease(&self.shard).and_then(|lease| lease.owner)
    }

    pub(crate) fn last_position(&self) -> Position {
        self.source.last_position(&self.shard).expect("a test pushed records")
    }

    pub(crate) fn distinct_published(&self) -> usize {
        self.out.records().into_iter().map(|record| record.data).collect::<HashSet<_>>().len()
    }

    pub(crate) fn restarts(&self) -> usize {
        self.table.restarts().len()
    }

    pub(crate) fn stream(&self) -> &str {
        self.source.stream()
    }
}
