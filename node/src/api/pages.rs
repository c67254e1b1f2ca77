//! What the API answers. What is not known is null, never 0.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use speedtrap_actors::domain::{Outcome, OutcomeCounts, Position};
use speedtrap_actors::observe::{ActorRow, IngestSnapshot, IngestStats, LaneSnapshot, LaneState, Restart};

use super::figures::{TextCause, WarehousePage};
use super::{ApplicationView, CacheCounts, NodeView};
use crate::findings::NodeFacts;

/// An answer about lag that is older than this says nothing about now.
const LAG_FRESH_FOR: Duration = Duration::from_secs(15);

/// `GET /api/v1/status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusPage {
    pub(crate) schema: u32,
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) state: String,
    pub(crate) uptime_s: u64,
    pub(crate) lanes: Vec<LanePage>,
    /// Events of the enrich lanes that ended for good, settled by a checkpoint: each counts once, however often it was read.
    pub(crate) events_in: u64,
    /// As `events_in`, of the errors lanes.
    pub(crate) errors_in: u64,
    /// How events ended, over all lanes.
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) outcomes_by_role: BTreeMap<String, BTreeMap<String, u64>>,
    /// Texts that may have been sent twice.
    pub(crate) possible_repeats: u64,
    pub(crate) cache: Option<CacheCounts>,
    /// How the warehouse is asked; null where no lane asks it.
    #[serde(default)]
    pub(crate) warehouse: Option<WarehousePage>,
    /// What became of texts, by cause, as far as this node decided it.
    #[serde(default)]
    pub(crate) texts: Vec<TextCause>,
    /// What the process costs; null where the system does not tell.
    pub(crate) process: Option<ProcessFigures>,
    /// The lane of an MQTT broker, if the node has one.
    #[serde(default)]
    pub(crate) ingest: Option<IngestPage>,
    /// Nothing is in the lanes, and every lag that is known is 0.
    pub(crate) idle: bool,
    /// What it tells of itself so that others can judge it.
    #[serde(default)]
    pub(crate) facts: NodeFacts,
}

/// What a process has used so far, and what it holds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ProcessFigures {
    /// Time on any core, user and system.
    pub(crate) cpu_s: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) open_files: u64,
}

/// The ingest lane of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IngestPage {
    /// Whether this node is the one that ingests.
    pub(crate) leads: bool,
    pub(crate) connected: bool,
    pub(crate) received: u64,
    pub(crate) stored: u64,
    pub(crate) dead_letters: u64,
    pub(crate) acknowledged: u64,
    /// Came without a promise of delivery (QoS 0), and there was no room.
    pub(crate) dropped: u64,
    /// Came and is not acknowledged yet.
    pub(crate) open: u64,
    pub(crate) connections: u64,
    /// Connections for which the broker had kept no session.
    pub(crate) sessions_begun: u64,
    pub(crate) trouble: Option<String>,
}

/// One lane.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LanePage {
    pub(crate) application: String,
    pub(crate) role: String,
    pub(crate) shard: String,
    pub(crate) state: String,
    pub(crate) generation: u64,
    pub(crate) records_in: u64,
    pub(crate) in_lane: u64,
    pub(crate) checkpoint: Option<String>,
    pub(crate) checkpoint_age_ms: Option<u64>,
    pub(crate) millis_behind: Option<u64>,
    pub(crate) last_fault: Option<String>,
}

/// `GET /api/v1/actors`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActorsPage {
    pub(crate) schema: u32,
    pub(crate) total: usize,
    pub(crate) rows: Vec<ActorPage>,
    /// The last restarts, oldest first.
    pub(crate) restarts: Vec<RestartPage>,
    /// The last actor of a part that others follow; only between nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// One actor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActorPage {
    pub(crate) id: Option<u64>,
    pub(crate) node: String,
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) mailbox: u64,
    pub(crate) received: u64,
    pub(crate) done: u64,
    pub(crate) busy_ms: u64,
    pub(crate) waiting_ms: u64,
    pub(crate) waiting: bool,
    /// What 95 of 100 messages of the last minute took; null if there were none.
    #[serde(default)]
    pub(crate) p95_us: Option<u64>,
    /// What 95 of 100 of them spent in the mailbox.
    #[serde(default)]
    pub(crate) mailbox_p95_us: Option<u64>,
    pub(crate) restarts: u64,
    pub(crate) last: Option<LastRestart>,
    pub(crate) up_s: u64,
}

/// An actor's last restart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastRestart {
    pub(crate) at: String,
    pub(crate) reason: String,
    /// The operator who ended it; null if it ended by itself.
    #[serde(default)]
    pub(crate) by: Option<String>,
    /// How long its supervisor waited before it; null where that is not known.
    #[serde(default)]
    pub(crate) delay_ms: Option<u64>,
}

/// One restart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RestartPage {
    pub(crate) at: String,
    pub(crate) actor: String,
    pub(crate) reason: String,
    /// As in [`LastRestart`].
    #[serde(default)]
    pub(crate) by: Option<String>,
    pub(crate) attempt: u64,
    /// As in [`LastRestart`].
    #[serde(default)]
    pub(crate) delay_ms: Option<u64>,
}

impl StatusPage {
    /// The counts, without the facts.
    pub(super) fn counts_of(view: &NodeView) -> Self {
        let ingest = view.ingest.as_ref().map(IngestStats::snapshot);
        let mut page = Self {
            schema: 1,
            node: view.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: view.phase().label().to_owned(),
            uptime_s: view.started.elapsed().as_secs(),
            lanes: Vec::new(),
            events_in: 0,
            errors_in: 0,
            outcomes: BTreeMap::new(),
            outcomes_by_role: BTreeMap::new(),
            possible_repeats: 0,
            cache: view.drivers.as_ref().map(|drivers| (drivers.counts)()),
            warehouse: view.drivers.as_ref().map(WarehousePage::of),
            texts: TextCause::all(view),
            process: ProcessFigures::of_this(),
            ingest: ingest.as_ref().map(IngestPage::of),
            idle: matches!(view.life(), "running" | "aside") && ingest.is_none_or(|ingest| ingest.open == 0),
            facts: NodeFacts::default(),
        };
        let mut all = OutcomeCounts::default();
        for application in &view.applications {
            let ended = page.add(application);
            all.merge(&ended);
            page.outcomes_by_role.insert(application.role.to_owned(), by_label(&ended));
        }
        page.outcomes = by_label(&all);
        page
    }

    pub(super) fn of(view: &NodeView) -> Self {
        Self { facts: NodeFacts::of(view), ..Self::counts_of(view) }
    }

    /// Adds the lanes of one application; returns how its events ended.
    fn add(&mut self, application: &ApplicationView) -> OutcomeCounts {
        let mut ended = OutcomeCounts::default();
        for lane in application.stats.snapshot() {
            ended.merge(&lane.outcomes);
            match application.role {
                "enrich" => self.events_in += lane.outcomes.total(),
                "errors" => self.errors_in += lane.outcomes.total(),
                _ => {}
            }
            self.possible_repeats += lane.possible_repeats;
            self.idle &= is_idle(&lane);
            self.lanes.push(LanePage::of(application, &lane));
        }
        ended
    }
}

/// A lane that waits for its restart has work to do, whatever it counts; an old answer about lag proves nothing.
fn is_idle(lane: &LaneSnapshot) -> bool {
    let nothing_behind = match lane.millis_behind {
        Some(behind) => behind == 0 && lane.lag_age.is_some_and(|age| age <= LAG_FRESH_FOR),
        None => true,
    };
    match lane.state {
        LaneState::Running => lane.in_lane == 0 && lane.unsettled == 0 && nothing_behind,
        LaneState::Ended | LaneState::Closed => true,
        LaneState::Backoff | LaneState::Draining => false,
    }
}

/// How far behind a lane is, if an answer of late says so.
pub(crate) fn known_lag(lane: &LaneSnapshot) -> Option<u64> {
    lane.millis_behind.filter(|_| lane.lag_age.is_some_and(|age| age <= LAG_FRESH_FOR))
}

/// How old the checkpoint of a lane is, if it wrote one.
pub(super) fn checkpoint_age(lane: &LaneSnapshot) -> Option<Duration> {
    // A clock that was set back makes an age of 0.
    lane.checkpointed_at.map(|at| at.elapsed().unwrap_or_default())
}

impl ProcessFigures {
    /// Of this process, from /proc (see proc(5)).
    pub(super) fn of_this() -> Option<Self> {
        /// The unit of times there, on every architecture that Linux still runs on.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name in brackets, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let rss_kib: u64 = rss.trim().trim_end_matches(" kB").parse().ok()?;
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        Some(Self { cpu_s: ticks / TICKS_PER_SECOND, rss_bytes: rss_kib << 10, open_files })
    }
}

impl LanePage {
    fn of(application: &ApplicationView, lane: &LaneSnapshot) -> Self {
        Self {
            application: application.name.clone(),
            role: application.role.to_owned(),
            shard: lane.shard.as_str().to_owned(),
            state: lane.state.label().to_owned(),
            generation: lane.generation,
            records_in: lane.records_in,
            in_lane: lane.in_lane as u64,
            checkpoint: lane.checkpoint.as_ref().map(place),
            checkpoint_age_ms: checkpoint_age(lane).map(millis),
            millis_behind: known_lag(lane),
            last_fault: lane.last_fault.clone(),
        }
    }
}

impl IngestPage {
    fn of(seen: &IngestSnapshot) -> Self {
        Self {
            leads: seen.leads,
            connected: seen.connected,
            received: seen.received,
            stored: seen.stored,
            dead_letters: seen.letters,
            acknowledged: seen.acknowledged,
            dropped: seen.dropped,
            open: seen.open,
            connections: seen.connections,
            sessions_begun: seen.sessions_begun,
            trouble: seen.trouble.clone(),
        }
    }
}

impl ActorsPage {
    pub(super) fn of(view: &NodeView) -> Self {
        Self { next: None, ..Self::part(view, None, usize::MAX) }
    }

    /// The actors behind this one, as many as fit into an answer between nodes; restarts come with the first ones.
    pub(super) fn part(view: &NodeView, after: Option<&str>, most: usize) -> Self {
        let rows: Vec<_> = view.actors.rows_after(after, most).iter().map(|row| ActorPage::of(&view.name, row)).collect();
        let restarts = if after.is_none() { view.actors.restarts() } else { Vec::new() };
        let next = rows.last().filter(|_| rows.len() == most).map(|row| row.name.clone());
        Self { schema: 1, total: view.actors.n_rows(), rows, restarts: restarts.iter().map(RestartPage::of).collect(), next }
    }
}

impl ActorPage {
    /// Whether nothing but its age tells the two apart.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let counts =
            |row: &Self| (row.id, row.mailbox, row.received, row.done, row.busy_ms, row.waiting_ms, row.waiting, row.restarts);
        counts(self) == counts(other) && self.state == other.state && self.kind == other.kind && self.parent == other.parent
    }

    /// The actor at this path.
    pub(super) fn at(view: &NodeView, path: &str) -> Option<Self> {
        view.actors.rows().iter().find(|row| row.spot.path == path).map(|row| Self::of(&view.name, row))
    }

    fn of(node: &str, row: &ActorRow) -> Self {
        let percentiles = row.percentiles();
        Self {
            id: row.pid,
            node: node.to_owned(),
            parent: row.spot.parent.clone(),
            name: row.spot.path.clone(),
            kind: row.spot.kind.to_owned(),
            state: row.state.label().to_owned(),
            mailbox: row.meter.depth,
            received: row.meter.received,
            done: row.meter.done,
            busy_ms: millis(row.meter.busy),
            waiting_ms: millis(row.meter.waiting),
            waiting: row.meter.waiting_for.is_some(),
            p95_us: percentiles.handle_p95.map(micros),
            mailbox_p95_us: percentiles.mailbox_p95.map(micros),
            restarts: row.restarts,
            last: row.last_restart.as_ref().map(LastRestart::of),
            up_s: row.meter.up.as_secs(),
        }
    }
}

impl LastRestart {
    fn of(restart: &Restart) -> Self {
        let (reason, by) = (restart.reason.clone(), restart.by.clone());
        Self { at: time(restart.at), reason, by, delay_ms: restart.delay.map(millis) }
    }
}

impl RestartPage {
    fn of(restart: &Restart) -> Self {
        let (at, actor, reason) = (time(restart.at), restart.path.clone(), restart.reason.clone());
        let delay_ms = restart.delay.map(millis);
        Self { at, actor, reason, by: restart.by.clone(), attempt: restart.attempt, delay_ms }
    }
}

fn by_label(counts: &OutcomeCounts) -> BTreeMap<String, u64> {
    Outcome::ALL.iter().map(|outcome| (outcome.label().to_owned(), counts.get(*outcome))).collect()
}

pub(super) fn place(position: &Position) -> String {
    match position.sub {
        0 => position.sequence.as_str().to_owned(),
        sub => format!("{}/{sub}", position.sequence.as_str()),
    }
}

pub(super) fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| "unknown".to_owned(), |at| format!("{at:.3}"))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
