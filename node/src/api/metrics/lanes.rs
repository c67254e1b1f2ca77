//! What the lanes let in and how it ended, the cache of drivers, and the ingest lane.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use speedtrap_actors::domain::{Outcome, OutcomeCounts};
use speedtrap_actors::observe::{DurationsSnapshot, IngestStats, LaneSnapshot};

use super::super::pages::{checkpoint_age, known_lag};
use super::super::{ApplicationView, NodeView};
use super::{ResultLabel, Seconds, StageLabel, signed};

/// The call that sends a text; one that fails is tried again.
const TEXT_CALL: &str = "sns Publish";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    stage: &'static str,
    shard: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    stage: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    stage: &'static str,
    write: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    result: &'static str,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: Family<StateLabels, Gauge>,
    records: Family<StageLabel, Counter>,
    events: Family<EndLabels, Counter>,
    letters: Family<StageLabel, Counter>,
    texts: Family<OutcomeLabel, Counter>,
    in_lane: Family<LaneLabels, Gauge>,
    lag: Family<LaneLabels, Seconds>,
    most_behind: Family<StageLabel, Seconds>,
    age: Family<LaneLabels, Seconds>,
    repeats: Counter,
    lease_writes: Family<WriteLabels, Counter>,
    lease_changes: Family<StageLabel, Counter>,
}

pub(super) fn add(registry: &mut Registry, view: &NodeView) {
    let all = Lanes::default();
    all.register(registry);
    for application in &view.applications {
        all.add_application(application);
    }
    let calls = Family::<CallLabels, Counter>::default();
    registry.register("remote_calls", "Calls to AWS and the warehouse, by whether they were answered", calls.clone());
    for seen in view.calls.snapshot() {
        for (result, n) in [("answered", seen.answered), ("failed", seen.failed)] {
            calls.get_or_create(&CallLabels { call: seen.call, result }).inc_by(n);
        }
        if seen.call == TEXT_CALL {
            all.texts.get_or_create(&OutcomeLabel { outcome: "failed" }).inc_by(seen.failed);
        }
    }
}

impl Lanes {
    fn register(&self, registry: &mut Registry) {
        registry.register("lanes", "Lanes of this node by what they do", self.lanes.clone());
        registry.register("records", "Records let in", self.records.clone());
        registry.register("events", "Events that ended, by how they ended", self.events.clone());
        registry.register("dead_letters", "Records that became dead letters here", self.letters.clone());
        registry.register("sms", "Texts by what became of them", self.texts.clone());
        registry.register("lane_events", "Events let in and not ended", self.in_lane.clone());
        let lag = "How far a lane is behind its shard; missing while unknown";
        registry.register_with_unit("shard_lag", lag, Unit::Seconds, self.lag.clone());
        let most = "How far the slowest lane of a kind is behind; missing while unknown";
        registry.register("shard_lag_seconds_max", most, self.most_behind.clone());
        registry.register_with_unit("checkpoint_age", "Time since a lane wrote its checkpoint", Unit::Seconds, self.age.clone());
        registry.register("possible_repeats", "Texts that may have been sent twice", self.repeats.clone());
        registry.register("lease_writes", "Writes of lease rows, by why", self.lease_writes.clone());
        registry.register("lease_changes", "Leases made, taken, given away or released", self.lease_changes.clone());
    }

    fn add_application(&self, application: &ApplicationView) {
        let stage = application.role;
        let label = StageLabel { stage };
        let mut ended = OutcomeCounts::default();
        let mut most_behind: BTreeMap<&'static str, f64> = BTreeMap::new();
        // No lane is as true as some, and makes the alert that watches for it.
        self.lanes.get_or_create(&StateLabels { stage, state: "running" }).set(0);
        self.lease_changes.get_or_create(&label).inc_by(0);
        for lane in application.stats.snapshot() {
            ended.merge(&lane.outcomes);
            self.add_lane(stage, &lane);
            if let Some(behind) = known_lag(&lane) {
                let behind = Duration::from_millis(behind).as_secs_f64();
                let most = most_behind.entry(stage).or_default();
                *most = behind.max(*most);
            }
        }
        for (stage, behind) in most_behind {
            self.most_behind.get_or_create(&StageLabel { stage }).set(behind);
        }
        self.letters.get_or_create(&label).inc_by(ended.get(Outcome::Rejected));
        if stage == "notify" {
            self.add_texts(&ended);
        }
    }

    fn add_lane(&self, stage: &'static str, lane: &LaneSnapshot) {
        let labels = LaneLabels { stage, shard: lane.shard.as_str().to_owned() };
        self.lanes.get_or_create(&StateLabels { stage, state: lane.state.label() }).inc();
        self.records.get_or_create(&StageLabel { stage }).inc_by(lane.records_in);
        for outcome in Outcome::ALL {
            self.events.get_or_create(&EndLabels { stage, outcome: outcome.label() }).inc_by(lane.outcomes.get(*outcome));
        }
        self.in_lane.get_or_create(&labels).set(signed(lane.in_lane as u64));
        self.repeats.inc_by(lane.possible_repeats);
        if let Some(behind) = known_lag(lane) {
            self.lag.get_or_create(&labels).set(Duration::from_millis(behind).as_secs_f64());
        }
        if let Some(since) = checkpoint_age(lane) {
            self.age.get_or_create(&labels).set(since.as_secs_f64());
        }
        let writes = lane.lease_writes;
        for (write, n) in [("renewal", writes.renewals), ("checkpoint", writes.checkpoints), ("other", writes.others)] {
            self.lease_writes.get_or_create(&WriteLabels { stage, write }).inc_by(n);
        }
        self.lease_changes.get_or_create(&StageLabel { stage }).inc_by(writes.others);
    }

    /// Every event of a notify lane is a text that was owed.
    fn add_texts(&self, ended: &OutcomeCounts) {
        for (outcome, end) in [
            ("sent", Outcome::Notified),
            ("sent_before", Outcome::Duplicate),
            ("suppressed", Outcome::Suppressed),
            ("dead_letter", Outcome::Rejected),
        ] {
            self.texts.get_or_create(&OutcomeLabel { outcome }).inc_by(ended.get(end));
        }
        self.texts.get_or_create(&OutcomeLabel { outcome: "failed" }).inc_by(0);
    }
}

pub(super) fn add_drivers(registry: &mut Registry, view: &NodeView) {
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
    let took = "Time of queries to the warehouse that were answered, the wait for a connection included";
    registry.register_with_unit("redshift", took, Unit::Seconds, Times((drivers.query_times)()));
    if let Some(connections) = (drivers.connections)() {
        let waiting: Gauge = Gauge::default();
        waiting.set(signed(connections.waiting as u64));
        registry.register("pool_waiting", "Queries that wait for a connection to the warehouse", waiting);
    }
}

/// Counts that were made elsewhere, as a histogram.
#[derive(Debug)]
struct Times(DurationsSnapshot);

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let end = |end: Option<Duration>| end.map_or(f64::INFINITY, |end| end.as_secs_f64());
        let buckets: Vec<_> = self.0.buckets.iter().map(|(to, n)| (end(*to), *n)).collect();
        let n = buckets.iter().map(|(_, n)| n).sum();
        encoder.encode_histogram::<NoLabelSet>(self.0.sum.as_secs_f64(), n, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

pub(super) fn add_ingest(registry: &mut Registry, view: &NodeView) {
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
