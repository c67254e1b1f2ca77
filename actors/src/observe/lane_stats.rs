//! What the lanes of a node have let in and ended, kept beyond restarts and hand-overs of single lanes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::Traffic;
use super::pace::Pace;
use crate::domain::{OutcomeCounts, Position, ShardId};
use tokio::time::Instant;

/// New dead letters remembered for each lane.
const LETTERS_KEPT: usize = 20;
/// Causes of refused texts that are told apart; others count as one more.
const MOST_CAUSES: usize = 20;

/// The counts of one application's lanes. A cheap handle.
#[derive(Clone, Default, Debug)]
pub struct LaneStats {
    lanes: Arc<Mutex<BTreeMap<ShardId, Lane>>>,
    traffic: Traffic,
    /// Texts that were not sent, by cause.
    refused_texts: Arc<Mutex<BTreeMap<String, u64>>>,
}

#[derive(Debug)]
struct Lane {
    state: LaneState,
    generation: u64,
    records_in: u64,
    outcomes: OutcomeCounts,
    in_lane: usize,
    unsettled: u64,
    checkpoint: Option<Position>,
    checkpointed_at: Option<SystemTime>,
    millis_behind: Option<u64>,
    lag_asked_at: Option<Instant>,
    last_fault: Option<String>,
    possible_repeats: u64,
    lease_writes: LeaseWrites,
    /// Events let in that died open with their generation: they are let in again.
    restarted: u64,
    /// Deaths since the checkpoint last moved on.
    deaths: u32,
    /// When an event ended last, or the first one was let into the empty lane.
    moved_at: Instant,
    entered_at: Instant,
    letters: VecDeque<FreshLetter>,
    /// When the last record that was read had arrived at its source.
    read_to: Option<SystemTime>,
    throttles: Option<u64>,
    lease_until: Option<Instant>,
    pace: Pace,
}

/// A dead letter that a lane has just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshLetter {
    /// Its id in the table.
    pub id: String,
    /// Why; holds nothing personal.
    pub reason: String,
    /// When.
    pub at: Instant,
}

/// Why a lease row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseWrite {
    /// To show that its owner lives.
    Renewal,
    /// To move its checkpoint, which renews it as well.
    Checkpoint,
    /// To make, take, give away or release it, or to note its children.
    Other,
}

/// Writes of lease rows, refused and failed ones included: what the lease table costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseWrites {
    /// Renewals.
    pub renewals: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// All others.
    pub others: u64,
}

/// What a lane is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// Reads and works.
    Running,
    /// Dead, will start again after a delay.
    Backoff,
    /// Takes nothing more in and finishes what it has.
    Draining,
    /// The shard is closed and everything in it is done.
    Ended,
    /// Given up: released, or taken by another node.
    Closed,
}

/// One lane as it is seen.
#[derive(Debug, Clone)]
pub struct LaneSnapshot {
    /// The shard it reads.
    pub shard: ShardId,
    /// What it is doing.
    pub state: LaneState,
    /// How often it was started.
    pub generation: u64,
    /// Records let in, over all generations; those that start again after a restart count again.
    pub records_in: u64,
    /// How the events ended that are settled by a checkpoint, over all generations; each counts once.
    pub outcomes: OutcomeCounts,
    /// Events let in and not ended.
    pub in_lane: usize,
    /// Events ended that no written checkpoint covers yet; they are not among the outcomes.
    pub unsettled: u64,
    /// The last checkpoint written.
    pub checkpoint: Option<Position>,
    /// When it was written.
    pub checkpointed_at: Option<SystemTime>,
    /// How far behind the newest record the last answer was; `None` when it is not known.
    pub millis_behind: Option<u64>,
    /// How old that answer is.
    pub lag_age: Option<Duration>,
    /// Why the last generation died.
    pub last_fault: Option<String>,
    /// Texts that may have been sent twice.
    pub possible_repeats: u64,
    /// Writes of its lease by this node.
    pub lease_writes: LeaseWrites,
    /// Events let in that died with their generation before a checkpoint settled them.
    pub restarted: u64,
    /// Deaths since the checkpoint last moved on.
    pub deaths: u32,
    /// For how long it has been in its state.
    pub state_for: Duration,
    /// For how long events have been in the lane and none has ended; `None` while it is empty.
    pub still_for: Option<Duration>,
    /// Its last new dead letters, oldest first.
    pub letters: Vec<FreshLetter>,
    /// How long ago the last record that it read had arrived at the source; it grows while none arrives.
    pub last_record_age: Option<Duration>,
    /// How often its reads were throttled since the node started.
    pub throttles: Option<u64>,
    /// Records let in a second, as a mean of the last 10 s.
    pub records_per_second: Option<f64>,
    /// How long its lease lasts by the node's own clock if it is not written again.
    pub lease_left: Option<Duration>,
}

impl LaneStats {
    /// Notes that a generation starts.
    pub fn started(&self, shard: &ShardId, generation: u64) {
        self.change(shard, |lane| {
            lane.generation = generation;
            lane.restart();
            lane.state = LaneState::Running;
            lane.entered_at = Instant::now();
        });
    }

    /// Notes how often the lane has died since its checkpoint last moved on.
    pub fn died(&self, shard: &ShardId, deaths: u32) {
        self.change(shard, |lane| lane.deaths = deaths);
    }

    /// Notes a new dead letter.
    pub fn letter(&self, shard: &ShardId, id: String, reason: String) {
        self.change(shard, |lane| {
            if lane.letters.len() == LETTERS_KEPT {
                lane.letters.pop_front();
            }
            lane.letters.push_back(FreshLetter { id, reason, at: Instant::now() });
        });
    }

    /// The last generation of a shard's lane on this node; 0 before the first.
    #[must_use]
    pub fn generation(&self, shard: &ShardId) -> u64 {
        self.lock().get(shard).map_or(0, |lane| lane.generation)
    }

    /// Notes a change of state, with the reason of a death.
    pub fn entered(&self, shard: &ShardId, state: LaneState, fault: Option<&str>) {
        self.change(shard, |lane| {
            lane.state = state;
            lane.entered_at = Instant::now();
            if matches!(state, LaneState::Ended | LaneState::Closed) {
                // What was dropped unfinished starts again wherever the lease goes.
                lane.restart();
                lane.deaths = 0;
                lane.lease_until = None;
            }
            if let Some(fault) = fault {
                lane.last_fault = Some(fault.to_owned());
            }
        });
    }

    /// Notes records let in.
    pub fn admitted(&self, shard: &ShardId, n_records: usize) {
        self.change(shard, |lane| {
            if lane.in_lane == 0 {
                lane.moved_at = Instant::now();
            }
            lane.records_in += n_records as u64;
            lane.pace.add(Instant::now(), n_records as u64);
            lane.in_lane += n_records;
        });
    }

    /// Notes that so many events ended.
    pub fn ended(&self, shard: &ShardId, n_events: u64) {
        self.change(shard, |lane| {
            lane.in_lane = lane.in_lane.saturating_sub(usize::try_from(n_events).unwrap_or(usize::MAX));
            lane.unsettled += n_events;
            lane.moved_at = Instant::now();
        });
    }

    /// Notes how the events ended that a written checkpoint has settled: they will not start again.
    pub fn settled(&self, shard: &ShardId, outcomes: &OutcomeCounts) {
        self.change(shard, |lane| {
            lane.outcomes.merge(outcomes);
            lane.unsettled = lane.unsettled.saturating_sub(outcomes.total());
        });
    }

    /// Notes a written checkpoint.
    pub fn checkpointed(&self, shard: &ShardId, position: &Position) {
        self.change(shard, |lane| {
            lane.checkpoint = Some(position.clone());
            lane.checkpointed_at = Some(SystemTime::now());
        });
    }

    /// Notes how far behind an answer was.
    pub fn lag(&self, shard: &ShardId, millis_behind: Option<u64>) {
        self.change(shard, |lane| {
            lane.millis_behind = millis_behind;
            lane.lag_asked_at = Some(Instant::now());
        });
    }

    /// Notes when the last record that was read had arrived at its source.
    pub fn read_to(&self, shard: &ShardId, arrived: SystemTime) {
        self.change(shard, |lane| lane.read_to = Some(arrived));
    }

    /// Notes how often reads were throttled so far.
    pub fn throttles(&self, shard: &ShardId, so_far: Option<u64>) {
        self.change(shard, |lane| lane.throttles = so_far);
    }

    /// Notes until when the lease of a lane lasts.
    pub fn lease_lasts(&self, shard: &ShardId, until: Instant) {
        // One whose lane has not begun is nobody's to show.
        if let Some(lane) = self.lock().get_mut(shard) {
            lane.lease_until = Some(until);
        }
    }

    /// Notes a text that may have been sent twice.
    pub fn possible_repeat(&self, shard: &ShardId) {
        self.change(shard, |lane| lane.possible_repeats += 1);
    }

    /// Notes a text that was not sent, and why: a few words that hold nothing personal.
    pub fn text_refused(&self, cause: &str) {
        let mut causes = self.refused_texts.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = if causes.len() < MOST_CAUSES || causes.contains_key(cause) { cause } else { "other" };
        *causes.entry(cause.to_owned()).or_default() += 1;
    }

    /// Texts that were not sent since the node started, by cause, as often as it was tried.
    #[must_use]
    pub fn refused_texts(&self) -> BTreeMap<String, u64> {
        self.refused_texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a write of a shard's lease.
    pub fn lease_written(&self, shard: &ShardId, write: LeaseWrite) {
        self.change(shard, |lane| match write {
            LeaseWrite::Renewal => lane.lease_writes.renewals += 1,
            LeaseWrite::Checkpoint => lane.lease_writes.checkpoints += 1,
            LeaseWrite::Other => lane.lease_writes.others += 1,
        });
    }

    /// Where the settled events came from; only enrich lanes have any.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Events that a lane has let in and that have not ended.
    #[must_use]
    pub fn in_lane(&self, shard: &ShardId) -> usize {
        self.lock().get(shard).map_or(0, |lane| lane.in_lane)
    }

    /// All lanes, by shard.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LaneSnapshot> {
        let lanes = self.lock();
        let seen = |(shard, lane): (&ShardId, &Lane)| LaneSnapshot {
            shard: shard.clone(),
            state: lane.state,
            generation: lane.generation,
            records_in: lane.records_in,
            outcomes: lane.outcomes,
            in_lane: lane.in_lane,
            unsettled: lane.unsettled,
            checkpoint: lane.checkpoint.clone(),
            checkpointed_at: lane.checkpointed_at,
            millis_behind: lane.millis_behind,
            lag_age: lane.lag_asked_at.map(|at| at.elapsed()),
            last_fault: lane.last_fault.clone(),
            possible_repeats: lane.possible_repeats,
            lease_writes: lane.lease_writes,
            restarted: lane.restarted,
            deaths: lane.deaths,
            state_for: lane.entered_at.elapsed(),
            still_for: (lane.in_lane > 0).then(|| lane.moved_at.elapsed()),
            letters: lane.letters.iter().cloned().collect(),
            // A clock behind that of the source makes an age of 0.
            last_record_age: lane.read_to.map(|at| at.elapsed().unwrap_or_default()),
            throttles: lane.throttles,
            records_per_second: lane.pace.per_second(Instant::now()),
            lease_left: lane.lease_until.map(|until| until.saturating_duration_since(Instant::now())),
        };
        lanes.iter().map(seen).collect()
    }

    fn change(&self, shard: &ShardId, change: impl FnOnce(&mut Lane)) {
        let mut lanes = self.lock();
        change(lanes.entry(shard.clone()).or_insert_with(|| Lane {
            state: LaneState::Running,
            generation: 0,
            records_in: 0,
            outcomes: OutcomeCounts::default(),
            in_lane: 0,
            unsettled: 0,
            checkpoint: None,
            checkpointed_at: None,
            millis_behind: None,
            lag_asked_at: None,
            last_fault: None,
            possible_repeats: 0,
            lease_writes: LeaseWrites::default(),
            restarted: 0,
            deaths: 0,
            moved_at: Instant::now(),
            entered_at: Instant::now(),
            letters: VecDeque::new(),
            read_to: None,
            throttles: None,
            lease_until: None,
            pace: Pace::since(Instant::now()),
        }));
    }

    /// The map holds counters only, so a panic while it was locked leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// What was let in and is not settled is let in again.
    fn restart(&mut self) {
        self.restarted += self.in_lane as u64 + self.unsettled;
        self.in_lane = 0;
        self.unsettled = 0;
    }
}

impl LaneState {
    /// The name used in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Draining => "draining",
            Self::Ended => "ended",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_age_of_the_last_record_and_what_is_left_of_the_lease_go_on_with_the_clock() {
        let (stats, shard) = (LaneStats::default(), ShardId::new("a"));
        stats.lease_lasts(&shard, Instant::now());
        assert!(stats.snapshot().is_empty(), "a lease alone is no lane");
        stats.started(&shard, 1);
        let seen = || stats.snapshot().remove(0);
        assert_eq!((seen().last_record_age, seen().lease_left, seen().throttles), (None, None, None));
        stats.read_to(&shard, SystemTime::now() - Duration::from_secs(3));
        stats.lease_lasts(&shard, Instant::now() + Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(seen().lease_left, Some(Duration::from_secs(6)));
        assert!(seen().last_record_age >= Some(Duration::from_secs(3)), "nothing was read since");
        stats.read_to(&shard, SystemTime::now() + Duration::from_secs(60));
        assert_eq!(seen().last_record_age, Some(Duration::ZERO), "a clock that is behind");
        stats.entered(&shard, LaneState::Closed, None);
        assert_eq!(seen().lease_left, None);
    }

    #[test]
    fn causes_of_refused_texts_are_counted_and_bounded() {
        let stats = LaneStats::default();
        for n in 0..100 {
            stats.text_refused(&format!("cause {n}"));
        }
        stats.text_refused("cause 0");
        let counted = stats.refused_texts();
        assert_eq!((counted.len(), counted["cause 0"], counted["other"]), (MOST_CAUSES + 1, 2, 80));
    }
}
