//! The ingest lane: nothing is acknowledged that is not stored, nothing that is not acknowledged is lost, and one node does it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ractor::RpcReplyPort;
use ractor::concurrency::oneshot;
use speedtrap_actors::cluster::{Cluster, NodeSupervisorMsg, Work, start_node};
use speedtrap_actors::ingest::IngestSettings;
use speedtrap_actors::observe::{ActorTable, IngestStats, Mailbox};
use speedtrap_actors::ports::FailureKind;
use speedtrap_actors::testing::{MemoryBroker, MemoryDeadLetters, MemoryLeaseTable, MemoryViolationStream, failure};
use tokio::time::sleep;

const IN_FLIGHT: usize = 20;

#[derive(Clone)]
struct Rig {
    broker: MemoryBroker,
    stream: MemoryViolationStream,
    letters: MemoryDeadLetters,
    leases: MemoryLeaseTable,
}

impl Rig {
    fn new() -> Self {
        let broker = MemoryBroker::new(IN_FLIGHT);
        Self { broker, stream: Default::default(), letters: Default::default(), leases: Default::default() }
    }

    async fn node(&self, worker: &str) -> (Mailbox<NodeSupervisorMsg>, IngestStats) {
        let stats = IngestStats::default();
        let settings = IngestSettings {
            source: Arc::new(self.broker.clone()),
            stream: Arc::new(self.stream.clone()),
            letters: Arc::new(self.letters.clone()),
            leases: Arc::new(self.leases.clone()),
            topic_filter: "rtr/iot/trafficdata".to_owned(),
            client_id: "test-ingest".to_owned(),
            in_flight: IN_FLIGHT,
            linger: Duration::from_millis(50),
            renew_every: Duration::from_secs(3),
            expires_after: Duration::from_secs(10),
            stats: stats.clone(),
        };
        let work = Work { applications: Vec::new(), ingest: Some(settings) };
        let node = start_node(worker, &ActorTable::default(), work, Cluster::alone()).await.expect("a node starts");
        (node, stats)
    }

    fn publish(&self, numbers: std::ops::Range<u32>) {
        numbers.for_each(|n| self.broker.publish(reading(n)));
    }

    fn stored(&self) -> BTreeSet<Vec<u8>> {
        self.stream.records().iter().map(|record| record.data.to_vec()).collect()
    }

    fn has_all(&self, n: u32) -> bool {
        (0..n).all(|n| self.stored().contains(reading(n).as_bytes()))
    }
}

fn reading(n: u32) -> String {
    format!(
        r#"{{"iottimestamp":"2026-01-01 00:00:00.000001","licensePlate":"P-{}","longitude":"1","latitude":"2","city":"c",
        "state":"s","speed":"76","eventId":"reading-{n}"}}"#,
        n % 7
    )
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_stored_and_memory_is_bounded() {
    let rig = Rig::new();
    rig.stream.outage.fail_for(Duration::from_secs(60), failure(FailureKind::Throttled));
    let (_node, stats) = rig.node("n1#1").await;
    rig.publish(0..200);
    sleep(Duration::from_secs(55)).await;
    assert!(rig.stream.outage.n_calls() > 3, "it goes on trying");
    assert_eq!((rig.broker.acknowledged().len(), rig.stored().len()), (0, 0));
    assert_eq!((stats.snapshot().open, rig.broker.most_unacknowledged()), (IN_FLIGHT as u64, IN_FLIGHT));
    sleep(Duration::from_secs(60)).await;
    assert!(rig.has_all(200));
    assert_eq!(rig.stream.records().len(), 200, "and each once");
    assert_eq!((rig.broker.acknowledged().len(), stats.snapshot().acknowledged, stats.snapshot().open), (200, 200, 0));
    assert_eq!(rig.stream.records()[8].partition_key, "P-1");
}

#[tokio::test(start_paused = true)]
async fn what_a_cut_connection_did_not_acknowledge_comes_again() {
    let rig = Rig::new();
    rig.stream.outage.delay(Duration::from_millis(300));
    let (_node, stats) = rig.node("n1#1").await;
    rig.publish(0..300);
    for _ in 0..5 {
        sleep(Duration::from_millis(1_700)).await;
        rig.broker.cut();
    }
    sleep(Duration::from_secs(200)).await;
    assert!(rig.has_all(300), "{} of 300", rig.stored().len());
    let acknowledged: BTreeSet<_> = rig.broker.acknowledged().into_iter().collect();
    assert_eq!(acknowledged.len(), 300);
    assert!(stats.snapshot().connections >= 3 && stats.snapshot().connected);
    assert!(rig.broker.most_unacknowledged() <= IN_FLIGHT);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_reading_becomes_a_dead_letter_and_is_acknowledged() {
    let rig = Rig::new();
    rig.stream.refuse("P-3", "the stream does not like it");
    rig.letters.outage.fail_next(2, failure(FailureKind::Unreachable));
    let (_node, stats) = rig.node("n1#1").await;
    rig.broker.publish("no JSON");
    rig.publish(0..7);
    rig.broker.publish("{}");
    sleep(Duration::from_secs(30)).await;
    assert_eq!((rig.stream.records().len(), rig.broker.acknowledged().len()), (6, 9));
    let letters = rig.letters.letters();
    assert_eq!((letters.len(), stats.snapshot().letters, stats.snapshot().stored), (3, 3, 6));
    assert!(letters.iter().all(|letter| letter.stage == "ingest"));
    assert!(letters.iter().all(|letter| letter.source().starts_with("mqtt:test-ingest/rtr/iot/trafficdata/")));
    let reasons: BTreeSet<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert!(reasons.contains("the stream does not like it") && reasons.contains("member iottimestamp is missing"), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn one_node_ingests_and_another_takes_over_when_it_is_dead() {
    let rig = Rig::new();
    let (first, first_stats) = rig.node("n1#1").await;
    sleep(Duration::from_secs(5)).await;
    let (second, second_stats) = rig.node("n2#1").await;
    rig.publish(0..50);
    sleep(Duration::from_secs(30)).await;
    assert!(first_stats.snapshot().leads && !second_stats.snapshot().leads);
    assert_eq!((first_stats.snapshot().stored, second_stats.snapshot().received, rig.broker.connections()), (50, 0, 1));

    first.cell().kill();
    first.cell().wait(None).await.expect("it ends");
    rig.publish(50..100);
    sleep(Duration::from_secs(15)).await;
    assert!(second_stats.snapshot().leads && rig.has_all(100));

    // One that drains gives the lease away at once, with nothing open.
    let (third, third_stats) = rig.node("n3#1").await;
    rig.publish(100..120);
    let (done, is_done) = oneshot();
    let done: RpcReplyPort<bool> = done.into();
    second.cast(NodeSupervisorMsg::Drain { patience: Duration::from_secs(10), done }).expect("it lives");
    assert!(is_done.await.expect("an answer"));
    sleep(Duration::from_secs(3)).await;
    assert!(third_stats.snapshot().leads && !second_stats.snapshot().leads);
    sleep(Duration::from_secs(3)).await;
    assert!(rig.has_all(120));
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_is_dialled_again_and_again() {
    let rig = Rig::new();
    rig.broker.outage.fail_for(Duration::from_secs(100), failure(FailureKind::Unreachable));
    rig.publish(0..5);
    let (_node, stats) = rig.node("n1#1").await;
    sleep(Duration::from_secs(90)).await;
    assert!(!stats.snapshot().connected && stats.snapshot().trouble.is_some());
    assert!((4..=60).contains(&rig.broker.outage.n_calls()), "{} dials", rig.broker.outage.n_calls());
    sleep(Duration::from_secs(80)).await;
    assert!(rig.has_all(5) && stats.snapshot().connected && stats.snapshot().trouble.is_none());
}
