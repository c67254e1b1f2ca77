//! The process, under the names that Prometheus' own libraries use, and the node in it.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::super::pages::ProcessFigures;
use super::super::{NodeView, Phase};
use super::{Seconds, SecondsTotal};

/// What the system does not tell is missing.
pub(super) fn add(registry: &mut Registry) {
    let Some(figures) = ProcessFigures::of_this() else { return };
    let cpu = SecondsTotal::default();
    let [memory, files]: [Gauge; 2] = Default::default();
    cpu.inc_by(figures.cpu_s);
    memory.set(super::signed(figures.rss_bytes));
    files.set(super::signed(figures.open_files));
    registry.register_with_unit("process_cpu", "Time on any core, user and system", Unit::Seconds, cpu);
    registry.register_with_unit("process_resident_memory", "Memory that is in use", Unit::Bytes, memory);
    registry.register("process_open_fds", "Open files and sockets", files);
}

pub(super) fn add_node(registry: &mut Registry, view: &NodeView) {
    let build = Info::new([("node", view.name.clone()), ("version", env!("CARGO_PKG_VERSION").to_owned())]);
    registry.register("build", "Which node this is, and what it runs", build);
    let ready: Gauge = Gauge::default();
    ready.set(i64::from(view.phase() == Phase::Running));
    registry.register("ready", "Whether its lanes run and it is not about to stop", ready);
    let up = Seconds::default();
    up.set(view.started.elapsed().as_secs_f64());
    registry.register_with_unit("up", "Time since it was started", Unit::Seconds, up);
    let cost = SecondsTotal::default();
    cost.inc_by(view.cost.so_far().as_secs_f64());
    registry.register_with_unit(
        "dashboard",
        "Time for which answering the API, its pages and other nodes, and watching for findings held a core",
        Unit::Seconds,
        cost,
    );
}
