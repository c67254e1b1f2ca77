//! Several nodes in one process share the leases of one application: real assigners, lease plans and lanes on memory ports. Links
//! between processes have tests of their own.

mod rig;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ractor::rpc::CallResult;
use rig::{Rig, reading};
use speedtrap_actors::cluster::{Cluster, ClusterNode, ClusterView, NodeSupervisorMsg, Presence, start_node};
use speedtrap_actors::domain::ShardId;
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::{ActorTable, LaneStats, LeaseBoard, Mailbox};
use speedtrap_actors::ports::{Checkpoint, LeaseTable as _, NewLease, PeerFailure, Peers};
use tokio::sync::watch;
use tokio::time::Instant;

const N_SHARDS: usize = 8;

/// The nodes of a test, by worker id.
#[derive(Clone, Default)]
struct Fleet(Arc<Mutex<BTreeMap<String, Member>>>, Arc<Mutex<Option<ShardId>>>);

#[derive(Clone)]
struct Member {
    root: Mailbox<NodeSupervisorMsg>,
    stats: LaneStats,
    view: watch::Sender<Arc<ClusterView>>,
    presence: Presence,
}

#[async_trait]
impl Peers for Fleet {
    async fn ask_lease(&self, worker: &str, application: &str, taker: &str) -> Result<Option<ShardId>, PeerFailure> {
        if let Some(promised) = self.1.lock().expect("not poisoned").clone() {
            return Ok(Some(promised));
        }
        let ask = |answer| NodeSupervisorMsg::LeaseAsked { application: application.to_owned(), taker: taker.to_owned(), answer };
        match self.root(worker)?.actor().call(ask, Some(Duration::from_secs(2))).await {
            Ok(CallResult::Success(promised)) => Ok(promised),
            _ => Err(PeerFailure { worker: worker.to_owned(), reason: "no answer".to_owned() }),
        }
    }

    async fn assigned(&self, worker: &str, application: &str) -> Result<(), PeerFailure> {
        let told = self.root(worker)?.cast(NodeSupervisorMsg::Assigned { application: application.to_owned() });
        told.map_err(|_| PeerFailure { worker: worker.to_owned(), reason: "gone".to_owned() })
    }
}

impl Fleet {
    fn root(&self, worker: &str) -> Result<Mailbox<NodeSupervisorMsg>, PeerFailure> {
        let members = self.0.lock().expect("not poisoned");
        let reachable = members.get(worker).filter(|member| member.presence == Presence::Linked);
        let failure = || PeerFailure { worker: worker.to_owned(), reason: "not linked".to_owned() };
        reachable.map(|member| member.root.clone()).ok_or_else(failure)
    }

    async fn join(&self, rig: &Rig, worker: &str) {
        let (view, seen) = watch::channel(Arc::default());
        let mut application = rig.application();
        (application.stats, application.board) = (LaneStats::default(), LeaseBoard::default());
        let stats = application.stats.clone();
        let cluster = Cluster { peers: Arc::new(self.clone()), view: seen, pulse: Pulse::unwatched() };
        let root = start_node(worker, &ActorTable::default(), vec![application], cluster).await.expect("a node starts");
        let member = Member { root, stats, view, presence: Presence::Linked };
        self.0.lock().expect("not poisoned").insert(worker.to_owned(), member);
        self.show();
    }

    /// Lets every node see every other as it is.
    fn show(&self) {
        let members = self.0.lock().expect("not poisoned");
        for (me, member) in members.iter() {
            let node = |(worker, other): (&String, &Member)| ClusterNode {
                name: worker.split('#').next().expect("one part").to_owned(),
                worker: worker.clone(),
                address: None,
                dashboard: None,
                roles: vec!["enrich".to_owned()],
                draining: false,
                presence: if worker == me { Presence::Here } else { other.presence },
                round_trip: None,
                misses: 0,
            };
            member.view.send_replace(Arc::new(ClusterView { nodes: members.iter().map(node).collect() }));
        }
    }

    fn set(&self, worker: &str, presence: Presence) {
        self.0.lock().expect("not poisoned").get_mut(worker).expect("a member").presence = presence;
        self.show();
    }

    fn kill(&self, worker: &str) {
        let root = self.root(worker).expect("a member");
        root.cell().kill();
    }

    async fn drain(&self, worker: &str) {
        let root = self.root(worker).expect("a member");
        let drain = |done| NodeSupervisorMsg::Drain { patience: Duration::from_secs(10), done };
        let drained = root.actor().call(drain, Some(Duration::from_secs(60))).await;
        assert!(matches!(drained, Ok(CallResult::Success(true))), "everything begun ended: {drained:?}");
        self.0.lock().expect("not poisoned").get_mut(worker).expect("a member").presence = Presence::Dead;
        self.show();
    }

    fn settled(&self) -> u64 {
        let members = self.0.lock().expect("not poisoned");
        members.values().flat_map(|member| member.stats.snapshot()).map(|lane| lane.outcomes.total()).sum()
    }
}

/// How many shards each worker owns.
fn owned(rig: &Rig) -> BTreeMap<String, usize> {
    let mut owned = BTreeMap::new();
    for shard in shards() {
        if let Some(owner) = rig.leases.lease(&shard).and_then(|lease| lease.owner) {
            *owned.entry(owner).or_default() += 1;
        }
    }
    owned
}

fn shards() -> impl Iterator<Item = ShardId> {
    (0..N_SHARDS).map(|n| ShardId::new(&format!("shardId-{n:012}")))
}

fn is_fair(rig: &Rig, workers: &[&str]) -> bool {
    let owned = owned(rig);
    let counts: Vec<usize> = workers.iter().map(|worker| owned.get(*worker).copied().unwrap_or_default()).collect();
    let (least, most) = (counts.iter().min().expect("one"), counts.iter().max().expect("one"));
    counts.iter().sum::<usize>() == N_SHARDS && most - least <= 1
}

async fn within(limit: Duration, what: &str, reached: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// A stream of eight shards with a reading every few milliseconds, until told to stop; gives how many.
struct Traffic {
    stop: watch::Sender<bool>,
    pushing: tokio::task::JoinHandle<u64>,
}

impl Traffic {
    fn start(rig: &Rig) -> Self {
        let (stop, stopped) = watch::channel(false);
        let source = rig.source.clone();
        let pushing = tokio::spawn(async move {
            let mut n = 0;
            while !*stopped.borrow() {
                let shard = ShardId::new(&format!("shardId-{:012}", n % N_SHARDS));
                source.push_to(&shard, reading(&format!("P{}", n % 64), 90, n));
                n += 1;
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            n as u64
        });
        Self { stop, pushing }
    }

    async fn end(self) -> u64 {
        self.stop.send_replace(true);
        self.pushing.await.expect("it pushes without a panic")
    }
}

fn eight_shards() -> Rig {
    let rig = Rig::enrich();
    (1..N_SHARDS).for_each(|n| rig.source.open(&format!("shardId-{n:012}")));
    rig
}

async fn fair_fleet(rig: &Rig) -> Fleet {
    let fleet = Fleet::default();
    for worker in ["n1#1", "n2#1", "n3#1"] {
        fleet.join(rig, worker).await;
    }
    within(Duration::from_secs(10), "three nodes share fairly", || is_fair(rig, &["n1#1", "n2#1", "n3#1"])).await;
    fleet
}

/// Every reading ended exactly once, and its effect stands exactly once.
async fn each_once(rig: &Rig, fleet: &Fleet, n_events: u64) {
    within(Duration::from_secs(60), "everything ends", || fleet.settled() >= n_events).await;
    assert_eq!(fleet.settled(), n_events);
    assert_eq!(rig.store.items().len() as u64, n_events, "an event was lost");
    assert_eq!(rig.store.n_puts() as u64, n_events, "an event was processed twice");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_gets_its_share_and_one_that_leaves_gives_it_back_with_nothing_done_twice() {
    let rig = eight_shards();
    let traffic = Traffic::start(&rig);
    let fleet = fair_fleet(&rig).await;
    fleet.join(&rig, "n4#1").await;
    let all = ["n1#1", "n2#1", "n3#1", "n4#1"];
    let took = within(Duration::from_secs(10), "four nodes share fairly", || is_fair(&rig, &all)).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let shared = owned(&rig);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(owned(&rig), shared, "a fair spread stays");
    fleet.drain("n2#1").await;
    assert_eq!(owned(&rig).get("n2#1"), None);
    within(Duration::from_secs(5), "three nodes share fairly", || is_fair(&rig, &["n1#1", "n3#1", "n4#1"])).await;
    let n_events = traffic.end().await;
    each_once(&rig, &fleet, n_events).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_leases_are_taken_at_once_and_a_cut_link_moves_nothing() {
    let rig = eight_shards();
    let traffic = Traffic::start(&rig);
    let fleet = fair_fleet(&rig).await;
    let before = owned(&rig);
    fleet.set("n3#1", Presence::Unlinked);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(owned(&rig), before, "a cut link moves nothing");
    fleet.set("n3#1", Presence::Linked);
    fleet.kill("n3#1");
    fleet.set("n3#1", Presence::Dead);
    let took = within(Duration::from_secs(9), "the others take over", || is_fair(&rig, &["n1#1", "n2#1"])).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let n_events = traffic.end().await;
    let done = || rig.store.items().len() as u64 == n_events;
    within(Duration::from_secs(60), "nothing is lost", done).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_old_owner_did_not_write_any_more_expires() {
    let rig = eight_shards();
    let fleet = fair_fleet(&rig).await;
    fleet.kill("n1#1");
    fleet.set("n1#1", Presence::Suspect);
    let took = within(Duration::from_secs(20), "the others take over", || is_fair(&rig, &["n2#1", "n3#1"])).await;
    assert!(took > Duration::from_secs(6), "{took:?}");
    assert!(shards().all(|shard| rig.leases.lease(&shard).is_some_and(|lease| lease.checkpoint == Checkpoint::TrimHorizon)));
}

#[tokio::test(start_paused = true)]
async fn a_promise_of_a_node_that_died_holds_nobody_up() {
    let rig = eight_shards();
    let fleet = Fleet::default();
    fleet.join(&rig, "n1#1").await;
    within(Duration::from_secs(10), "one node takes all", || is_fair(&rig, &["n1#1"])).await;
    *fleet.1.lock().expect("not poisoned") = shards().next();
    fleet.join(&rig, "n2#1").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    fleet.kill("n1#1");
    fleet.set("n1#1", Presence::Dead);
    let took = within(Duration::from_secs(30), "the other takes all", || is_fair(&rig, &["n2#1"])).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_show_that_it_lives_takes_nothing_and_looks_at_a_steady_pace() {
    let rig = eight_shards();
    let cluster = Cluster { pulse: Pulse::lasting(Duration::ZERO), ..Cluster::alone() };
    let _node = start_node("n1#1", &ActorTable::default(), vec![rig.application()], cluster).await.expect("a node starts");
    for shard in shards() {
        let new = NewLease { shard, checkpoint: Checkpoint::TrimHorizon, parents: Vec::new(), hash_range: None };
        rig.leases.create(&new).await.expect("a row");
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(owned(&rig).len(), 0);
    let looks = rig.leases.outage.n_calls();
    assert!(looks < 3 * 3_600, "{looks} looks in an hour");
}
