//! Actors by kind, and one by one for who asks.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::super::NodeView;
use super::{Detail, Seconds, SecondsTotal, signed};

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
struct ActorLabels {
    kind: &'static str,
    actor: String,
}

pub(super) fn add(registry: &mut Registry, view: &NodeView, detail: Detail) {
    let actors = Family::<KindLabel, Gauge>::default();
    let waiting = Family::<KindLabel, Gauge>::default();
    let longest = Family::<KindLabel, Gauge>::default();
    let handled = Family::<KindLabel, Counter>::default();
    let restarts = Family::<RestartLabels, Counter>::default();
    let [handle, mailbox]: [Family<QuantileLabels, Seconds>; 2] = Default::default();
    let busy = Family::<KindLabel, SecondsTotal>::default();
    let waited = Family::<KindLabel, SecondsTotal>::default();
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
    registry.register("actor_busy_seconds", "Time in handlers of the actors that run now", busy.clone());
    registry.register(
        "actor_waiting_seconds",
        "Time for which the actors that run now waited for a rate limit, a retry or a remote answer",
        waited.clone(),
    );
    let mut deepest: BTreeMap<&'static str, i64> = BTreeMap::new();
    let rows = view.actors.rows();
    for row in &rows {
        let kind = KindLabel { kind: row.spot.kind };
        let depth = signed(row.meter.depth);
        actors.get_or_create(&kind).inc();
        waiting.get_or_create(&kind).inc_by(depth);
        handled.get_or_create(&kind).inc_by(row.meter.done);
        // A counter that begins at its first restart would hide that restart from whoever asks for the increase.
        restarts.get_or_create(&RestartLabels { kind: row.spot.kind, reason_class: "fault" }).inc_by(0);
        for (reason_class, n) in &row.restarts_by_class {
            restarts.get_or_create(&RestartLabels { kind: row.spot.kind, reason_class }).inc_by(*n);
        }
        let percentiles = row.percentiles();
        for (family, p95) in [(&handle, percentiles.handle_p95), (&mailbox, percentiles.mailbox_p95)] {
            let Some(p95) = p95 else { continue };
            let slowest = family.get_or_create(&QuantileLabels { kind: row.spot.kind, quantile: "0.95" });
            slowest.set(slowest.get().max(p95.as_secs_f64()));
        }
        busy.get_or_create(&kind).inc_by(row.meter.busy.as_secs_f64());
        waited.get_or_create(&kind).inc_by(row.meter.waiting.as_secs_f64());
        let most = deepest.entry(row.spot.kind).or_default();
        *most = depth.max(*most);
    }
    for (kind, most) in deepest {
        longest.get_or_create(&KindLabel { kind }).set(most);
    }
    if detail == Detail::Actors {
        let depths = Family::<ActorLabels, Gauge>::default();
        let handled = Family::<ActorLabels, Counter>::default();
        registry.register("actor_depth_messages", "Messages waiting in the mailbox of one actor", depths.clone());
        registry.register("actor_done_messages", "Messages handled by one actor", handled.clone());
        for row in rows {
            let labels = ActorLabels { kind: row.spot.kind, actor: row.spot.path };
            depths.get_or_create(&labels).set(signed(row.meter.depth));
            handled.get_or_create(&labels).inc_by(row.meter.done);
        }
    }
}
