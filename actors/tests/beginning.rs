//! Lanes that begin at the newest record: from the moment that their lease says where that was, nothing is skipped; with paused
//! time.

mod rig;

use std::time::{Duration, SystemTime};

use ractor::ActorStatus;
use rig::{Rig, reading};
use speedtrap_actors::domain::Position;
use speedtrap_actors::observe::LaneState;
use speedtrap_actors::ports::{Checkpoint, FailureKind, LeaseTable, SourceError, StartAt};
use speedtrap_actors::testing::{failure, sample_driver};
use tokio::time::sleep;

const N1: &str = "n1#1";
const N2: &str = "n2#1";
/// How long the search takes at most while the source answers at once.
const SEARCH: Duration = Duration::from_secs(8);

/// Readings that arrived before anything began, and a lease that says to begin after them.
async fn rig(n_old: usize) -> (Rig, Option<Position>) {
    let rig = Rig::enrich();
    rig.directory.register("P0", sample_driver("Ada"));
    let now = SystemTime::now();
    let arrived = |n| now - Duration::from_secs(3_600 * (n_old - n) as u64);
    let newest = (0..n_old).map(|n| rig.source.push_at(&rig.shard, violation(1_000 + n), arrived(n))).reduce(|_, later| later);
    rig.make_lease(Checkpoint::Latest).await;
    (rig, newest)
}

fn violation(n: usize) -> String {
    reading("P0", 80, n)
}

fn stored(rig: &Rig) -> Vec<String> {
    let mut ids: Vec<_> = rig.store.items().iter().map(|event| event.event_id().to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn nothing_is_skipped_when_the_owner_changes_before_the_first_checkpoint() {
    for (n_old, crashes, has_clock) in [(3, true, true), (3, false, true), (0, true, true), (0, false, true), (3, true, false)] {
        let (mut rig, newest) = rig(n_old).await;
        if !has_clock {
            rig.source.stop_clock();
        }
        rig.settings.checkpoint_interval = Duration::from_secs(3_600);
        let lane = rig.lane(N1).await;
        sleep(SEARCH).await;
        assert_eq!(rig.checkpoint(), newest.map_or(Checkpoint::TrimHorizon, Checkpoint::At));
        rig.store.outage.fail_for(Duration::from_secs(5), failure(FailureKind::Unreachable));
        rig.source.push(violation(0));
        sleep(Duration::from_secs(1)).await;
        if crashes {
            lane.cell().kill();
        } else {
            rig.hand_over(&lane, Some(N2)).await;
        }
        rig.source.push(violation(1));
        rig.settings.checkpoint_interval = Duration::from_secs(1);
        let other = rig.other_node();
        let _lane = other.lane(N2).await;
        other.checkpointed_to_end().await;
        assert_eq!(stored(&rig), ["e-0", "e-1"], "{n_old} old ones, a crash: {crashes}, a clock: {has_clock}");
        assert!(rig.source.opened().iter().filter(|(_, start)| *start == StartAt::Latest).count() == 1, "it was searched once");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_skipped_when_a_generation_dies_before_the_first_checkpoint() {
    let (rig, _) = rig(2).await;
    rig.bombs.arm("store", 1);
    let _lane = rig.lane(N1).await;
    sleep(SEARCH).await;
    rig.source.push(violation(0));
    rig.until(|rig| rig.restarts() == 1, "the fault").await;
    rig.source.push(violation(1));
    rig.source.expire_iterators();
    rig.checkpointed_to_end().await;
    assert_eq!(stored(&rig), ["e-0", "e-1"]);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_while_the_newest_record_is_searched_is_not_skipped() {
    for has_clock in [true, false] {
        let (rig, newest) = rig(2).await;
        if !has_clock {
            rig.source.stop_clock();
        }
        rig.source.outage.delay(Duration::from_millis(300));
        let _lane = rig.lane(N1).await;
        let mut n = 0;
        sleep(Duration::from_millis(310)).await;
        while rig.checkpoint() == Checkpoint::Latest {
            rig.source.push(violation(n));
            n += 1;
            sleep(Duration::from_millis(90)).await;
        }
        assert!(n > 10, "the search takes a while");
        assert_eq!(rig.leases.checkpoints()[0].1, Checkpoint::At(newest.expect("two old ones")));
        rig.checkpointed_to_end().await;
        assert_eq!(stored(&rig).len(), n, "a clock: {has_clock}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_the_write_of_the_beginning_changes_nothing() {
    for lost_answers in [1, 3] {
        let (rig, newest) = rig(2).await;
        let lease = rig.leases.take(&rig.leases.lease(&rig.shard).expect("it was made"), N1).await.expect("it is free");
        rig.leases.outage.lose_next_replies(lost_answers, failure(FailureKind::TimedOut));
        let _lane = rig.run_lane(N1, lease, tokio::time::Instant::now()).await;
        sleep(SEARCH).await;
        rig.source.push(violation(0));
        rig.checkpointed_to_end().await;
        assert_eq!((stored(&rig), rig.restarts()), (vec!["e-0".to_owned()], 0));
        let newest = Checkpoint::At(newest.expect("two old ones"));
        assert!(rig.leases.checkpoints().iter().all(|(_, at)| *at == newest || *at == rig.checkpoint()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_during_the_search_is_not_written() {
    let (rig, _) = rig(2).await;
    rig.source.outage.delay(Duration::from_millis(300));
    let lane = rig.lane(N1).await;
    sleep(Duration::from_millis(500)).await;
    let taken = rig.leases.take(&rig.leases.lease(&rig.shard).expect("it was made"), N2).await.expect("it is free to take");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((rig.leases.lease(&rig.shard), rig.leases.checkpoints()), (Some(taken), Vec::new()));
    assert_eq!(lane.cell().get_status(), ActorStatus::Stopped);
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Closed);
    assert_eq!(rig.store.n_puts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_told_to_drain_during_the_search_gives_its_lease_back_as_it_was() {
    let (rig, _) = rig(2).await;
    rig.source.outage.delay(Duration::from_millis(300));
    let lane = rig.lane(N1).await;
    sleep(Duration::from_millis(500)).await;
    rig.hand_over(&lane, Some(N2)).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((rig.owner().as_deref(), rig.checkpoint()), (Some(N2), Checkpoint::Latest));
}

#[tokio::test(start_paused = true)]
async fn a_search_that_fails_is_made_again() {
    let (rig, newest) = rig(2).await;
    rig.source.fail_reads([SourceError::IteratorExpired, SourceError::Gone(rig.shard.clone())]);
    rig.source.outage.fail_for(Duration::from_secs(120), failure(FailureKind::Unreachable));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((rig.stats.snapshot()[0].state, rig.checkpoint()), (LaneState::Backoff, Checkpoint::Latest));
    rig.until(|rig| rig.checkpoint() != Checkpoint::Latest, "the search to end").await;
    assert_eq!(rig.checkpoint(), Checkpoint::At(newest.expect("two old ones")));
    rig.source.push(violation(0));
    rig.checkpointed_to_end().await;
    assert_eq!(stored(&rig), ["e-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_closes_or_goes_before_its_newest_record_is_found_is_ended() {
    for is_gone in [true, false] {
        let (rig, _) = rig(2).await;
        if is_gone {
            rig.source.remove(&rig.shard);
        } else {
            rig.source.close(&rig.shard, &[]);
        }
        let _lane = rig.lane(N1).await;
        rig.until(|rig| rig.checkpoint() == Checkpoint::ShardEnd, "the end of the shard").await;
        assert_eq!(rig.store.n_puts(), 0, "gone: {is_gone}");
    }
}
