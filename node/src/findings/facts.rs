//! What a node tells of itself so that others can judge it. Times are ages, measured by its own clock.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use speedtrap_actors::domain::Outcome;
use speedtrap_actors::observe::{ActorRow, ActorState, CallSnapshot, LaneSnapshot, LaneState, Pause, Restart};

use super::cause::cause_of;
use crate::api::{ApplicationView, NodeView};

/// A handler that runs for longer is told of: handlers hand slow work on, and return.
const LONG_HANDLER: Duration = Duration::from_millis(1_000);
/// A call that lasts longer is told of.
const LONG_CALL: Duration = Duration::from_secs(1);
/// A wait for an answer that lasts longer is told of.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// New dead letters are news for so long; after that they are only rows in their table.
const NEWS_FOR: Duration = Duration::from_secs(600);
/// Restarts are counted over this time.
const STORM_WINDOW: Duration = Duration::from_secs(60);
/// Most entries of one kind; more would say nothing new.
const MOST_TOLD: usize = 50;

/// Part of a node's status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeFacts {
    /// Its clock.
    pub(crate) at_ms: Option<u64>,
    pub(crate) actors: u64,
    /// Restarts of actors since the node started.
    pub(crate) restarts: u64,
    /// The longest mailbox; null if all are empty.
    pub(crate) deepest: Option<MailboxFact>,
    /// Actors whose handler has not returned for a while.
    pub(crate) stuck: Vec<StuckFact>,
    /// Actors that were restarted in the last minute.
    pub(crate) storms: Vec<StormFact>,
    pub(crate) lanes: Vec<LaneFact>,
    /// Remote calls, those that fare badly and those to the warehouse and for texts.
    pub(crate) calls: Vec<CallFact>,
    /// New dead letters, oldest first.
    pub(crate) letters: Vec<FreshLetterFact>,
    /// Readings of the last quarter of an hour that name a state.
    pub(crate) placed: u64,
    /// Of those, the ones whose coordinates lie outside it.
    pub(crate) misplaced: u64,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MailboxFact {
    pub(crate) actor: String,
    pub(crate) messages: u64,
}

/// An actor that handles one message for a long time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StuckFact {
    pub(crate) actor: String,
    pub(crate) for_ms: u64,
}

/// An actor that is restarted often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StormFact {
    pub(crate) actor: String,
    pub(crate) restarts: u64,
    pub(crate) last_ms: u64,
    pub(crate) reason: String,
}

/// One lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneFact {
    pub(crate) role: String,
    pub(crate) shard: String,
    pub(crate) state: String,
    pub(crate) state_for_ms: u64,
    /// Deaths since its checkpoint last moved on.
    pub(crate) deaths: u32,
    pub(crate) last_fault: Option<String>,
    pub(crate) lag_ms: Option<u64>,
    /// For how long events have been in it and none has ended.
    pub(crate) still_ms: Option<u64>,
    pub(crate) records_in: u64,
    pub(crate) in_lane: u64,
    pub(crate) settled: u64,
    pub(crate) unsettled: u64,
    pub(crate) restarted: u64,
    pub(crate) violations: u64,
    pub(crate) texts: u64,
    /// Its actors that wait for long, or on purpose.
    pub(crate) waits: Vec<WaitFact>,
}

/// An actor that waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WaitFact {
    pub(crate) actor: String,
    pub(crate) for_ms: u64,
    /// All its waiting so far.
    pub(crate) waiting_ms: u64,
    /// What for; null for an answer.
    pub(crate) cause: Option<String>,
    /// Whether it waits for a limit that this cluster sets itself.
    pub(crate) own_limit: bool,
}

/// One kind of remote call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CallFact {
    /// Whom it is made for.
    pub(crate) user: String,
    pub(crate) call: String,
    pub(crate) resource: String,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Failures since the last answer.
    pub(crate) streak: u32,
    pub(crate) failing_ms: Option<u64>,
    pub(crate) last_failure: Option<String>,
    pub(crate) last_failure_ms: Option<u64>,
    /// How long the oldest one under way has lasted.
    pub(crate) unanswered_ms: Option<u64>,
    /// In the last 5 to 10 s, as all that follows.
    pub(crate) answered_of_late: u64,
    pub(crate) failed_of_late: u64,
    pub(crate) p95_ms: Option<f64>,
}

/// A dead letter that was made a short while ago.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FreshLetterFact {
    pub(crate) id: String,
    pub(crate) stage: String,
    pub(crate) shard: String,
    pub(crate) reason: String,
    pub(crate) age_ms: u64,
}

impl NodeFacts {
    pub(crate) fn of(view: &NodeView) -> Self {
        let (rows, calls) = (view.actors.rows(), view.calls.snapshot());
        let deepest = rows.iter().max_by_key(|row| row.meter.depth).filter(|row| row.meter.depth > 0);
        let stuck = rows.iter().filter_map(|row| {
            let for_ms = row.meter.handling_for.filter(|lasts| *lasts >= LONG_HANDLER)?;
            (row.state == ActorState::Running).then(|| StuckFact { actor: row.spot.path.clone(), for_ms: millis(for_ms) })
        });
        let mut lanes = Vec::new();
        let mut letters = Vec::new();
        for application in &view.applications {
            for lane in application.stats.snapshot() {
                letters.extend(fresh_letters(application, &lane));
                lanes.push(LaneFact::of(view, application, &lane, &rows, &calls));
            }
        }
        let (placed, misplaced) = view.applications.iter().map(places).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.age_ms));
        letters.drain(..letters.len().saturating_sub(MOST_TOLD));
        Self {
            at_ms: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(millis),
            actors: rows.len() as u64,
            restarts: rows.iter().map(|row| row.restarts).sum(),
            deepest: deepest.map(|row| MailboxFact { actor: row.spot.path.clone(), messages: row.meter.depth }),
            stuck: stuck.take(MOST_TOLD).collect(),
            storms: storms(&view.actors.restarts()),
            lanes,
            calls: calls.iter().filter(|call| is_worth_telling(call)).map(CallFact::of).collect(),
            letters,
            placed,
            misplaced,
        }
    }
}

/// Readings that name a state, and how many of them lie outside it.
fn places(application: &ApplicationView) -> (u64, u64) {
    const MINUTES: u64 = 15;
    let counts = application.stats.traffic().last(SystemTime::now(), MINUTES);
    let known = counts.states.split_last().map_or(0, |(_, known)| known.iter().map(|count| count.events).sum());
    (known, counts.coordinates_off)
}

fn fresh_letters<'a>(application: &'a ApplicationView, lane: &'a LaneSnapshot) -> impl Iterator<Item = FreshLetterFact> + 'a {
    lane.letters.iter().filter(|letter| letter.at.elapsed() < NEWS_FOR).map(|letter| FreshLetterFact {
        id: letter.id.clone(),
        stage: application.role.to_owned(),
        shard: lane.shard.as_str().to_owned(),
        reason: letter.reason.clone(),
        age_ms: millis(letter.at.elapsed()),
    })
}

fn storms(restarts: &[Restart]) -> Vec<StormFact> {
    let mut storms: BTreeMap<&str, StormFact> = BTreeMap::new();
    for restart in restarts {
        // A clock that was set back makes an age of 0.
        let age = restart.at.elapsed().unwrap_or_default();
        if age > STORM_WINDOW {
            continue;
        }
        let empty = || StormFact { actor: restart.path.clone(), restarts: 0, last_ms: 0, reason: String::new() };
        let storm = storms.entry(&restart.path).or_insert_with(empty);
        storm.restarts += 1;
        storm.last_ms = millis(age);
        storm.reason.clone_from(&restart.reason);
    }
    storms.into_values().take(MOST_TOLD).collect()
}

fn is_worth_telling(call: &CallSnapshot) -> bool {
    call.streak > 0
        || call.failed_of_late > 0
        || call.unanswered_for.is_some_and(|lasts| lasts >= LONG_CALL)
        || call.p95.is_some_and(|p95| p95 >= LONG_CALL)
        || call.resource == "warehouse"
        || call.resource == "SMS"
}

impl LaneFact {
    fn of(
        view: &NodeView,
        application: &ApplicationView,
        lane: &LaneSnapshot,
        rows: &[ActorRow],
        calls: &[CallSnapshot],
    ) -> Self {
        let role = application.role;
        let tree = format!("{}/{role}/{}/", view.name, lane.shard);
        let is_live = matches!(lane.state, LaneState::Running | LaneState::Draining);
        let waits = rows.iter().filter(|_| is_live).filter_map(|row| {
            let actor = row.spot.path.strip_prefix(&tree)?;
            let lasts = row.meter.waiting_for?;
            (row.meter.paused.is_some() || lasts >= LONG_WAIT).then(|| WaitFact {
                actor: actor.to_owned(),
                for_ms: millis(lasts),
                waiting_ms: millis(row.meter.waiting),
                cause: cause_of(role, actor, &row.meter, calls),
                own_limit: matches!(row.meter.paused, Some(Pause::TextRate | Pause::Turn)),
            })
        });
        let n = |outcome| lane.outcomes.get(outcome);
        Self {
            role: role.to_owned(),
            shard: lane.shard.as_str().to_owned(),
            state: lane.state.label().to_owned(),
            state_for_ms: millis(lane.state_for),
            deaths: lane.deaths,
            last_fault: lane.last_fault.clone(),
            lag_ms: crate::api::known_lag(lane),
            still_ms: lane.still_for.filter(|_| is_live).map(millis),
            records_in: lane.records_in,
            in_lane: lane.in_lane as u64,
            settled: lane.outcomes.total(),
            unsettled: lane.unsettled,
            restarted: lane.restarted,
            violations: if role == "enrich" { n(Outcome::Published) + n(Outcome::OwnerUnknown) } else { 0 },
            texts: n(Outcome::Notified),
            waits: waits.collect(),
        }
    }
}

impl CallFact {
    fn of(call: &CallSnapshot) -> Self {
        Self {
            user: call.user.to_owned(),
            call: call.call.to_owned(),
            resource: call.resource.clone(),
            answered: call.answered,
            failed: call.failed,
            streak: call.streak,
            failing_ms: call.failing_for.map(millis),
            last_failure: call.last_failure.clone(),
            last_failure_ms: call.last_failure_age.map(millis),
            unanswered_ms: call.unanswered_for.map(millis),
            answered_of_late: call.answered_of_late,
            failed_of_late: call.failed_of_late,
            p95_ms: call.p95.map(|p95| p95.as_secs_f64() * 1_000.0),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
