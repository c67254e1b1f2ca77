//! `speedtrap run`: the life of a node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ractor::concurrency::oneshot;
use speedtrap_actors::cluster::{Cluster, Desk, Links, NodeSupervisorMsg, Work, start_member, start_node};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::lane::Stages;
use speedtrap_actors::observe::{ActorTable, Mailbox};
use speedtrap_actors::ports::{NodeRow, StartAt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::adoption::{AdoptArgs, prepare};
use crate::api::{self, Api, ApplicationView, CacheCounts, DriverCache, EmbeddedMetrics, NodeView, Phase};
use crate::audit::Audit;
use crate::commands::load_for_node;
use crate::config::{DrainConfig, Flags, NodeConfig, RoleName};
use crate::exit::{Exit, Stop};
use crate::for_tests::ForTests;
use crate::ready::{self, ReadyFile};
use crate::signals::{Signal, Signals};
use crate::telemetry;
use crate::wiring::{self, ClusterParts};

/// Share of the drain timeout that lanes have to finish; the rest is for releasing leases.
const PATIENCE: f64 = 0.75;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  speedtrap run --config speedtrap.toml --name node-1
  speedtrap run --roles enrich,notify --start latest
  SPEEDTRAP_WAREHOUSE__URL=postgresql://... speedtrap run --ready-file node-1.json
  speedtrap run --config speedtrap.toml --name node-1 --adopt --rewind 2m

A lease table of the Kinesis Client Library (1.x, 2.x) is shared with its workers by the library's rules. Where all of them are
stopped for good, as a Spark job is, --adopt takes over what they left, at their exact checkpoints.

SIGTERM or Ctrl-C stops reading, finishes what has begun, writes checkpoints, hands leases to other nodes and exits with 0; after
drain.timeout with 6. A second Ctrl-C ends at once with 130: leases then expire after lease.expires_after.")]
pub(crate) struct RunArgs {
    /// TOML file to lay over the defaults; see `speedtrap config defaults`.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CONFIG")]
    config: Option<PathBuf>,
    /// Name of this node, unlike that of any other.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Kinds of lane to run.
    #[arg(long, value_delimiter = ',')]
    roles: Option<Vec<RoleName>>,
    /// Address of the API and its page; port 0 takes a free one. Anywhere but on loopback it needs TLS and tokens, see `speedtrap
    /// config defaults`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address that other nodes link to; anywhere but on loopback it needs TLS and a cookie, see `speedtrap config defaults`.
    #[arg(long, value_name = "ADDRESS")]
    cluster_listen: Option<SocketAddr>,
    /// Nodes to link to, whatever the node table says.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    join: Option<Vec<String>>,
    /// Where to start in a shard that has no lease yet: trim-horizon, latest, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "PLACE", default_value = "trim-horizon", value_parser = start_at)]
    start: StartAt,
    /// Takes over the leases that workers of a stopped KCL or Spark application left, each at its exact checkpoint.
    ///
    /// First the lease tables are watched for lease.expires_after (which should be no less than the application's failover time);
    /// exit code 5 if one of its workers still renews a lease. Nodes of Speedtrap may run meanwhile.
    #[arg(long)]
    adopt: bool,
    /// With --adopt: goes back to the last record that arrived so long ago, such as 2m, where the checkpoint is beyond it. Spark
    /// writes checkpoints ahead of what it has finished. Effects are the same when a record is processed again.
    #[arg(long, value_name = "DURATION", requires = "adopt", value_parser = duration)]
    rewind: Option<Duration>,
    /// File to write when every kind of lane runs: JSON with pid, `dashboard_url` and name. It is gone when the node stops.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    for_tests: ForTests,
    /// Logs JSON, one object a line, also on a terminal.
    #[arg(long)]
    json: bool,
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot start, dies, or cannot stop in time.
pub(crate) fn run(args: RunArgs) -> Result<Exit, Stop> {
    let roles = args.roles.as_deref().map(|roles| roles.iter().map(|role| role.label()).collect::<Vec<_>>());
    let flags = Flags::default()
        .with("node", "name", "--name", args.name.as_deref())
        .with("node", "roles", "--roles", roles)
        .with("dashboard", "listen", "--listen", args.listen.map(|listen| listen.to_string()))
        .with("cluster", "listen", "--cluster-listen", args.cluster_listen.map(|listen| listen.to_string()))
        .with("cluster", "join", "--join", args.join)
        .with("log", "format", "--json", args.json.then_some("json"));
    let config = load_for_node(args.config.as_deref(), flags)?;
    telemetry::start(&config.log);
    let adopt = AdoptArgs { adopt: args.adopt, rewind: args.rewind };
    let ready_file = ReadyFile::at(args.ready_file)?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
    let ended = runtime.block_on(live(&config, &args.start, adopt, args.for_tests, ready_file));
    // Calls that were given up must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

async fn live(
    config: &NodeConfig,
    start: &StartAt,
    adopt: AdoptArgs,
    for_tests: ForTests,
    ready_file: ReadyFile,
) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let dashboard = wiring::dashboard_parts(&config.dashboard)?;
    let listener = bind(config.dashboard.listen).await?;
    let address = listener.local_addr().map_err(|error| Stop::new(Exit::Failed, "cannot tell the API's address").why(error))?;
    let url = dashboard.url(&config.dashboard, address);
    let wired = tokio::select! {
        wired = wiring::wire(config, start) => wired?,
        // Nothing has begun yet, so there is nothing to finish.
        signal = signals.next() => return Ok(signal.before_start()),
    };
    let actors = ActorTable::default();
    let boot = wired.cluster.as_ref().map_or_else(wiring::now_ms, ClusterParts::boot);
    let me = row_of(config, boot, &url);
    let links = Links::none_yet();
    let pulse = wired.cluster.as_ref().map_or_else(Pulse::unwatched, ClusterParts::pulse);
    let mut view = view_of(&me.worker(), &wired, actors.clone(), pulse.clone());
    view.audit = Arc::new(audit_log(config)?);
    let view = Arc::new(view);
    let (gate, tls) = dashboard.gate(address, &url);
    let api = Api::new(Arc::clone(&view), links.view(), Arc::new(links.clone())).with_letters(Arc::clone(&wired.letters));
    let api = Arc::new(api.behind(gate));
    let serving = api::serve(listener, tls, api::router(Arc::clone(&api)));
    let _metrics = EmbeddedMetrics::start(&api, config.metrics.embedded_every);
    let mut watching = JoinSet::new();
    watching.spawn(async move { api.keep_watch().await });

    let worker = me.worker();
    let _for_tests = for_tests.begin(&actors, &config.node.name);
    tokio::select! {
        prepared = prepare(&wired.applications, &worker, adopt) => prepared?,
        // No lane has begun yet, so there is nothing to finish.
        signal = signals.next() => return Ok(signal.before_start()),
    }
    let nodes = wired.cluster.is_some().then(|| links.view());
    let superseded = Arc::new(Notify::new());
    let work = Work { applications: wired.applications, ingest: wired.ingest };
    let root = match wired.cluster {
        None => start_node(&worker, &actors, work, Cluster::alone()).await,
        Some(parts) => {
            let told = Arc::clone(&superseded);
            let settings = parts.settings(me, links, desk_of(&view), pulse, Arc::new(move || told.notify_one()));
            start_member(&actors, work, settings).await
        }
    }
    .map_err(|error| Stop::new(Exit::Failed, "the node's actors cannot be started").why(error))?;
    let _set_once = view.root.set(root.clone());
    tracing::info!(node = config.node.name, api = url, roles = ?config.node.roles, "node started");

    let getting_ready = async {
        ready::wait(&view, nodes).await;
        view.enter(Phase::Running);
        ready_file.write(&config.node.name, &url)
    };
    let asked = tokio::select! {
        asked = asked_to_end(&mut signals, &view) => asked,
        stop = lost(&root, &superseded, &config.node.name) => return Err(stop),
        written = getting_ready => {
            written?;
            tracing::info!(node = config.node.name, "node is ready");
            tokio::select! {
                asked = asked_to_end(&mut signals, &view) => asked,
                stop = lost(&root, &superseded, &config.node.name) => return Err(stop),
            }
        }
    };
    view.enter(Phase::Draining);
    tracing::info!(asked, "draining");
    let drained = drain(&root, &config.drain, &view);
    let ended = tokio::select! {
        drained = drained => drained,
        () = signals.second_interrupt() => return Ok(Exit::Interrupted),
    };
    serving.end().await;
    ended
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Stop> {
    TcpListener::bind(address).await.map_err(|error| {
        Stop::new(Exit::Failed, format!("cannot listen on {address}"))
            .why(error)
            .next("another node may run here; give this one its own address with --listen (port 0 takes a free one)")
    })
}

/// Without a log of what operators do, nobody could do anything, so that is found out at the start.
fn audit_log(config: &NodeConfig) -> Result<Audit, Stop> {
    let path = config.audit_file();
    Audit::open(&config.node.name, &path).map_err(|error| {
        Stop::new(Exit::BadConfig, format!("the audit log {} cannot be written", path.display()))
            .why(error)
            .next("name a file that this user may write with dashboard.audit_file")
    })
}

/// Waits until somebody wants the node to end, and says how that was told.
async fn asked_to_end(signals: &mut Signals, view: &NodeView) -> &'static str {
    tokio::select! {
        signal = signals.next() => match signal {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
        },
        () = view.drain_asked.notified() => "speedtrap drain",
    }
}

fn view_of(worker: &str, wired: &wiring::Wired, actors: ActorTable, pulse: Pulse) -> NodeView {
    let application = |application: &speedtrap_actors::cluster::Application| ApplicationView {
        name: application.name.clone(),
        role: application.stages.role().label(),
        stats: application.stats.clone(),
        board: application.board.clone(),
    };
    let drivers = wired.drivers.as_ref().map(|drivers| {
        let (counted, told) = (Arc::clone(drivers), Arc::clone(drivers));
        let counts = move || {
            let seen = counted.snapshot();
            CacheCounts { hits: seen.hits, misses: seen.misses, queries: seen.queries, entries: seen.entries }
        };
        let (waiting, timed) = (Arc::clone(drivers), Arc::clone(drivers));
        DriverCache {
            counts: Box::new(counts),
            connections: Box::new(move || waiting.connections()),
            query_times: Box::new(move || timed.query_times()),
            load_committed: Box::new(move || told.load_committed()),
        }
    });
    let mut view = NodeView::new(worker, wired.applications.iter().map(application).collect(), actors, drivers, pulse);
    view.ingest = wired.ingest.as_ref().map(|ingest| ingest.stats.clone());
    view.limit_mph = wired.applications.iter().find_map(|application| match &application.stages {
        Stages::Enrich(stages) => Some(stages.limit.mph()),
        _ => None,
    });
    view.calls = wired.calls.clone();
    view
}

/// This node as others see it in the node table.
fn row_of(config: &NodeConfig, boot: u64, url: &str) -> NodeRow {
    NodeRow {
        name: config.node.name.clone(),
        boot,
        address: None,
        dashboard: Some(url.to_owned()),
        roles: config.node.roles.iter().map(|role| role.label().to_owned()).collect(),
        heartbeat: 0,
        draining: false,
    }
}

fn desk_of(view: &Arc<NodeView>) -> Desk {
    let (page, loads, drain, order) = (Arc::clone(view), Arc::clone(view), Arc::clone(view), Arc::clone(view));
    Desk {
        page: Arc::new(move |name| page.page_for_others(name)),
        load_committed: Arc::new(move |load| loads.load_committed(load)),
        drain: Arc::new(move || drain.drain_asked.notify_one()),
        order: Arc::new(move |ordered| {
            let view = Arc::clone(&order);
            Box::pin(async move { view.order(ordered).await })
        }),
    }
}

/// Ends when the node cannot go on: its root actor ended, which it never should by itself, or its name is another's now.
async fn lost(root: &Mailbox<NodeSupervisorMsg>, superseded: &Notify, name: &str) -> Stop {
    let cell = root.cell();
    tokio::select! {
        () = superseded.notified() => Stop::new(Exit::Refused, format!("another node has started under the name `{name}`"))
            .why("the later one of two nodes with one name goes on, with the leases of both")
            .next("give every node a name of its own with --name"),
        // Without a limit there is no timeout to tell.
        _ended = cell.wait(None) => Stop::new(Exit::Failed, "the node's root actor ended")
            .next("see the log for its reason; leases expire by themselves"),
    }
}

async fn drain(root: &Mailbox<NodeSupervisorMsg>, drain: &DrainConfig, view: &NodeView) -> Result<Exit, Stop> {
    let (done, is_done) = oneshot();
    let patience = drain.timeout.mul_f64(PATIENCE);
    let gone = || Stop::new(Exit::Failed, "the node's root actor ended before its lanes were closed");
    root.cast(NodeSupervisorMsg::Drain { patience, done: done.into() }).map_err(|_| gone())?;
    match tokio::time::timeout(drain.timeout, is_done).await {
        Ok(Ok(true)) => {
            tracing::info!(events_in = view.events_in(), "drained");
            Ok(Exit::Ok)
        }
        Ok(Ok(false)) => Err(Stop::new(Exit::TimedOut, "not everything in the lanes ended in time").next(
            "what had not ended starts again from its checkpoint at the next start; raise drain.timeout to give it longer",
        )),
        Ok(Err(_)) => Err(gone()),
        Err(_) => Err(Stop::new(Exit::TimedOut, format!("the lanes were not closed within drain.timeout ({:?})", drain.timeout))
            .next("what was not finished starts again when the leases expire; nothing is lost")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().map_err(|error| format!("no duration such as 90s, 2m or 1h: {error}"))?;
    Duration::try_from(span).map_err(|_| "a duration is not negative".to_owned())
}

fn start_at(text: &str) -> Result<StartAt, String> {
    match text {
        "trim-horizon" => Ok(StartAt::TrimHorizon),
        "latest" => Ok(StartAt::Latest),
        time => time
            .parse::<jiff::Timestamp>()
            .map(|time| StartAt::Timestamp(time.into()))
            .map_err(|error| format!("neither trim-horizon, latest nor a time such as 2026-01-31T12:00:00Z: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert!(duration("120").is_err());
        assert!(duration("-2m").is_err());
    }

    #[test]
    fn a_start_is_a_word_or_a_time() {
        assert_eq!(start_at("latest"), Ok(StartAt::Latest));
        let time = UNIX_EPOCH + Duration::from_secs(1_769_860_800);
        assert_eq!(start_at("2026-01-31T12:00:00Z"), Ok(StartAt::Timestamp(time)));
        assert!(start_at("yesterday").is_err());
    }
}
