//! How a lane keeps its lease: what it writes into it, and when it gives it up; with paused time.

mod rig;

use std::time::Duration;

use ractor::ActorStatus;
use rig::{Rig, reading};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::LaneState;
use speedtrap_actors::ports::{Checkpoint, FailureKind, LeaseTable};
use speedtrap_actors::testing::{failure, sample_driver};
use tokio::time::{Instant, sleep};

const N1: &str = "n1#1";
const N2: &str = "n2#1";

fn enrich() -> Rig {
    let rig = Rig::enrich();
    rig.directory.register("P0", sample_driver("Ada"));
    rig
}

fn violation(n: usize) -> String {
    reading("P0", 80, n)
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_asked_for_while_one_further_on_is_written_waits_and_takes_nothing_back() {
    for lost_answers in [0, 1] {
        let mut rig = enrich();
        rig.settings.batch_events = 10;
        (0..600).for_each(|n| drop(rig.source.push(violation(n))));
        rig.store.outage.delay(Duration::from_millis(50));
        let _lane = rig.lane(N1).await;
        rig.leases.outage.delay(Duration::from_secs(3));
        sleep(Duration::from_millis(1_500)).await;
        rig.leases.outage.lose_next_replies(lost_answers, failure(FailureKind::TimedOut));
        rig.store.outage.fail_next(1, failure(FailureKind::Unreachable));
        rig.store.outage.delay(Duration::from_millis(600));
        rig.checkpointed_to_end().await;
        assert_eq!(rig.restarts(), 1);
        let forward = |pair: &[Checkpoint]| matches!((&pair[0], &pair[1]), (Checkpoint::At(a), Checkpoint::At(b)) if a <= b);
        let positions: Vec<_> = rig.leases.checkpoints().into_iter().map(|(_, checkpoint)| checkpoint).collect();
        assert!(positions.windows(2).all(forward), "with {lost_answers} answers lost: {positions:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_call_of_the_lease_keeper_ends_the_lane_rather_than_leaving_it_stuck() {
    let rig = enrich();
    rig.source.close(&rig.shard, &[]);
    rig.bombs.arm("shards", 1);
    let lane = rig.lane(N1).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.bombs.exploded("shards"), 1);
    assert_eq!(lane.cell().get_status(), ActorStatus::Stopped);
    let _anew = rig.lane(N1).await;
    rig.until(|rig| rig.checkpoint() == Checkpoint::ShardEnd, "the end of the shard").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_show_that_it_lives_gives_its_leases_up_after_as_long_as_a_lease_lasts() {
    let mut rig = enrich();
    rig.pulse = Pulse::lasting(Duration::from_secs(2));
    let _lane = rig.lane(N1).await;
    sleep(Duration::from_millis(9_500)).await;
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Running);
    let counter = rig.leases.lease(&rig.shard).expect("it was made").counter;
    assert!(counter >= 2, "it was renewed until then");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.stats.snapshot()[0].state, LaneState::Closed);
    assert_eq!(rig.leases.lease(&rig.shard).expect("it was made").counter, counter, "so others see it stand still");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_froze_after_it_took_a_lease_lets_nothing_in_without_proof() {
    for (pause, pulse) in [(11, Pulse::unwatched()), (3, Pulse::lasting(Duration::from_secs(2)))] {
        let mut rig = enrich();
        rig.pulse = pulse.clone();
        rig.make_lease(Checkpoint::TrimHorizon).await;
        rig.source.push(violation(0));
        let (free, taken_at) = (rig.leases.lease(&rig.shard).expect("it was made"), Instant::now());
        let lease = rig.leases.take(&free, N1).await.expect("nobody else takes it");
        tokio::time::advance(Duration::from_secs(pause)).await;
        rig.leases.take(&lease, N2).await.expect("it expired");
        pulse.beat(Instant::now());
        rig.leases.outage.delay(Duration::from_millis(300));
        let _lane = rig.run_lane(N1, lease, taken_at).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!((rig.store.n_puts(), rig.stats.snapshot()[0].state), (0, LaneState::Closed), "after {pause} s");
    }
}
