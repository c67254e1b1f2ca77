//! What one node knows of leases and of its own lanes. Nodes ask it of each other; `shards` joins the answers.

use serde::{Deserialize, Serialize};
use speedtrap_actors::domain::ShardId;
use speedtrap_actors::observe::{ActorRow, BoardSnapshot, CallSnapshot, LaneSnapshot, SeenLease};

use super::cluster::Answer;
use super::pages::{checkpoint_age, known_lag, millis};
use super::{ApplicationView, NodeView};
use crate::findings::cause_of;

/// The page `lanes` of one node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LanesPage {
    pub(crate) schema: u32,
    pub(crate) node: String,
    pub(crate) worker: String,
    /// Whether the node holds back because it cannot show that it lives.
    pub(crate) paused: bool,
    pub(crate) applications: Vec<ApplicationPage>,
}

/// One application on one node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApplicationPage {
    pub(crate) name: String,
    pub(crate) role: String,
    /// How long ago its leases were looked at; null before the first look.
    pub(crate) seen_ms: Option<u64>,
    /// All leases of the application, whoever holds them.
    pub(crate) leases: Vec<LeaseRow>,
    /// The lanes that run or ran on this node.
    pub(crate) lanes: Vec<LaneRow>,
}

/// One lease as the node saw it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LeaseRow {
    pub(crate) shard: String,
    pub(crate) owner: Option<String>,
    pub(crate) state: String,
    pub(crate) counter: u64,
    pub(crate) checkpoint: String,
    pub(crate) parents: Vec<String>,
    #[serde(default)]
    pub(crate) children: Vec<String>,
    #[serde(default)]
    pub(crate) hash_range: Option<HashRange>,
    /// For how long nobody who lives has held it, though it could be taken; null while it needs no owner or has one.
    pub(crate) unowned_ms: Option<u64>,
}

/// The hash keys that a shard takes, as decimals of up to 39 digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HashRange {
    pub(crate) first: String,
    pub(crate) last: String,
}

/// One lane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LaneRow {
    pub(crate) node: String,
    pub(crate) shard: String,
    pub(crate) state: String,
    pub(crate) generation: u64,
    pub(crate) in_lane: u64,
    pub(crate) lag_ms: Option<u64>,
    /// How long ago the last record that it read had arrived at the source: it grows while none arrives.
    #[serde(default)]
    pub(crate) iterator_age_ms: Option<u64>,
    /// Records let in, as a mean of the last 10 s.
    #[serde(default)]
    pub(crate) records_per_s: Option<f64>,
    /// Reads that were throttled since its node started.
    #[serde(default)]
    pub(crate) throttles: Option<u64>,
    /// How long its lease lasts, by its node's clock, if it is not renewed.
    #[serde(default)]
    pub(crate) lease_left_ms: Option<u64>,
    pub(crate) checkpoint_age_ms: Option<u64>,
    /// Restarts of its actors since the node took the lease.
    pub(crate) restarts: u64,
    pub(crate) last_fault: Option<String>,
    /// The actor of the lane that waits longest for a rate limit, a retry or an answer; null while none waits.
    pub(crate) waiting: Option<WaitingRow>,
}

/// An actor that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingRow {
    pub(crate) actor: String,
    pub(crate) for_ms: u64,
    /// What for; null for an answer that is not late.
    #[serde(default)]
    pub(crate) cause: Option<String>,
}

impl Answer for LanesPage {}

impl LanesPage {
    pub(super) fn of(view: &NodeView) -> Self {
        let (actors, calls) = (view.actors.rows(), view.calls.snapshot());
        Self {
            schema: 1,
            node: view.name.clone(),
            worker: view.worker.clone(),
            paused: !view.pulse.is_fresh(),
            applications: view
                .applications
                .iter()
                .map(|application| ApplicationPage::of(view, application, &actors, &calls))
                .collect(),
        }
    }
}

impl ApplicationPage {
    fn of(view: &NodeView, application: &ApplicationView, actors: &[ActorRow], calls: &[CallSnapshot]) -> Self {
        let board = application.board.snapshot();
        let lane = |lane: LaneSnapshot| {
            let path = format!("{}/{}/{}", view.name, application.role, lane.shard);
            let actors = actors.iter().filter(|row| is_within(&row.spot.path, &path));
            let cause = |actor: &str, row: &ActorRow| cause_of(application.role, actor, &row.meter, calls);
            LaneRow::of(&view.name, &lane, actors, cause)
        };
        Self {
            name: application.name.clone(),
            role: application.role.to_owned(),
            seen_ms: board.as_ref().map(|board| millis(board.age)),
            leases: board
                .as_ref()
                .map(|board| board.leases.iter().map(|lease| LeaseRow::of(lease, board)).collect())
                .unwrap_or_default(),
            lanes: application.stats.snapshot().into_iter().map(lane).collect(),
        }
    }
}

impl LeaseRow {
    fn of(lease: &SeenLease, board: &BoardSnapshot) -> Self {
        Self {
            shard: lease.shard.as_str().to_owned(),
            owner: lease.owner.clone(),
            state: lease.state.label().to_owned(),
            counter: lease.counter,
            checkpoint: lease.checkpoint.clone(),
            parents: names(&lease.parents),
            children: names(&lease.children),
            hash_range: lease.hash_range.clone().map(|(first, last)| HashRange { first, last }),
            unowned_ms: board.unowned.get(&lease.shard).copied().map(millis),
        }
    }
}

impl LaneRow {
    fn of<'a>(
        node: &str,
        lane: &LaneSnapshot,
        actors: impl Iterator<Item = &'a ActorRow> + Clone,
        cause: impl Fn(&str, &ActorRow) -> Option<String>,
    ) -> Self {
        let waiting = actors.clone().filter_map(|row| Some((row, row.meter.waiting_for?))).max_by_key(|(_, waits)| *waits);
        Self {
            node: node.to_owned(),
            shard: lane.shard.as_str().to_owned(),
            state: lane.state.label().to_owned(),
            generation: lane.generation,
            in_lane: lane.in_lane as u64,
            lag_ms: known_lag(lane),
            iterator_age_ms: lane.last_record_age.map(millis),
            records_per_s: lane.records_per_second,
            throttles: lane.throttles,
            lease_left_ms: lane.lease_left.map(millis),
            checkpoint_age_ms: checkpoint_age(lane).map(millis),
            restarts: actors.map(|row| row.restarts).sum(),
            last_fault: lane.last_fault.clone(),
            waiting: waiting.map(|(row, waits)| {
                let actor = row.spot.path.rsplit('/').next().unwrap_or(&row.spot.path);
                WaitingRow { actor: actor.to_owned(), for_ms: millis(waits), cause: cause(actor, row) }
            }),
        }
    }
}

fn names(shards: &[ShardId]) -> Vec<String> {
    shards.iter().map(|shard| shard.as_str().to_owned()).collect()
}

fn is_within(path: &str, tree: &str) -> bool {
    path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
