//! The API over a real loopback socket, as a client meets it.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde_json::Value;
use speedtrap_actors::cluster::{ClusterView, Links};
use speedtrap_actors::domain::{Outcome, OutcomeCounts, Position, SequenceNumber, ShardId};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::{ActorTable, Durations, LaneState, LaneStats, LeaseBoard, Mailbox, Spot};
use speedtrap_actors::ports::Connections;
use tokio::sync::{mpsc, watch};

use super::cluster::Reach;
use super::*;

struct Quiet;

impl Actor for Quiet {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

pub(super) struct Served {
    pub(super) view: Arc<NodeView>,
    pub(super) enrich: LaneStats,
    notify: LaneStats,
    pub(super) board: LeaseBoard,
    pub(super) loads: Arc<AtomicU64>,
    url: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    /// A header, empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub(super) async fn serve() -> Served {
    let links = Links::none_yet();
    serve_among(links.view(), Arc::new(links)).await
}

/// A node alone, that lets in whom its gate lets in.
pub(super) async fn serve_behind(gate: Gate) -> Served {
    let links = Links::none_yet();
    serve_with(links.view(), Arc::new(links), gate).await
}

/// A node `node-1#1` among others.
pub(super) async fn serve_among(nodes: watch::Receiver<Arc<ClusterView>>, reach: Arc<dyn Reach>) -> Served {
    serve_with(nodes, reach, Gate::of_this_machine()).await
}

async fn serve_with(nodes: watch::Receiver<Arc<ClusterView>>, reach: Arc<dyn Reach>, gate: Gate) -> Served {
    let (enrich, notify, loads) = (LaneStats::default(), LaneStats::default(), Arc::new(AtomicU64::new(0)));
    let board = LeaseBoard::default();
    let application = |name: &str, role, stats: &LaneStats, board: LeaseBoard| ApplicationView {
        name: name.into(),
        role,
        stats: stats.clone(),
        board,
    };
    let counted = Arc::clone(&loads);
    let drivers = DriverCache {
        counts: Box::new(|| CacheCounts { hits: 5, misses: 2, queries: 1, entries: 2 }),
        connections: Box::new(|| Some(Connections { most: 8, open: 4, in_use: 2, waiting: 3 })),
        query_times: Box::new(|| Durations::default().snapshot()),
        load_committed: Box::new(move || {
            counted.fetch_add(1, Relaxed);
        }),
    };
    let applications = vec![
        application("IotFastCarSensor", "enrich", &enrich, board.clone()),
        application("rtr-iot-notify", "notify", &notify, LeaseBoard::default()),
    ];
    let pulse = Pulse::unwatched();
    let view = Arc::new(NodeView::new("node-1#1", applications, ActorTable::default(), Some(drivers), pulse));
    let api = Api::new(Arc::clone(&view), nodes, reach).behind(gate);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // The server ends with the test's runtime.
    drop(tokio::spawn(axum::serve(listener, router(Arc::new(api))).into_future()));
    Served { view, enrich, notify, board, loads, url }
}

impl Served {
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let request = headers
            .iter()
            .fold(ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url)), |request, (name, value)| {
                request.header(*name, *value)
            })
            .body(body.to_owned())
            .expect("a request");
        let ask = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
            let mut answer = agent.run(request).expect("an answer");
            // A stream has no end that could be waited for.
            let is_endless = answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
            let text = if is_endless { String::new() } else { answer.body_mut().read_to_string().expect("text") };
            Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text }
        };
        tokio::task::spawn_blocking(ask).await.expect("no panic")
    }

    /// The lines of a stream, as long as it lasts.
    pub(super) fn stream(&self, headers: &[(&str, &str)]) -> mpsc::Receiver<String> {
        let request = ureq::http::Request::get(format!("{}/api/v1/stream", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).expect("a request");
        let (lines, heard) = mpsc::channel(64);
        std::thread::spawn(move || {
            let answer = ureq::Agent::from(ureq::Agent::config_builder().proxy(None).build()).run(request).expect("a stream");
            let mut read = BufReader::new(answer.into_body().into_reader()).lines();
            while read.next().is_some_and(|line| line.is_ok_and(|line| lines.blocking_send(line).is_ok())) {}
        });
        heard
    }

    pub(super) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// An actor that does nothing.
    pub(super) async fn spawn(&self, spot: &Spot) -> Mailbox<()> {
        self.view.actors.spawn(spot, None, Quiet, |_| ()).await.expect("spawned")
    }

    /// Ends events, and settles them by a checkpoint.
    fn end(&self, stats: &LaneStats, outcomes: &[(Outcome, usize)]) {
        let mut counts = OutcomeCounts::default();
        for (outcome, n) in outcomes {
            (0..*n).for_each(|_| counts.add(*outcome));
        }
        stats.ended(&shard(), counts.total());
        stats.settled(&shard(), &counts);
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }
}

fn shard() -> ShardId {
    ShardId::new("shardId-000000000000")
}

#[tokio::test]
async fn is_ready_only_while_it_runs() {
    let served = serve().await;
    assert_eq!((served.get("/healthz").await.status, served.get("/readyz").await.status), (200, 503));
    served.view.enter(Phase::Running);
    assert_eq!(served.get("/readyz").await.status, 200);
    served.view.enter(Phase::Draining);
    let answer = served.get("/readyz").await;
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"));
    assert_eq!(answer.json()["detail"], "the node is draining");
}

#[tokio::test]
async fn status_sums_lanes_and_leaves_the_unknown_null() {
    let served = serve().await;
    served.view.enter(Phase::Running);
    served.enrich.started(&shard(), 1);
    served.enrich.admitted(&shard(), 10);
    served.end(&served.enrich, &[(Outcome::UnderLimit, 4), (Outcome::Published, 5)]);
    served.notify.started(&shard(), 2);
    served.notify.admitted(&shard(), 5);
    served.end(&served.notify, &[(Outcome::Notified, 4), (Outcome::Duplicate, 1)]);
    served.notify.possible_repeat(&shard());
    let page = served.get("/api/v1/status").await.json();
    assert_eq!((&page["schema"], &page["state"], &page["events_in"]), (&1.into(), &"running".into(), &9.into()));
    assert_eq!((&page["outcomes"]["published"], &page["outcomes"]["rejected"]), (&5.into(), &0.into()));
    assert_eq!(page["outcomes_by_role"]["notify"]["notified"], 4);
    assert_eq!((&page["possible_repeats"], &page["cache"]["hits"]), (&1.into(), &5.into()));
    let lane = &page["lanes"][0];
    assert_eq!((&lane["in_lane"], &lane["application"]), (&1.into(), &"IotFastCarSensor".into()));
    for unknown in ["checkpoint", "checkpoint_age_ms", "millis_behind", "last_fault"] {
        assert_eq!(lane[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(page["idle"], false);
}

#[tokio::test]
async fn idle_means_nothing_in_a_lane_and_nothing_behind() {
    let served = serve().await;
    let idle = async || served.get("/api/v1/status").await.json()["idle"].clone();
    served.enrich.started(&shard(), 1);
    assert_eq!(idle().await, false, "it is starting");
    served.view.enter(Phase::Running);
    assert_eq!(idle().await, true, "no lag is known");
    served.enrich.lag(&shard(), Some(700));
    assert_eq!(idle().await, false, "it is behind");
    served.enrich.lag(&shard(), Some(0));
    assert_eq!(idle().await, true);
    served.enrich.entered(&shard(), LaneState::Backoff, Some("gone"));
    assert_eq!(idle().await, false, "a lane waits for its restart");
}

#[tokio::test]
async fn actors_are_listed_with_their_restarts() {
    let served = serve().await;
    let root = Spot::root("NodeSupervisor", "node-1");
    let spot = root.child("SpeedFilter", "speed_filter");
    let mailbox = served.view.actors.spawn(&spot, None, Quiet, |_| ()).await.expect("spawned");
    mailbox.cast(()).expect("alive");
    served.view.actors.failed(&spot.path, "it <b>broke</b>");
    let page = served.get("/api/v1/actors").await.json();
    let row = &page["rows"][0];
    assert_eq!((&page["total"], &row["name"], &row["parent"]), (&1.into(), &"node-1/speed_filter".into(), &"node-1".into()));
    assert_eq!((&row["state"], &row["restarts"], &row["received"]), (&"backoff".into(), &1.into(), &1.into()));
    assert!(row["p95_us"].is_null() || row["p95_us"].is_u64(), "unknown or known, as the message was handled or not: {row}");
    assert_eq!((&row["last"]["reason"], &row["id"]), (&"it <b>broke</b>".into(), &Value::Null));
    assert_eq!(page["restarts"][0]["actor"], "node-1/speed_filter");
    assert!(page["restarts"][0]["at"].as_str().is_some_and(|at| at.ends_with('Z')));
}

#[tokio::test]
async fn metrics_agree_with_the_pages() {
    let served = serve().await;
    let mailbox = served.view.actors.spawn(&Spot::root("SpeedFilter", "f"), None, Quiet, |_| ()).await.expect("spawned");
    served.view.actors.failed("f", "broke");
    served.enrich.admitted(&shard(), 3);
    served.end(&served.enrich, &[(Outcome::Published, 2)]);
    served.enrich.checkpointed(&shard(), &Position { sequence: SequenceNumber::parse("7").expect("a number"), sub: 0 });
    let before = served.get("/metrics").await.text;
    assert!(!before.contains("speedtrap_shard_lag_seconds{"), "an unknown lag is missing, not 0:\n{before}");
    served.enrich.lag(&shard(), Some(1_500));
    let text = served.get("/metrics").await.text;
    for line in [
        "speedtrap_actors{kind=\"SpeedFilter\"} 1",
        "speedtrap_actor_mailbox_messages{kind=\"SpeedFilter\"} 0",
        "speedtrap_actor_mailbox_messages_max{kind=\"SpeedFilter\"} 0",
        "speedtrap_actor_restarts_total{kind=\"SpeedFilter\",reason_class=\"fault\"} 1",
        "speedtrap_events_total{stage=\"enrich\",outcome=\"published\"} 2",
        "speedtrap_shard_lag_seconds{stage=\"enrich\",shard=\"shardId-000000000000\"} 1.5",
        "speedtrap_shard_lag_seconds_max{stage=\"enrich\"} 1.5",
        "speedtrap_checkpoint_age_seconds{stage=\"enrich\",shard=\"shardId-000000000000\"} ",
        "speedtrap_cache_requests_total{result=\"hit\"} 5",
        "speedtrap_possible_repeats_total 0",
        "speedtrap_redshift_seconds_bucket{le=\"+Inf\"} 0",
        "speedtrap_pool_waiting 3",
        "speedtrap_lanes{stage=\"notify\",state=\"running\"} 0",
        "speedtrap_dead_letters_total{stage=\"enrich\"} 0",
        "speedtrap_build_info{node=\"node-1\",version=\"",
        "speedtrap_dashboard_seconds_total 0.",
        "process_resident_memory_bytes ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} is missing in\n{text}");
    }
    drop(mailbox);
}

#[tokio::test]
async fn a_committed_load_renews_the_cache() {
    let served = serve().await;
    let json = [("content-type", "application/json; charset=utf-8")];
    let answer = served.ask("POST", "/api/v1/loads", &json, r#"{"load_id":"l1","rows":1000}"#).await;
    assert_eq!((answer.status, served.loads.load(Relaxed)), (202, 1));
    assert_eq!((&answer.json()["load_id"], &answer.json()["cache_renewed"]), (&"l1".into(), &true.into()));
    assert_eq!((&answer.json()["nodes_told"], &answer.json()["failed"]), (&1.into(), &serde_json::json!([])));
    let again = r#"{"load_id":"l1","file":"drivers.csv","rows":1000,"merged":990,"rejected":10,"state":"committed"}"#;
    served.ask("POST", "/api/v1/loads", &json, again).await;
    let page = served.get("/api/v1/loads").await.json();
    assert_eq!(page["loads"].as_array().map(Vec::len), Some(1), "the same load is shown once: {page}");
    let run = &page["loads"][0];
    assert_eq!((&run["file"], &run["merged"], &run["duplicates"]), (&"drivers.csv".into(), &990.into(), &Value::Null));
    assert_eq!(run["node"], "node-1");
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let served = serve().await;
    let json = ("content-type", "application/json");
    let long = format!(r#"{{"load_id":"l","x":"{}"}}"#, "x".repeat(20_000));
    for (method, path, headers, body, status, code) in [
        ("GET", "/nothing", vec![], "", 404, "not_found"),
        ("GET", "/ui/../mod.rs", vec![], "", 404, "not_found"),
        ("DELETE", "/api/v1/status", vec![], "", 405, "method_not_allowed"),
        ("GET", "/api/v1/status", vec![("host", "evil.example")], "", 403, "host_not_allowed"),
        ("GET", "/api/v1/status?scope=galaxy", vec![], "", 400, "bad_query"),
        ("POST", "/api/v1/nodes/node-1/drain", vec![("content-type", "text/plain")], "{}", 415, "not_json"),
        ("POST", "/api/v1/nodes/node-9/drain", vec![json], "{}", 404, "unknown_node"),
        ("POST", "/api/v1/loads", vec![("content-type", "text/plain")], r#"{"load_id":"l"}"#, 415, "not_json"),
        ("POST", "/api/v1/loads", vec![json], "{}", 400, "bad_load"),
        ("POST", "/api/v1/loads", vec![json], r#"{"load_id":""}"#, 400, "bad_load"),
        ("POST", "/api/v1/loads", vec![json], "[", 400, "bad_load"),
        ("POST", "/api/v1/loads", vec![json], long.as_str(), 413, "body_unreadable"),
    ] {
        let answer = served.ask(method, path, &headers, body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{method} {path} {body:.40}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
    }
    assert_eq!(served.loads.load(Relaxed), 0);
    tokio::time::timeout(Duration::from_secs(1), served.get("/healthz")).await.expect("it still answers");
}

#[tokio::test]
async fn the_dashboard_is_part_of_the_program_and_runs_nothing_of_others() {
    let served = serve().await;
    let page = served.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let asked_for = page.text().split('"').filter(|part| part.starts_with("/ui/")).map(str::to_owned).collect::<Vec<_>>();
    assert!(asked_for.len() >= 3, "{asked_for:?}");
    for path in asked_for {
        let file = served.get(&path).await;
        assert_eq!(file.status, 200, "{path}");
        let policy = file.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path}: {policy}");
        assert!(policy.ends_with("require-trusted-types-for 'script'"), "{path}: {policy}");
        let again = served.ask("GET", &path, &[("if-none-match", file.header("etag"))], "").await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
    }
}
