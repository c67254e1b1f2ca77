//! Whole lanes on scripted shards and memory ports, with paused time: what goes in comes out once, whatever breaks on the way.

mod rig;

use std::time::Duration;

use rig::{Rig, reading};
use speedtrap_actors::domain::Outcome;
use speedtrap_actors::observe::LaneState;
use speedtrap_actors::ports::{Checkpoint, FailureKind};
use speedtrap_actors::testing::{failure, sample_driver};

#[tokio::test(start_paused = true)]
async fn every_reading_ends_once_and_the_checkpoint_reaches_the_last() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for (n, (plate, mph)) in [("known", 80), ("KNOWN", 75), ("nobody", 99), ("KNOWN", 76), ("KNOWN", 60)].into_iter().enumerate()
    {
        rig.source.push(reading(plate, mph, n));
    }
    rig.source.push("not json");
    let node = rig.start("n1#1").await;
    rig.settled(6).await;

    let counts = rig.outcomes();
    assert_eq!(counts.get(Outcome::UnderLimit), 2);
    assert_eq!(counts.get(Outcome::Published), 2);
    assert_eq!(counts.get(Outcome::OwnerUnknown), 1);
    assert_eq!(counts.get(Outcome::Rejected), 1);
    assert_eq!(rig.traffic(), (5, 3), "what is no reading is no traffic");
    assert_eq!(rig.store.items().len(), 3);
    assert_eq!(rig.out.records().len(), 2);
    let letters = rig.letters.letters();
    assert_eq!((letters.len(), letters[0].stage, &letters[0].payload[..]), (1, "enrich", &b"not json"[..]));
    rig.drain(&node).await;
    assert_eq!(rig.checkpoint(), Checkpoint::At(rig.last_position()));
    assert_eq!(rig.owner(), None, "a drained lane gives its lease back");
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_any_stage_loses_nothing() {
    for stage in ["drivers", "store", "stream", "letters"] {
        let rig = Rig::enrich();
        rig.directory.register("KNOWN", sample_driver("Ada"));
        for n in 0..1_000 {
            rig.source.push(reading("KNOWN", if n % 2 == 0 { 80 } else { 70 }, n));
        }
        rig.source.push("not json");
        rig.bombs.arm(stage, 2);
        let node = rig.start("n1#1").await;
        rig.checkpointed_to_end().await;
        assert!(rig.bombs.exploded(stage) >= 1, "{stage} was reached");
        assert_eq!(rig.store.items().len(), 500, "{stage}");
        assert_eq!(rig.distinct_published(), 500, "{stage}");
        assert_eq!(rig.letters.letters().len(), 1, "{stage}");
        assert!(rig.restarts() >= 1, "{stage}");
        rig.drain(&node).await;
        assert_eq!(rig.traffic(), (1_000, 500), "{stage}: what starts again counts once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_kills_its_lane_becomes_a_dead_letter_and_no_innocent_does() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for n in 0..300 {
        rig.source.push(reading(if n == 137 { "POISON" } else { "KNOWN" }, 80, n));
    }
    rig.bombs.poison("POISON");
    let node = rig.start("n1#1").await;
    rig.checkpointed_to_end().await;
    let letters = rig.letters.letters();
    assert_eq!(letters.len(), 1);
    assert!(String::from_utf8_lossy(&letters[0].payload).contains("POISON"));
    assert_eq!(rig.store.items().len(), 299);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_any_length_blames_no_record() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for n in 0..200 {
        rig.source.push(reading("KNOWN", 80, n));
    }
    let hour = Duration::from_secs(3600);
    rig.store.outage.fail_for(hour, failure(FailureKind::Unreachable));
    rig.directory.outage.fail_for(hour / 2, failure(FailureKind::TimedOut));
    rig.out.outage.fail_for(hour * 2, failure(FailureKind::Throttled));
    let node = rig.start("n1#1").await;
    rig.checkpointed_to_end().await;
    assert_eq!(rig.letters.letters().len(), 0);
    assert_eq!((rig.store.items().len(), rig.distinct_published()), (200, 200));
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_table_refuses_becomes_a_dead_letter_without_a_restart() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for n in 0..10 {
        rig.source.push(reading("KNOWN", 80, n));
    }
    rig.store.refuse("e-4", "item is too large");
    let node = rig.start("n1#1").await;
    rig.settled(10).await;
    assert_eq!((rig.letters.letters().len(), rig.store.items().len(), rig.distinct_published()), (1, 9, 9));
    assert_eq!(rig.restarts(), 0);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_the_credit_is_rejected_with_its_payload_and_the_rest_goes_on() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    rig.source.push(reading("KNOWN", 80, 0));
    rig.source.push(vec![b'x'; 10 << 20]);
    rig.source.push(reading("KNOWN", 80, 1));
    let node = rig.start("n1#1").await;
    rig.settled(3).await;
    assert_eq!(rig.letters.letters()[0].payload.len(), 10 << 20);
    assert_eq!(rig.distinct_published(), 2);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_stops_the_reading_and_never_more_than_the_credit_is_open() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for n in 0..20_000 {
        rig.source.push(reading("KNOWN", 80, n));
    }
    rig.store.outage.delay(Duration::from_secs(70));
    let node = rig.start("n1#1").await;
    let mut most = 0;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(rig.stats.snapshot().iter().map(|lane| lane.in_lane).max().unwrap_or(0));
    }
    assert!((1_000..=2_000).contains(&most), "{most} events were open");
    assert!(!rig.drained_whole(&node).await, "a drain that runs out of patience says so");
    assert_eq!(rig.owner(), None, "and gives the lease back all the same");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_goes_on_where_the_dead_one_stopped() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for n in 0..100 {
        rig.source.push(reading("KNOWN", 80, n));
    }
    let first = rig.start("n1#1").await;
    rig.checkpointed_to_end().await;
    first.actor().get_cell().kill();
    for n in 100..150 {
        rig.source.push(reading("KNOWN", 80, n));
    }
    let second = rig.start("n1#2").await;
    rig.checkpointed_to_end().await;
    assert_eq!(rig.store.items().len(), 150);
    assert_eq!(rig.store.n_puts(), 150, "nothing before the checkpoint was processed again");
    rig.drain(&second).await;
}

#[tokio::test(start_paused = true)]
async fn children_of_a_split_start_once_their_parent_is_done() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    let parent = rig.shard.clone();
    for n in 0..50 {
        rig.source.push(reading("KNOWN", 80, n));
    }
    rig.source.close(&parent, &["left", "right"]);
    for n in 50..60 {
        rig.source.push_to(&speedtrap_actors::domain::ShardId::new("left"), reading("KNOWN", 80, n));
    }
    rig.store.outage.delay(Duration::from_secs(5));
    let node = rig.start("n1#1").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.source.opened().len(), 1, "the children wait");
    rig.settled(60).await;
    assert_eq!(rig.leases.lease(&parent).map(|lease| lease.checkpoint), Some(Checkpoint::ShardEnd));
    assert_eq!(rig.store.items().len(), 60);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_lease_was_taken_closes_and_writes_nothing_more() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    let node = rig.start("n1#1").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut lease = rig.leases.lease(&rig.shard).expect("the row was made");
    lease.owner = Some("n2#1".to_owned());
    lease.counter += 1;
    rig.leases.overwrite(lease);
    let before = rig.leases.checkpoints().len();
    rig.source.push(reading("KNOWN", 80, 0));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Closed);
    assert_eq!(rig.leases.checkpoints().len(), before);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_is_opened_again_without_loss_or_repeat() {
    let rig = Rig::enrich();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    let node = rig.start("n1#1").await;
    for n in 0..30 {
        rig.source.push(reading("KNOWN", 80, n));
        if n % 10 == 9 {
            rig.source.expire_iterators();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    rig.settled(30).await;
    assert_eq!(rig.store.n_puts(), 30);
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn the_raw_table_gets_every_event_and_the_speeding_table_violations_only() {
    let rig = Rig::enrich_with_raw();
    rig.directory.register("KNOWN", sample_driver("Ada"));
    for n in 0..10 {
        rig.source.push(reading("KNOWN", if n < 4 { 80 } else { 60 }, n));
    }
    rig.source.push("not json");
    let node = rig.start("n1#1").await;
    rig.settled(11).await;
    assert_eq!((rig.raw.items().len(), rig.store.items().len(), rig.letters.letters().len()), (10, 4, 1));
    rig.drain(&node).await;
}
