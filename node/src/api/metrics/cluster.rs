//! The other nodes as this one sees them, and the leases.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use speedtrap_actors::cluster::{ClusterNode, Presence};
use speedtrap_actors::observe::LeaseState;

use super::super::Api;
use super::Seconds;

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
struct FindingLabels {
    severity: &'static str,
    rule: String,
}

pub(super) fn add_findings(registry: &mut Registry, api: &Api) {
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

pub(super) fn add(registry: &mut Registry, api: &Api) {
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
        let Some(board) = application.board.snapshot() else { continue };
        for state in [LeaseState::Held, LeaseState::Free, LeaseState::Expired].map(LeaseState::label) {
            leases.get_or_create(&LeaseLabels { stage, state }).set(0);
        }
        for lease in board.leases {
            let is_own = lease.owner.as_ref() == Some(&api.node.worker);
            if is_own || !matches!(lease.state, LeaseState::Held | LeaseState::HandingOver) {
                leases.get_or_create(&LeaseLabels { stage, state: lease.state.label() }).inc();
            }
        }
    }
}
