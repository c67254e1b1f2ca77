//! Lanes that move between nodes, lose their node's pulse, reach the end of their shard, or freeze; with paused time.

mod rig;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rig::{Rig, reading};
use speedtrap_actors::domain::{Outcome, ShardId};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::LaneState;
use speedtrap_actors::ports::{AlertLedger, Checkpoint, FailureKind, LeaseTable, NewLease, SourceError};
use speedtrap_actors::testing::{failure, sample_driver, sample_event};
use speedtrap_actors::wire::write_published;
use tokio::time::{Instant, sleep};

const N1: &str = "n1#1";
const N2: &str = "n2#1";

fn enrich() -> Rig {
    let rig = Rig::enrich();
    for plate in 0..7 {
        rig.directory.register(&format!("P{plate}"), sample_driver("Ada"));
    }
    rig
}

fn violation(n: usize) -> String {
    reading(&format!("P{}", n % 7), 80, n)
}

/// The numbers of the events on the out-stream, in order, by plate.
fn published_by_plate(rig: &Rig) -> BTreeMap<String, Vec<usize>> {
    let mut by_plate: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for record in rig.out.records() {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        let number = text.split(r#""eventId":"e-"#).nth(1).and_then(|rest| rest.split('"').next()).expect("an event id");
        by_plate.entry(record.partition_key).or_default().push(number.parse().expect("a number"));
    }
    by_plate
}

fn assert_each_once_in_order(rig: &Rig, n_events: usize) {
    let by_plate = published_by_plate(rig);
    assert_eq!(by_plate.values().map(Vec::len).sum::<usize>(), n_events, "each event was published once");
    for (plate, numbers) in by_plate {
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{plate} kept its order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_planned_move_at_any_moment_processes_each_event_once_and_in_order() {
    for moment in (0..1_200).step_by(80) {
        let mut first = enrich();
        first.settings.batch_events = 40;
        first.settings.credit_events = 200;
        for n in 0..600 {
            match n % 50 {
                7 => first.source.push("not json"),
                8 => first.source.push(reading("P1", 60, n)),
                _ => first.source.push(violation(n)),
            };
        }
        first.store.outage.delay(Duration::from_millis(37));
        first.out.outage.delay(Duration::from_millis(53));
        first.letters.outage.delay(Duration::from_millis(11));
        let lane = first.lane(N1).await;
        sleep(Duration::from_millis(moment)).await;
        let asked = Instant::now();
        assert!(first.hand_over(&lane, Some(N2)).await, "everything that had begun ended");
        assert!(asked.elapsed() < Duration::from_millis(500), "it took {:?}", asked.elapsed());
        assert_eq!(first.owner().as_deref(), Some(N2));

        let second = first.other_node();
        let lane = second.lane(N2).await;
        second.checkpointed_to_end().await;
        assert_each_once_in_order(&second, 576);
        assert_eq!((second.store.n_puts(), second.letters.outage.n_calls()), (576, 12), "moved after {moment} ms");
        second.hand_over(&lane, None).await;
        let total = first.outcomes().total() + second.outcomes().total();
        assert_eq!(total, 600, "each outcome is counted on one node, moved after {moment} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_waits_for_no_look_up() {
    let rig = enrich();
    rig.source.push(violation(0));
    rig.directory.outage.delay(Duration::from_secs(20));
    let lane = rig.lane(N1).await;
    sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    assert!(rig.hand_over(&lane, Some(N2)).await);
    assert!(asked.elapsed() < Duration::from_millis(50));
    assert_eq!((rig.store.n_puts(), rig.checkpoint()), (0, Checkpoint::TrimHorizon));
}

#[tokio::test(start_paused = true)]
async fn a_move_of_a_notify_lane_ends_the_texts_that_began_and_no_other() {
    for moment in (0..3_000).step_by(170) {
        let first = Rig::notify();
        for n in 0..100 {
            let record = match n % 20 {
                13 => b"{}".to_vec(),
                _ => write_published(&sample_event("4-2288B", &format!("e-{n}"), 80), &sample_driver(&format!("Ada {n}"))),
            };
            first.source.push(record);
        }
        // Four at once, so twenty a second.
        first.sender.outage.delay(Duration::from_millis(200));
        let lane = first.lane(N1).await;
        sleep(Duration::from_millis(moment)).await;
        let before = first.sender.texts().len();
        let asked = Instant::now();
        assert!(first.hand_over(&lane, Some(N2)).await);
        assert!(asked.elapsed() < Duration::from_millis(300), "it took {:?}", asked.elapsed());
        assert!(first.sender.texts().len() <= before + 4, "only what was in flight was sent");
        assert_eq!(first.ledger.n_sent(), first.sender.texts().len(), "and all of it is marked");

        let second = first.other_node();
        let lane = second.lane(N2).await;
        second.checkpointed_to_end().await;
        second.hand_over(&lane, None).await;
        let texts = second.sender.texts();
        assert_eq!(texts.iter().map(|text| &text.text).collect::<HashSet<_>>().len(), 95);
        assert_eq!((texts.len(), second.letters.outage.n_calls()), (95, 5), "moved after {moment} ms");
        let notified = first.outcomes().get(Outcome::Notified) + second.outcomes().get(Outcome::Notified);
        let duplicates = first.outcomes().get(Outcome::Duplicate) + second.outcomes().get(Outcome::Duplicate);
        assert_eq!((notified, duplicates), (95, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_pulse_lets_nothing_in_until_its_lease_is_proven() {
    let mut rig = enrich();
    rig.pulse = Pulse::lasting(Duration::from_secs(2));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(5)).await;
    for n in 0..10 {
        rig.source.push(violation(n));
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!((rig.stats.in_lane(&rig.shard), rig.store.n_puts()), (0, 0));

    // Another node has taken the lease; this one can beat again, and does not know.
    let lease = rig.leases.lease(&rig.shard).expect("it was made");
    let taken = rig.leases.take(&lease, N2).await.expect("nobody else takes it");
    rig.leases.outage.delay(Duration::from_millis(300));
    for _ in 0..10 {
        rig.pulse.beat(Instant::now());
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(rig.store.n_puts(), 0);
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Closed);
    assert_eq!(rig.leases.lease(&rig.shard), Some(taken), "and it wrote nothing");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_pulse_is_back_and_whose_lease_is_still_its_own_goes_on() {
    let mut rig = enrich();
    rig.pulse = Pulse::lasting(Duration::from_secs(2));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(5)).await;
    for n in 0..10 {
        rig.source.push(violation(n));
    }
    sleep(Duration::from_secs(1)).await;
    rig.pulse.beat(Instant::now());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.store.n_puts(), 10);
    assert_eq!(rig.restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_text_begins_without_a_pulse() {
    let mut rig = Rig::notify();
    rig.pulse = Pulse::lasting(Duration::from_secs(2));
    for n in 0..32 {
        rig.source.push(write_published(&sample_event("4-2288B", &format!("e-{n}"), 80), &sample_driver("Ada")));
    }
    rig.sender.outage.delay(Duration::from_millis(1_500));
    (rig.settings.stall_after, rig.settings.longest_call) = (Duration::from_secs(2), Duration::from_secs(1));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(5)).await;
    let sent = rig.sender.texts().len();
    assert!((4..=8).contains(&sent), "{sent} texts began within two seconds");
    assert_eq!(rig.ledger.n_sent(), sent, "what had begun went on");
    sleep(Duration::from_millis(4_500)).await;
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Running);
    assert_eq!(rig.restarts(), 0, "waiting is no standstill");
    sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.sender.texts().len(), sent);
    assert!(rig.ledger.claim_of("e-31").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_for_long_closes_its_lane_before_it_lets_anything_in() {
    for pause in [11, 20, 300] {
        let rig = enrich();
        let _lane = rig.lane(N1).await;
        sleep(Duration::from_secs(2)).await;
        let lease = rig.leases.lease(&rig.shard).expect("it was made");
        rig.leases.take(&lease, N2).await.expect("nobody else takes it");
        rig.source.push(violation(0));
        // No task runs meanwhile: all timers are due at once afterwards.
        tokio::time::advance(Duration::from_secs(pause)).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(rig.store.n_puts(), 0, "after {pause} s");
        assert_eq!(rig.stats.snapshot()[0].state, LaneState::Closed);
        assert_eq!(rig.leases.checkpoints(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_moves_on_needs_no_renewals_and_an_idle_one_needs_nothing_else() {
    let rig = enrich();
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(3600)).await;
    let idle = rig.stats.snapshot()[0].lease_writes;
    assert!((950..=1_150).contains(&idle.renewals), "{idle:?}");
    assert_eq!((idle.checkpoints, idle.others), (0, 0));
    for n in 0..3600 {
        rig.source.push(violation(n));
        sleep(Duration::from_secs(1)).await;
    }
    let busy = rig.stats.snapshot()[0].lease_writes;
    assert!((3_500..=3_601).contains(&busy.checkpoints), "{busy:?}");
    assert!(busy.renewals - idle.renewals <= 5, "{busy:?}");
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Running);
}

#[tokio::test(start_paused = true)]
async fn children_have_rows_before_their_parent_is_marked_as_done() {
    let rig = enrich();
    let (left, right) = (ShardId::new("left"), ShardId::new("right"));
    rig.source.push(violation(0));
    rig.source.close(&rig.shard, &["left", "right"]);
    rig.source.list(&left, false);
    rig.source.list(&right, false);
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(4)).await;
    assert_ne!(rig.checkpoint(), Checkpoint::ShardEnd, "the list lacks the children still");
    // The list cannot be read for much longer than it may lack them.
    rig.source.outage.fail_for(Duration::from_secs(300), failure(FailureKind::Unreachable));
    rig.source.list(&left, true);
    rig.source.list(&right, true);
    sleep(Duration::from_secs(299)).await;
    assert_ne!(rig.checkpoint(), Checkpoint::ShardEnd);
    assert_eq!(rig.owner().as_deref(), Some(N1), "the lease is renewed meanwhile");
    sleep(Duration::from_secs(60)).await;
    let parent = rig.leases.lease(&rig.shard).expect("it was made");
    assert_eq!((parent.checkpoint, parent.children), (Checkpoint::ShardEnd, vec![left.clone(), right.clone()]));
    for child in [left, right] {
        let child = rig.leases.lease(&child).expect("it was made");
        assert_eq!((child.checkpoint, child.parents, child.owner), (Checkpoint::TrimHorizon, vec![rig.shard.clone()], None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_merged_shard_has_no_row_before_each_of_its_parents_has_one() {
    for has_row in [false, true] {
        let mut rig = enrich();
        let (left, right, merged) = (ShardId::new("left"), ShardId::new("right"), ShardId::new("merged"));
        rig.source.close(&rig.shard, &["left", "right"]);
        rig.source.close(&left, &["merged"]);
        rig.source.close(&right, &["merged"]);
        if has_row {
            let row = NewLease { shard: right, checkpoint: Checkpoint::TrimHorizon, parents: Vec::new(), hash_range: None };
            rig.leases.create(&row).await.expect("the fake answers");
        }
        rig.shard = left;
        let _lane = rig.lane(N1).await;
        rig.until(|rig| rig.checkpoint() == Checkpoint::ShardEnd, "the end of the shard").await;
        assert_eq!(rig.leases.lease(&merged).is_some(), has_row);
        assert_eq!(rig.leases.lease(&rig.shard).expect("it was made").children, [merged]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_that_nothing_follows_is_ended_after_a_while() {
    let rig = enrich();
    rig.source.push(violation(0));
    rig.source.close(&rig.shard, &[]);
    let start = Instant::now();
    let _lane = rig.lane(N1).await;
    rig.until(|rig| rig.checkpoint() == Checkpoint::ShardEnd, "the end of the shard").await;
    assert!((Duration::from_secs(8)..Duration::from_secs(15)).contains(&start.elapsed()));
    assert_eq!((rig.store.n_puts(), rig.stats.snapshot()[0].state), (1, LaneState::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_shard_gone_from_its_stream_is_ended_once_what_was_read_of_it_is_done() {
    let rig = enrich();
    for n in 0..20 {
        rig.source.push(violation(n));
    }
    rig.store.outage.delay(Duration::from_secs(2));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(1)).await;
    rig.source.remove(&rig.shard);
    rig.until(|rig| rig.checkpoint() == Checkpoint::ShardEnd, "the end of the shard").await;
    assert_eq!(rig.store.n_puts(), 20, "what had been read was finished");
    assert_eq!(rig.outcomes().total(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_to_its_name_but_is_listed_is_not_given_up() {
    let rig = enrich();
    rig.source.fail_reads(std::iter::repeat_n(SourceError::Gone(rig.shard.clone()), 8));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(120)).await;
    rig.source.push(violation(0));
    rig.settled(1).await;
    assert_ne!(rig.checkpoint(), Checkpoint::ShardEnd);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_actor_is_killed_with_its_lane_and_named() {
    let rig = enrich();
    for n in 0..20 {
        rig.source.push(violation(n));
    }
    rig.bombs.freeze(true);
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(85)).await;
    assert_eq!(rig.restarts(), 0, "a call may use up its budget");
    sleep(Duration::from_secs(15)).await;
    let restarts = rig.table.restarts();
    assert_eq!((restarts.len(), restarts[0].path.as_str()), (1, "lane/violation_persister"));
    assert_eq!(restarts[0].reason, "violation_persister froze: no progress for 90s");
    rig.bombs.freeze(false);
    sleep(Duration::from_secs(100)).await;
    rig.checkpointed_to_end().await;
    assert_each_once_in_order(&rig, 20);
    assert_eq!(rig.letters.letters().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_for_its_turn_to_text_is_not_frozen() {
    let rig = Rig::notify();
    let turns = rig.in_flight.clone().acquire_many_owned(4).await.expect("it is never closed");
    for n in 0..32 {
        rig.source.push(write_published(&sample_event("4-2288B", &format!("e-{n}"), 80), &sample_driver("Ada")));
    }
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(1800)).await;
    assert_eq!((rig.restarts(), rig.sender.texts().len()), (0, 0));
    drop(turns);
    rig.settled(32).await;
    assert_eq!(rig.sender.texts().len(), 32);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_hours_is_no_standstill_of_an_actor() {
    let rig = enrich();
    rig.source.push(violation(0));
    rig.store.outage.delay(Duration::from_secs(20));
    rig.store.outage.fail_for(Duration::from_secs(7200), failure(FailureKind::TimedOut));
    let _lane = rig.lane(N1).await;
    rig.checkpointed_to_end().await;
    assert!(rig.table.restarts().iter().all(|restart| !restart.reason.contains("froze")));
}

#[tokio::test(start_paused = true)]
async fn reads_stay_within_the_limits_of_a_shard() {
    let mut rig = enrich();
    rig.settings.poll_interval = Duration::from_secs(1);
    rig.settings.read_limit = 4;
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(20)).await;
    let idle = rig.source.reads().len();
    assert!((19..=21).contains(&idle), "{idle} reads of an idle shard in 20 s");

    for n in 0..400 {
        rig.source.push(violation(n));
    }
    let start = Instant::now();
    rig.checkpointed_to_end().await;
    assert!(start.elapsed() < Duration::from_secs(24), "it read back-to-back: {:?}", start.elapsed());
    let reads = rig.source.reads();
    let gaps = reads.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(gaps.min().expect("many reads") >= Duration::from_millis(200));

    let before = rig.source.reads().len();
    for _ in 0..20 {
        rig.source.push(vec![b'x'; 500_000]);
    }
    let start = Instant::now();
    rig.checkpointed_to_end().await;
    assert!(start.elapsed() >= Duration::from_secs(4), "10 MB took {:?}", start.elapsed());
    assert!(rig.source.reads().len() - before >= 5);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_is_opened_anew_rather_than_left_to_expire_while_the_lane_is_full() {
    let mut rig = enrich();
    rig.settings.credit_events = 10;
    rig.settings.batch_events = 10;
    rig.settings.longest_call = Duration::from_secs(600);
    for n in 0..30 {
        rig.source.push(violation(n));
    }
    rig.settings.read_limit = 10;
    rig.store.outage.delay(Duration::from_secs(290));
    let _lane = rig.lane(N1).await;
    rig.checkpointed_to_end().await;
    assert!(rig.source.opened().len() >= 3, "{:?}", rig.source.opened());
    assert_each_once_in_order(&rig, 30);
}

#[tokio::test(start_paused = true)]
async fn a_split_and_a_merge_keep_the_order_of_each_plate() {
    let rig = enrich();
    let shards = [ShardId::new("left"), ShardId::new("right")];
    let merged = ShardId::new("merged");
    for n in 0..300 {
        rig.source.push(violation(n));
    }
    rig.store.outage.delay(Duration::from_millis(70));
    rig.out.outage.delay(Duration::from_millis(30));
    let node = rig.start(N1).await;
    sleep(Duration::from_millis(400)).await;
    rig.source.close(&rig.shard, &["left", "right"]);
    for n in 300..900 {
        rig.source.push_to(&shards[n % 7 % 2], violation(n));
        if n % 100 == 0 {
            sleep(Duration::from_millis(200)).await;
        }
    }
    rig.source.close(&shards[0], &["merged"]);
    sleep(Duration::from_millis(300)).await;
    rig.source.close(&shards[1], &["merged"]);
    for n in 900..1_200 {
        rig.source.push_to(&merged, violation(n));
    }
    rig.settled(1_200).await;
    assert_each_once_in_order(&rig, 1_200);
    for shard in [&rig.shard, &shards[0], &shards[1]] {
        assert_eq!(rig.leases.lease(shard).map(|lease| lease.checkpoint), Some(Checkpoint::ShardEnd), "{shard}");
    }
    rig.drain(&node).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_a_stranger_is_waited_out_also_while_the_lane_moves() {
    let rig = Rig::notify();
    rig.ledger.claim("e-0", "n9#1/shardId-000000000000#1@7").await.expect("the fake answers");
    rig.source.push(write_published(&sample_event("4-2288B", "e-0", 80), &sample_driver("Ada")));
    let lane = rig.lane(N1).await;
    sleep(Duration::from_secs(1)).await;
    assert!(rig.hand_over(&lane, Some(N2)).await);
    assert_eq!((rig.sender.texts().len(), rig.checkpoint()), (1, Checkpoint::At(rig.last_position())));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_being_written_while_its_lane_dies_is_never_taken_back() {
    for moment in (900..2_600).step_by(50) {
        let mut rig = enrich();
        rig.settings.batch_events = 10;
        (0..600).for_each(|n| drop(rig.source.push(violation(n))));
        rig.store.outage.delay(Duration::from_millis(130));
        rig.leases.outage.delay(Duration::from_millis(400));
        let lane = rig.lane(N1).await;
        sleep(Duration::from_millis(moment)).await;
        rig.store.outage.fail_next(1, failure(FailureKind::Unreachable));
        rig.store.outage.delay(Duration::from_millis(600));
        rig.checkpointed_to_end().await;
        let written = rig.leases.checkpoints();
        let positions: Vec<_> = written.into_iter().map(|(_, checkpoint)| checkpoint).collect();
        let forward = |pair: &[Checkpoint]| matches!((&pair[0], &pair[1]), (Checkpoint::At(a), Checkpoint::At(b)) if a <= b);
        assert!(positions.windows(2).all(forward), "died at {moment} ms: {positions:?}");
        rig.hand_over(&lane, None).await;
    }
}
