//! What operators have a node do: actors that they end, lanes that they drain, nodes that stand aside; with paused time.

mod rig;

use std::time::Duration;

use ractor::rpc::CallResult;
use rig::{Rig, reading};
use speedtrap_actors::cluster::{ActorEnd, NodeOrder, NodeSupervisorMsg, OrderAnswer, OrderRefusal};
use speedtrap_actors::observe::{ActorState, Mailbox};
use speedtrap_actors::testing::sample_driver;
use tokio::time::sleep;

const LANE: &str = "n1/enrich/shardId-000000000000";

fn enrich(n_events: usize) -> Rig {
    let rig = Rig::enrich();
    for plate in 0..7 {
        rig.directory.register(&format!("P{plate}"), sample_driver("Ada"));
    }
    for n in 0..n_events {
        rig.source.push(reading(&format!("P{}", n % 7), 80, n));
    }
    rig
}

async fn order(node: &Mailbox<NodeSupervisorMsg>, order: NodeOrder) -> OrderAnswer {
    let ask = |answer| NodeSupervisorMsg::Ordered(order, answer);
    match node.actor().call(ask, Some(Duration::from_secs(10))).await {
        Ok(CallResult::Success(answer)) => answer,
        other => panic!("no answer: {other:?}"),
    }
}

async fn end(node: &Mailbox<NodeSupervisorMsg>, path: &str, how: ActorEnd) -> OrderAnswer {
    order(node, NodeOrder::EndActor { path: path.to_owned(), how, by: "op".into(), reason: "a test".into() }).await
}

fn refusal(answer: &OrderAnswer) -> Option<OrderRefusal> {
    if let OrderAnswer::Refused(refusal, _) = answer { Some(*refusal) } else { None }
}

fn runs(rig: &Rig, path: &str) -> bool {
    rig.table.rows().iter().any(|row| row.spot.path == path && row.state == ActorState::Running)
}

#[tokio::test(start_paused = true)]
async fn actors_that_an_operator_kills_count_against_no_record() {
    for stage in ["shard_reader", "driver_lookup", "violation_persister", "lane_end"] {
        let rig = enrich(300);
        // Nothing makes progress, so three faults would let records in one by one.
        rig.bombs.freeze(true);
        let node = rig.start("n1#1").await;
        let path = format!("{LANE}/{stage}");
        for n in 1..=5 {
            rig.until(|rig| runs(rig, &path), "the actor to run").await;
            sleep(Duration::from_millis(300)).await;
            let how = if n % 2 == 0 { ActorEnd::Kill } else { ActorEnd::Restart };
            assert_eq!(end(&node, &path, how).await, OrderAnswer::Begun);
            rig.until(|rig| rig.restarts() == n, "the restart").await;
        }
        rig.bombs.freeze(false);
        rig.until(|rig| runs(rig, &path), "the actor to run").await;
        rig.checkpointed_to_end().await;
        let calls = rig.store.outage.n_calls();
        assert!(calls < 30, "{calls} calls for 300 records: they were let in alone");
        let log: Vec<_> = rig.table.restarts().into_iter().map(|restart| (restart.path, restart.reason, restart.by)).collect();
        let expected = ["restarted", "killed", "restarted", "killed", "restarted"]
            .map(|past| (path.clone(), format!("{past} by op: a test"), Some("op".to_owned())));
        assert_eq!(log, expected);
        rig.drain(&node).await;
        assert_eq!(rig.store.items().len(), 300);
    }
}

#[tokio::test(start_paused = true)]
async fn supervisors_that_an_operator_kills_come_back_with_all_below_them() {
    for path in ["n1/enrich", LANE, "n1/enrich/shardId-000000000000/lease_keeper"] {
        let rig = enrich(2_000);
        rig.store.outage.delay(Duration::from_millis(200));
        let node = rig.start("n1#1").await;
        rig.until(|rig| runs(rig, path), "the actor to run").await;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(end(&node, path, ActorEnd::Kill).await, OrderAnswer::Begun);
        rig.until(|rig| rig.table.rows().iter().any(|row| row.restarts == 1), "the restart").await;
        rig.checkpointed_to_end().await;
        assert!(runs(&rig, path), "{path}");
        let row = rig.table.rows().into_iter().find(|row| row.spot.path == path).expect("it is there");
        let last = row.last_restart.expect("it was restarted");
        assert_eq!((last.reason.as_str(), row.restarts), ("killed by op: a test", 1), "{path}");
        assert_eq!(rig.distinct_published(), 2_000, "{path}");
        rig.drain(&node).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_lane_goes_on_from_its_checkpoint_with_nothing_processed_twice() {
    for moment in (0..1_500).step_by(130) {
        for (path, shown_at) in [(format!("{LANE}/speed_filter"), "speed_filter"), (LANE.to_owned(), "shard_reader")] {
            let mut rig = enrich(600);
            (rig.settings.batch_events, rig.settings.credit_events) = (40, 200);
            rig.store.outage.delay(Duration::from_millis(37));
            rig.out.outage.delay(Duration::from_millis(53));
            let node = rig.start("n1#1").await;
            rig.until(|rig| runs(rig, &path), "the actor to run").await;
            sleep(Duration::from_millis(moment)).await;
            assert_eq!(end(&node, &path, ActorEnd::Drain).await, OrderAnswer::Begun);
            rig.until(|rig| rig.restarts() == 1, "the restart").await;
            rig.checkpointed_to_end().await;
            assert_eq!((rig.out.records().len(), rig.store.n_puts()), (600, 600), "drained after {moment} ms");
            let log = rig.table.restarts();
            assert_eq!(log[0].path, format!("{LANE}/{shown_at}"));
            assert_eq!((log[0].reason.as_str(), log[0].by.as_deref()), ("drained by op: a test", Some("op")));
            rig.drain(&node).await;
            assert_eq!(rig.outcomes().total(), 600);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_does_not_finish_in_time_starts_again_all_the_same() {
    let rig = enrich(100);
    rig.bombs.freeze(true);
    let node = rig.start("n1#1").await;
    let path = format!("{LANE}/violation_persister");
    rig.until(|rig| runs(rig, &path), "the actor to run").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(end(&node, &path, ActorEnd::Drain).await, OrderAnswer::Begun);
    assert_eq!(refusal(&end(&node, &path, ActorEnd::Drain).await), Some(OrderRefusal::NotNow), "it drains already");
    sleep(Duration::from_secs(9)).await;
    assert_eq!(rig.restarts(), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.restarts(), 1);
    rig.bombs.freeze(false);
    rig.until(|rig| rig.store.items().len() == 100, "all to be stored").await;
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_ended_or_is_not_there_is_refused() {
    let rig = enrich(0);
    let node = rig.start("n1#1").await;
    rig.until(|rig| runs(rig, LANE), "the lane to run").await;
    for how in [ActorEnd::Kill, ActorEnd::Restart, ActorEnd::Drain] {
        assert_eq!(refusal(&end(&node, "n1", how).await), Some(OrderRefusal::NotAllowed));
        assert_eq!(refusal(&end(&node, "n1/nobody", how).await), Some(OrderRefusal::NotFound));
    }
    let hand_over = |application: &str, shard: &str, to: Option<&str>| {
        let (application, shard, to) = (application.to_owned(), shard.to_owned(), to.map(str::to_owned));
        order(&node, NodeOrder::HandOver { application, shard, to })
    };
    assert_eq!(refusal(&hand_over("other", "shardId-000000000000", None).await), Some(OrderRefusal::NotFound));
    assert_eq!(refusal(&hand_over("app", "other", None).await), Some(OrderRefusal::NotFound));
    assert_eq!(refusal(&hand_over("app", "shardId-000000000000", Some("n2#1")).await), Some(OrderRefusal::NotNow));
    assert_eq!(refusal(&hand_over("app", "shardId-000000000000", None).await), Some(OrderRefusal::NotNow), "nobody takes it");
    assert_eq!(rig.restarts(), 0);
    assert!(runs(&rig, LANE));
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_aside_gives_its_leases_away_and_takes_them_back_when_it_resumes() {
    let rig = enrich(2_000);
    rig.store.outage.delay(Duration::from_millis(100));
    let node = rig.start("n1#1").await;
    rig.until(|rig| runs(rig, LANE), "the lane to run").await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(order(&node, NodeOrder::StandAside).await, OrderAnswer::Begun);
    rig.until(|rig| rig.owner().is_none(), "the lease to be free").await;
    let before = rig.out.records().len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!((rig.owner(), rig.out.records().len()), (None, before), "it takes nothing");
    // Whatever of it starts anew stays aside, too.
    assert_eq!(end(&node, "n1/enrich", ActorEnd::Kill).await, OrderAnswer::Begun);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.owner(), None);
    assert_eq!(order(&node, NodeOrder::Resume).await, OrderAnswer::Begun);
    rig.checkpointed_to_end().await;
    assert_eq!(rig.owner().as_deref(), Some("n1#1"));
    assert_eq!(rig.out.records().len(), 2_000, "nothing was processed twice");
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_may_resume_while_it_still_gives_its_leases_away() {
    let rig = enrich(100);
    rig.bombs.freeze(true);
    let node = rig.start("n1#1").await;
    rig.until(|rig| runs(rig, LANE), "the lane to run").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(order(&node, NodeOrder::StandAside).await, OrderAnswer::Begun);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.owner().as_deref(), Some("n1#1"), "it has not finished what it began");
    assert_eq!(order(&node, NodeOrder::Resume).await, OrderAnswer::Begun);
    rig.bombs.freeze(false);
    rig.checkpointed_to_end().await;
    assert_eq!((rig.owner().as_deref(), rig.distinct_published()), (Some("n1#1"), 100));
    rig.drain(&node).await;
}
