//! The metrics, made from the same counters as the pages when somebody asks for them. What is not known is missing, never 0.
//!
//! Actors are counted by kind, never one by one: a node may have thousands. `?detail=actors` adds a line for each.

mod actors;
mod cluster;
mod embedded;
mod lanes;
mod process;

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Api;

pub(crate) use embedded::EmbeddedMetrics;

type Seconds = Gauge<f64, AtomicU64>;
type SecondsTotal = Counter<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// By kind and stage.
    Kinds,
    /// Also each actor by itself.
    Actors,
}

/// All metrics in the OpenMetrics text format.
pub(super) fn text(api: &Api, detail: Detail) -> Result<String, fmt::Error> {
    let mut all = Registry::default();
    process::add(&mut all);
    let registry = all.sub_registry_with_prefix("speedtrap");
    process::add_node(registry, &api.node);
    actors::add(registry, &api.node, detail);
    lanes::add(registry, &api.node);
    lanes::add_drivers(registry, &api.node);
    lanes::add_ingest(registry, &api.node);
    cluster::add(registry, api);
    cluster::add_findings(registry, api);
    let mut text = String::new();
    encode(&mut text, &all)?;
    Ok(text)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
