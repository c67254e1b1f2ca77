//! A node's membership dies and starts again: its heartbeat goes on, its place in the cluster is taken up once, not twice.
//!
//! Alone in this file, since process groups belong to the whole process.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorStatus;
use speedtrap_actors::adapters::ClusterSocket;
use speedtrap_actors::cluster::{ClusterTimings, Desk, Links, MembershipSettings, Presence, Work, start_member};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::{ActorState, ActorTable};
use speedtrap_actors::ports::NodeRow;
use speedtrap_actors::testing::MemoryNodeTable;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(10);

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn gateways() -> usize {
    let members = ractor::pg::get_scoped_members(&"speedtrap".to_owned(), &"gateway".to_owned());
    members.iter().filter(|member| member.get_status() == ActorStatus::Running).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_membership_starts_again_while_the_heartbeat_goes_on() {
    let socket = ClusterSocket::bind("127.0.0.1:0".parse().expect("an address"), None).await.expect("a port");
    let address = socket.local_addr().expect("it is bound");
    let (table, actors, links, pulse) =
        (MemoryNodeTable::default(), ActorTable::default(), Links::none_yet(), Pulse::lasting(Duration::from_secs(2)));
    let me = NodeRow {
        name: "node-1".into(),
        boot: 7,
        address: Some(address.to_string()),
        dashboard: None,
        roles: Vec::new(),
        heartbeat: 0,
        draining: false,
    };
    let settings = MembershipSettings {
        me,
        table: Some(Arc::new(table.clone())),
        socket: Arc::new(socket),
        join: vec![address.to_string()],
        cookie: "a secret of this test".into(),
        links: links.clone(),
        desk: Desk {
            page: Arc::new(|_| None),
            load_committed: Arc::new(|_| ()),
            drain: Arc::new(|| ()),
            order: Arc::new(|_| Box::pin(std::future::ready(None))),
        },
        pulse: pulse.clone(),
        superseded: Arc::new(|| ()),
        timings: ClusterTimings { beat_every: Duration::from_millis(50), ..ClusterTimings::default() },
    };
    let root = start_member(&actors, Work::default(), settings).await.expect("it starts");
    eventually("the gateway runs", || gateways() == 1).await;

    let all = ractor::registry::get_all_pids();
    let membership = all.into_iter().find(|cell| actors.path_of(cell).as_deref() == Some("node-1/membership"));
    membership.expect("it runs").kill();
    let row = || actors.rows().into_iter().find(|row| row.spot.path == "node-1/membership").expect("it has a row");
    eventually("it runs again", || row().restarts == 1 && row().state == ActorState::Running).await;
    eventually("one gateway is left", || gateways() == 1).await;
    drop(TcpStream::connect(address).await.expect("somebody listens"));
    let beat = table.row("node-1").expect("it is registered").heartbeat;
    eventually("the heartbeat goes on", || table.row("node-1").is_some_and(|row| row.heartbeat > beat)).await;
    assert!(pulse.is_fresh());
    let view = links.view().borrow().clone();
    assert_eq!(view.nodes.iter().map(|node| node.presence).collect::<Vec<_>>(), [Presence::Here], "it dials nobody but itself");

    root.cell().stop_and_wait(None, Some(LIMIT)).await.expect("it stops");
}
