//! The metrics, made from the same counters as the pages when somebody asks for them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use speedtrap_actors::cluster::{ClusterNode, Presence};
use speedtrap_actors::domain::Outcome;
use speedtrap_actors::observe::{IngestStats, LeaseState};

use super::pages::{checkpoint_age, known_lag};
use super::{Api, NodeView};

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestartLabels {
    kind: &'static str,
    reason_class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuantileLabels {
    kind: &'static str,
    quantile: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    stage: &'static str,
    shard: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    stage: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PresenceLabel {
    presence: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    severity: &'static str,
    rule: String,
}

/// All metrics in the OpenMetrics text format. Actors are counted by kind, never one by one: a node may have thousands.
pub(super) fn text(api: &Api) -> Result<String, fmt::Error> {
    let view = &api.node;
    let mut registry = Registry::with_prefix("speedtrap");
    add_actors(&mut registry, view);
    add_lanes(&mut registry, view);
    add_drivers(&mut registry, view);
    add_ingest(&mut registry, view);
    add_cluster(&mut registry, api);
    add_findings(&mut registry, api);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn add_actors(registry: &mut Registry, view: &NodeView) {
    let actors = Family::<KindLabel, Gauge>::default();
    let waiting = Family::<KindLabel, Gauge>::default();
    let longest = Family::<KindLabel, Gauge>::default();
    let handled = Family::<KindLabel, Counter>::default();
    let restarts = Family::<RestartLabels, Counter>::default();
    let [handle, mailbox]: [Family<QuantileLabels, Seconds>; 2] = Default::default();
    registry.register("actors", "Actors by kind", actors.clone());
    registry.register("actor_mailbox_messages", "Messages waiting in the mailboxes of one kind of actor", waiting.clone());
    registry.register(
        "actor_mailbox_messages_max",
        "Messages waiting in the longest mailbox of one kind of actor",
        longest.clone(),
    );
    registry.register("actor_messages_handled", "Messages handled by the actors that run now", handled.clone());
    registry.register("actor_restarts", "Restarts of actors by kind and by what kind of reason", restarts.clone());
    let slowest = "of the slowest actor of a kind, over the last minute; missing while unknown";
    registry.register_with_unit("actor_handle", format!("Time to handle a message, {slowest}"), Unit::Seconds, handle.clone());
    registry.register_with_unit("actor_mailbox", format!("Time in the mailbox, {slowest}"), Unit::Seconds, mailbox.clone());
    let mut deepest: BTreeMap<&'static str, i64> = BTreeMap::new();
    for row in view.actors.rows() {
        let kind = KindLabel { kind: row.spot.kind };
        let depth = signed(row.meter.depth);
        actors.get_or_create(&kind).inc();
        waiting.get_or_create(&kind).inc_by(depth);
        handled.get_or_create(&kind).inc_by(row.meter.done);
        for (reason_class, n) in &row.restarts_by_class {
            restarts.get_or_create(&RestartLabels { kind: row.spot.kind, reason_class }).inc_by(*n);
        }
        let percentiles = row.percentiles();
        for (family, p95) in [(&handle, percentiles.handle_p95), (&mailbox, percentiles.mailbox_p95)] {
            let Some(p95) = p95 else { continue };
            let slowest = family.get_or_create(&QuantileLabels { kind: row.spot.kind, quantile: "0.95" });
            slowest.set(slowest.get().max(p95.as_secs_f64()));
        }
        let most = deepest.entry(row.spot.kind).or_default();
        *most = depth.max(*most);
    }
    for (kind, most) in deepest {
        longest.get_or_create(&KindLabel { kind }).set(most);
    }
}

fn add_lanes(registry: &mut Registry, view: &NodeView) {
    let records = Family::<StageLabel, Counter>::default();
    let events = Family::<EndLabels, Counter>::default();
    let in_lane = Family::<LaneLabels, Gauge>::default();
    let lag = Family::<LaneLabels, Seconds>::default();
    let age = Family::<LaneLabels, Seconds>::default();
    let repeats: Counter = Counter::default();
    registry.register("records", "Records let in", records.clone());
    registry.register("events", "Events that ended, by how they ended", events.clone());
    registry.register("lane_events", "Events let in and not ended", in_lane.clone());
    registry.register_with_unit(
        "shard_lag",
        "How far a lane is behind its shard; missing while unknown",
        Unit::Seconds,
        lag.clone(),
    );
    registry.register_with_unit("checkpoint_age", "Time since a lane wrote its checkpoint", Unit::Seconds, age.clone());
    registry.register("possible_repeats", "Texts that may have been sent twice", repeats.clone());
    let mut most_behind: BTreeMap<&'static str, f64> = BTreeMap::new();
    for application in &view.applications {
        let stage = application.role;
        for lane in application.stats.snapshot() {
            let labels = LaneLabels { stage, shard: lane.shard.as_str().to_owned() };
            records.get_or_create(&StageLabel { stage }).inc_by(lane.records_in);
            for outcome in Outcome::ALL {
                events.get_or_create(&EndLabels { stage, outcome: outcome.label() }).inc_by(lane.outcomes.get(*outcome));
            }
            in_lane.get_or_create(&labels).set(signed(lane.in_lane as u64));
            repeats.inc_by(lane.possible_repeats);
            if let Some(behind) = known_lag(&lane) {
                let behind = std::time::Duration::from_millis(behind).as_secs_f64();
                lag.get_or_create(&labels).set(behind);
                let most = most_behind.entry(stage).or_default();
                *most = behind.max(*most);
            }
            if let Some(since) = checkpoint_age(&lane) {
                age.get_or_create(&labels).set(since.as_secs_f64());
            }
        }
    }
    let max = Family::<StageLabel, Seconds>::default();
    registry.register(
        "shard_lag_seconds_max",
        "How far the slowest lane of a kind is behind; missing while unknown",
        max.clone(),
    );
    for (stage, behind) in most_behind {
        max.get_or_create(&StageLabel { stage }).set(behind);
    }
}

fn add_drivers(registry: &mut Registry, view: &NodeView) {
    let Some(drivers) = &view.drivers else { return };
    let counts = (drivers.counts)();
    let requests = Family::<ResultLabel, Counter>::default();
    let queries: Counter = Counter::default();
    let entries: Gauge = Gauge::default();
    registry.register("cache_requests", "Drivers looked up, by whether the cache had them", requests.clone());
    registry.register("cache_queries", "Queries to the warehouse", queries.clone());
    registry.register("cache_entries", "Plates remembered", entries.clone());
    requests.get_or_create(&ResultLabel { result: "hit" }).inc_by(counts.hits);
    requests.get_or_create(&ResultLabel { result: "miss" }).inc_by(counts.misses);
    queries.inc_by(counts.queries);
    entries.set(signed(counts.entries));
}

fn add_ingest(registry: &mut Registry, view: &NodeView) {
    let Some(ingest) = view.ingest.as_ref().map(IngestStats::snapshot) else { return };
    let messages = Family::<ResultLabel, Counter>::default();
    let [connections, sessions]: [Counter; 2] = Default::default();
    let [open, connected]: [Gauge; 2] = Default::default();
    registry.register("ingest_messages", "Messages of the MQTT broker, by what became of them", messages.clone());
    registry.register("ingest_connections", "Connections made to the MQTT broker", connections.clone());
    registry.register("ingest_sessions_begun", "Connections for which the broker had kept no session", sessions.clone());
    registry.register("ingest_open_messages", "Messages that came and are not acknowledged yet", open.clone());
    registry.register("ingest_connected", "Whether this node is connected to the MQTT broker", connected.clone());
    for (result, n) in [
        ("received", ingest.received),
        ("stored", ingest.stored),
        ("dead_letter", ingest.letters),
        ("acknowledged", ingest.acknowledged),
        ("dropped", ingest.dropped),
    ] {
        messages.get_or_create(&ResultLabel { result }).inc_by(n);
    }
    connections.inc_by(ingest.connections);
    sessions.inc_by(ingest.sessions_begun);
    open.set(signed(ingest.open));
    connected.set(i64::from(ingest.connected));
}

fn add_cluster(registry: &mut Registry, api: &Api) {
    let nodes = Family::<PresenceLabel, Gauge>::default();
    let leases = Family::<LeaseLabels, Gauge>::default();
    registry.register("cluster_nodes", "Nodes as this one sees them, itself included", nodes.clone());
    registry.register("leases", "Leases that this node holds, and those that nobody holds", leases.clone());
    let presences = [Presence::Here, Presence::Linked, Presence::Unlinked, Presence::Suspect, Presence::Dead];
    for presence in presences.map(Presence::label).into_iter().chain([ClusterNode::LEFT]) {
        nodes.get_or_create(&PresenceLabel { presence }).set(0);
    }
    let known = api.nodes();
    for node in &known {
        nodes.get_or_create(&PresenceLabel { presence: node.label() }).inc();
    }
    if let Some(slowest) = known.iter().filter_map(|node| node.round_trip).max() {
        let trip = Seconds::default();
        trip.set(slowest.as_secs_f64());
        registry.register("peer_round_trip_seconds_max", "Round trip to the slowest linked node; missing while unknown", trip);
    }
    for application in &api.node.applications {
        let stage = application.role;
        for lease in application.board.snapshot().into_iter().flat_map(|board| board.leases) {
            let is_own = lease.owner.as_ref() == Some(&api.node.worker);
            if is_own || !matches!(lease.state, LeaseState::Held | LeaseState::HandingOver) {
                leases.get_or_create(&LeaseLabels { stage, state: lease.state.label() }).inc();
            }
        }
    }
}

fn add_findings(registry: &mut Registry, api: &Api) {
    let findings = Family::<FindingLabels, Gauge>::default();
    registry.register("findings", "What this node found to be wrong with the cluster when it last looked", findings.clone());
    for severity in ["critical", "warning"] {
        findings.get_or_create(&FindingLabels { severity, rule: "all".to_owned() }).set(0);
    }
    for (severity, rule) in api.told() {
        findings.get_or_create(&FindingLabels { severity, rule }).inc();
        findings.get_or_create(&FindingLabels { severity, rule: "all".to_owned() }).inc();
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
