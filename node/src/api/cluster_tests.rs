//! What the API answers about other nodes, which are played here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::{Value, json};
use speedtrap_actors::cluster::{ClusterNode, ClusterView, NodeOrder, OrderAnswer, Presence};
use speedtrap_actors::domain::{ShardId, SpeedMph};
use speedtrap_actors::flow::Pulse;
use speedtrap_actors::observe::{ActorTable, LaneState, LaneStats, LeaseBoard, LeaseState, SeenLease, Spot, TrafficMark};
use speedtrap_actors::ports::PeerFailure;
use speedtrap_actors::wire::read_reading;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cluster::Reach;
use super::load_news::LoadNews;
use super::tests::{Served, serve_among};
use super::*;

/// Nodes that answer as they are told to.
#[derive(Default)]
struct Others {
    nodes: BTreeMap<String, Arc<NodeView>>,
    silent: Mutex<BTreeSet<String>>,
    told: Mutex<Vec<String>>,
}

impl Others {
    fn check(&self, worker: &str) -> Result<&NodeView, PeerFailure> {
        let failed = |reason: &str| PeerFailure { worker: worker.to_owned(), reason: reason.to_owned() };
        if self.silent.lock().expect("whole").contains(worker) {
            return Err(failed("it sleeps"));
        }
        self.nodes.get(worker).map(AsRef::as_ref).ok_or_else(|| failed("no such node"))
    }

    fn note(&self, what: String) {
        self.told.lock().expect("whole").push(what);
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().expect("whole"))
    }

    fn be_silent(&self, workers: &[&str]) {
        *self.silent.lock().expect("whole") = workers.iter().map(|worker| (*worker).to_owned()).collect();
    }
}

#[async_trait]
impl Reach for Others {
    async fn page(&self, worker: &str, page: &str) -> Result<Vec<u8>, PeerFailure> {
        Ok(self.check(worker)?.page(page).expect("a page"))
    }

    async fn load_committed(&self, worker: &str, load_id: &str) -> Result<(), PeerFailure> {
        self.check(worker).map(|_| self.note(format!("{load_id} to {worker}")))
    }

    async fn drain(&self, worker: &str) -> Result<(), PeerFailure> {
        self.check(worker).map(|_| self.note(format!("drain {worker}")))
    }

    async fn order(&self, worker: &str, order: NodeOrder) -> Result<OrderAnswer, PeerFailure> {
        self.check(worker).map(|_| self.note(format!("{order:?} to {worker}")))?;
        Ok(OrderAnswer::Begun)
    }
}

fn node(worker: &str, presence: Presence) -> ClusterNode {
    ClusterNode {
        name: worker.split('#').next().expect("a name").to_owned(),
        worker: worker.to_owned(),
        address: Some("127.0.0.1:7301".to_owned()),
        dashboard: Some("http://127.0.0.1:7300".to_owned()),
        roles: vec!["enrich".to_owned()],
        draining: false,
        presence,
        round_trip: (presence == Presence::Linked).then(|| Duration::from_micros(1_500)),
        misses: 0,
    }
}

fn lease(shard: &str, owner: Option<&str>, state: LeaseState, parents: &[&str]) -> SeenLease {
    SeenLease {
        shard: ShardId::new(shard),
        owner: owner.map(str::to_owned),
        counter: 4,
        checkpoint: "TRIM_HORIZON".to_owned(),
        parents: parents.iter().map(|parent| ShardId::new(parent)).collect(),
        children: Vec::new(),
        hash_range: None,
        state,
        counts_for: None,
    }
}

/// `node-1#1`, which is asked, and `node-2#1` with one lane; a third stands in the view only.
struct Scene {
    served: Served,
    others: Arc<Others>,
    lanes: LaneStats,
    second: Arc<NodeView>,
    view: watch::Sender<Arc<ClusterView>>,
}

async fn scene(third: ClusterNode) -> Scene {
    let lanes = LaneStats::default();
    let application =
        ApplicationView { name: "IotFastCarSensor".into(), role: "enrich", stats: lanes.clone(), board: LeaseBoard::default() };
    let second = NodeView::new("node-2#1", vec![application], ActorTable::default(), None, Pulse::unwatched());
    second.enter(Phase::Running);
    let second = Arc::new(second);
    let others = Arc::new(Others { nodes: [("node-2#1".to_owned(), Arc::clone(&second))].into(), ..Others::default() });
    let nodes = vec![node("node-1#1", Presence::Here), node("node-2#1", Presence::Linked), third];
    let (view, seen) = watch::channel(Arc::new(ClusterView { nodes }));
    let served = serve_among(seen, Arc::clone(&others) as Arc<dyn Reach>).await;
    served.view.enter(Phase::Running);
    Scene { served, others, lanes, second, view }
}

fn shard_of<'a>(page: &'a Value, shard: &str) -> &'a Value {
    page["shards"].as_array().expect("shards").iter().find(|row| row["shard"] == shard).expect("the shard")
}

#[tokio::test]
async fn nodes_are_listed_with_the_leases_they_hold_and_null_where_nobody_looked() {
    let scene = scene(node("node-3#1", Presence::Unlinked)).await;
    let page = scene.served.get("/api/v1/nodes").await.json();
    assert_eq!((&page["schema"], &page["served_by"]), (&1.into(), &"node-1".into()));
    assert_eq!(page["nodes"][0]["leases"], json!({ "enrich": null }), "nobody has looked yet");
    scene.served.board.put_up(
        vec![
            lease("a", Some("node-1#1"), LeaseState::Held, &[]),
            lease("b", Some("node-2#1"), LeaseState::Held, &[]),
            lease("c", Some("node-2#1"), LeaseState::Ended, &[]),
        ],
        true,
    );
    let page = scene.served.get("/api/v1/nodes").await.json();
    let found =
        |i: usize| (&page["nodes"][i]["presence"], &page["nodes"][i]["leases"]["enrich"], &page["nodes"][i]["round_trip_ms"]);
    assert_eq!(found(0), (&"here".into(), &1.into(), &Value::Null));
    assert_eq!(found(1), (&"linked".into(), &1.into(), &1.5.into()));
    assert_eq!(found(2), (&"unlinked".into(), &0.into(), &Value::Null));
    let metrics = scene.served.get("/metrics").await;
    for line in [
        "speedtrap_cluster_nodes{presence=\"linked\"} 1",
        "speedtrap_cluster_nodes{presence=\"dead\"} 0",
        "speedtrap_leases{stage=\"enrich\",state=\"held\"} 1",
        "speedtrap_leases{stage=\"enrich\",state=\"ended\"} 1",
        "speedtrap_peer_round_trip_seconds_max 0.0015",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} is missing in\n{}", metrics.text());
    }
}

#[tokio::test]
async fn each_shard_says_where_it_runs_and_why_it_does_not_move() {
    let scene = scene(node("node-3#1", Presence::Dead)).await;
    scene.served.board.put_up(
        vec![
            lease("runs", Some("node-2#1"), LeaseState::Held, &[]),
            lease("fails", Some("node-2#1"), LeaseState::Held, &[]),
            lease("new", Some("node-1#1"), LeaseState::Held, &[]),
            lease("dead", Some("node-3#1"), LeaseState::Held, &[]),
            lease("foreign", Some("kcl-7"), LeaseState::Held, &[]),
            lease("free", None, LeaseState::Free, &[]),
            lease("done", None, LeaseState::Ended, &[]),
            lease("child", None, LeaseState::WaitsForParent, &["done", "runs"]),
        ],
        false,
    );
    scene.lanes.started(&ShardId::new("runs"), 1);
    scene.lanes.lag(&ShardId::new("runs"), Some(40));
    scene.lanes.entered(&ShardId::new("fails"), LaneState::Backoff, Some("the warehouse is gone"));
    let page = scene.served.get("/api/v1/shards").await.json();
    let runs = shard_of(&page, "runs");
    assert_eq!((&runs["node"], &runs["worker"], &runs["why"]), (&"node-2".into(), &"node-2#1".into(), &Value::Null));
    assert_eq!((&runs["lane"]["state"], &runs["lane"]["lag_ms"]), (&"running".into(), &40.into()));
    assert_eq!(runs["lane"]["checkpoint_age_ms"], Value::Null, "unknown, not 0");
    for (shard, why) in [
        ("fails", json!("it backs off after: the warehouse is gone")),
        ("new", json!("its lane on node-1 has not started yet")),
        ("dead", json!("its node node-3 is dead; it is taken over at the next look")),
        ("foreign", json!("its owner `kcl-7` is no node of this cluster; it is taken over once it expires")),
        ("free", json!("nobody took it yet")),
        ("done", Value::Null),
        ("child", json!("it waits for its parents runs")),
    ] {
        assert_eq!(shard_of(&page, shard)["why"], why, "{shard}");
    }
    assert_eq!(shard_of(&page, "foreign")["node"], Value::Null);

    scene.others.be_silent(&["node-2#1"]);
    let page = scene.served.get("/api/v1/shards").await.json();
    let runs = shard_of(&page, "runs");
    assert_eq!((&runs["lane"], &runs["why"]), (&Value::Null, &"not known: its node node-2 does not answer: it sleeps".into()));
    let silent: Vec<_> =
        page["silent"].as_array().expect("nodes").iter().map(|node| (&node["node"], &node["presence"])).collect();
    assert_eq!(silent, [(&json!("node-2"), &json!("linked")), (&json!("node-3"), &json!("dead"))]);
}

#[tokio::test]
async fn a_shard_tells_its_keys_its_family_and_how_its_reads_fare() {
    let scene = scene(node("node-3#1", Presence::Dead)).await;
    let range = |first: &str| Some((first.to_owned(), "99".to_owned()));
    let parent = SeenLease { children: vec![ShardId::new("a")], ..lease("p", None, LeaseState::Ended, &[]) };
    let child = SeenLease { hash_range: range("7"), ..lease("a", Some("node-2#1"), LeaseState::Held, &["p"]) };
    scene.served.board.put_up(vec![parent, child], true);
    let shard = ShardId::new("a");
    scene.lanes.started(&shard, 1);
    let page = scene.served.get("/api/v1/shards").await.json();
    let (lane, told) = (&shard_of(&page, "a")["lane"], ["iterator_age_ms", "throttles", "records_per_s", "lease_left_ms"]);
    assert!(told.iter().all(|member| lane[member].is_null()), "unknown, not 0: {lane}");
    assert_eq!((&shard_of(&page, "p")["children"], &shard_of(&page, "p")["hash_range"]), (&json!(["a"]), &Value::Null));

    scene.lanes.read_to(&shard, SystemTime::now() - Duration::from_secs(5));
    scene.lanes.throttles(&shard, Some(2));
    scene.lanes.lease_lasts(&shard, Instant::now() + Duration::from_secs(8));
    let page = scene.served.get("/api/v1/shards").await.json();
    let row = shard_of(&page, "a");
    assert_eq!((&row["hash_range"], &row["parents"]), (&json!({"first": "7", "last": "99"}), &json!(["p"])));
    let within = |value: &Value, from, to| value.as_u64().is_some_and(|ms| (from..=to).contains(&ms));
    assert!(within(&row["lane"]["iterator_age_ms"], 5_000, 20_000) && within(&row["lease_left_ms"], 1, 8_000), "{row}");
    assert_eq!(row["lane"]["throttles"], 2);
    scene.lanes.entered(&shard, LaneState::Closed, None);
    let page = scene.served.get("/api/v1/shards").await.json();
    assert_eq!(shard_of(&page, "a")["lease_left_ms"], Value::Null, "a lane that closed holds nothing");
}

#[tokio::test]
async fn ten_thousand_actors_of_another_node_come_in_parts_that_a_link_carries() {
    const N: usize = 10_000;
    let scene = scene(node("node-3#1", Presence::Dead)).await;
    let _meters = scene.second.actors.add_synthetic(&Spot::root("NodeSupervisor", "node-2"), N);
    let all = async || {
        let page = scene.served.get("/api/v1/actors?scope=cluster").await.json();
        let rows = page["rows"].as_array().expect("rows").iter();
        let names: BTreeSet<String> = rows.filter_map(|row| row["name"].as_str()).map(str::to_owned).collect();
        assert_eq!((names.len(), page["total"].as_u64()), (N, Some(N as u64)));
    };
    all().await;
    let (mut page, mut longest) = ("actors".to_owned(), 0);
    loop {
        let part = scene.second.page(&page).expect("a part");
        longest = longest.max(part.len());
        let part: Value = serde_json::from_slice(&part).expect("JSON");
        let Some(next) = part["next"].as_str() else { break };
        page = format!("actors/{next}");
    }
    assert!(longest <= 1 << 20, "{longest} bytes are too many for a link");
    scene.others.be_silent(&["node-2#1"]);
    // A node that is silent is shown with all that it said last.
    all().await;
}

#[tokio::test]
async fn a_silent_node_stays_in_the_status_with_what_it_said_last() {
    let scene = scene(node("node-2#0", Presence::Dead)).await;
    scene.served.board.put_up(vec![lease("a", Some("node-2#1"), LeaseState::Held, &[])], true);
    scene.lanes.started(&ShardId::new("a"), 1);
    let status = async || scene.served.get("/api/v1/status?scope=cluster").await.json();
    let page = status().await;
    assert_eq!((&page["problems"], &page["healthy"]), (&json!([]), &true.into()), "a replaced boot is missed by nobody");
    assert_eq!(page["nodes"][1]["status"]["lanes"][0]["shard"], "a");

    scene.others.be_silent(&["node-2#1"]);
    let page = status().await;
    assert_eq!((&page["problems"], &page["healthy"]), (&json!(["node-2 does not answer: it sleeps"]), &false.into()));
    assert_eq!((&page["counts_are_whole"], &page["idle"]), (&false.into(), &false.into()));
    let node = &page["nodes"][1];
    assert_eq!((&node["silent"], &node["status"]["node"]), (&"it sleeps".into(), &"node-2".into()));
    assert!(node["age_ms"].is_u64(), "{node}");
    let actors = scene.served.get("/api/v1/actors?scope=cluster").await.json();
    assert_eq!((&actors["total"], &actors["silent"][0]["last_heard_ms"]), (&0.into(), &Value::Null), "none was ever heard");

    scene.others.be_silent(&[]);
    scene.lanes.entered(&ShardId::new("a"), LaneState::Backoff, Some("gone"));
    let texts = json!(["node-2 does not answer: it sleeps", "enrich a on node-2 backs off after: gone"]);
    assert_eq!(status().await["problems"], texts, "what has just gone stays in sight");
    tokio::time::timeout(Duration::from_secs(20), async {
        while status().await["problems"] != json!(["enrich a on node-2 backs off after: gone"]) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it goes by itself");
}

#[tokio::test]
async fn actors_of_a_boot_go_when_a_later_one_takes_its_place() {
    let scene = scene(node("node-3#1", Presence::Linked)).await;
    let _rows = scene.second.actors.add_synthetic(&Spot::root("NodeSupervisor", "node-2"), 3);
    let total = async || scene.served.get("/api/v1/actors?scope=cluster").await.json()["total"].clone();
    assert_eq!(total().await, 3);
    let nodes = |second: Vec<ClusterNode>| {
        let nodes = [vec![node("node-1#1", Presence::Here)], second].concat();
        scene.view.send_replace(Arc::new(ClusterView { nodes }));
    };
    nodes(vec![node("node-2#1", Presence::Dead)]);
    assert_eq!(total().await, 3, "what a dead node said last stays in sight");
    nodes(vec![node("node-2#1", Presence::Dead), node("node-2#2", Presence::Linked)]);
    assert_eq!(total().await, 0);
}

#[tokio::test]
async fn the_overview_has_the_key_figures_and_says_what_is_wrong_where_and_what_to_do() {
    let scene = scene(node("node-2#0", Presence::Dead)).await;
    let shard = ShardId::new("a");
    scene.served.board.put_up(vec![lease("a", Some("node-2#1"), LeaseState::Held, &[])], true);
    scene.lanes.started(&shard, 1);
    let page = scene.served.get("/api/v1/overview").await.json();
    assert_eq!((&page["findings"], &page["notes"], &page["cluster"]), (&json!([]), &json!([]), &"IotFastCarSensor".into()));
    let kpis = &page["kpis"];
    assert_eq!((&kpis["nodes_up"], &kpis["nodes_total"], &kpis["cache_hit_ratio"]), (&2.into(), &2.into(), &json!(5.0 / 7.0)));
    for unknown in ["events_per_s", "lag_max_ms", "dead_letters_open"] {
        assert_eq!(kpis[unknown], Value::Null, "{unknown}");
    }
    scene.lanes.lag(&shard, Some(40));
    scene.lanes.letter(&shard, "abc".to_owned(), "speed is no number".to_owned());
    scene.second.calls.of("driver_lookup").begin("query", "warehouse").failed(&"query failed (unreachable)");
    let page = scene.served.get("/api/v1/overview").await.json();
    let letters = &page["findings"][0];
    assert_eq!((&page["findings"].as_array().map(Vec::len), &letters["rule"]), (&Some(1), &"dead-letters-new".into()));
    assert_eq!((&letters["severity"], &letters["node"], &letters["target"]), (&"warning".into(), &Value::Null, &"enrich".into()));
    assert_eq!(letters["text"], "a new dead letter of enrich (a): speed is no number");
    assert_eq!(letters["link"], "#/dead-letters?stage=enrich");
    assert!(letters["since"].as_str().is_some_and(|since| since.ends_with('Z')) && letters["next"].is_string(), "{letters}");
    assert_eq!(page["kpis"]["lag_max_ms"], 40);

    tokio::time::sleep(Duration::from_millis(1_050)).await;
    scene.second.calls.of("driver_lookup").begin("query", "warehouse").failed(&"query failed (unreachable)");
    let page = scene.served.get("/api/v1/overview").await.json();
    let warehouse = &page["findings"][0];
    assert_eq!(
        (&warehouse["rule"], &warehouse["severity"]),
        (&"warehouse-failing".into(), &"critical".into()),
        "the gravest first"
    );
    assert_eq!((&warehouse["node"], &warehouse["target"]), (&"node-2".into(), &"driver_lookup: query".into()));
    assert!(warehouse["text"].as_str().is_some_and(|text| text.ends_with("query failed (unreachable)")), "{warehouse}");
    let status = scene.served.get("/api/v1/status?scope=cluster").await.json();
    assert_eq!((&status["healthy"], &status["findings"][0]["id"]), (&false.into(), &warehouse["id"]));
    assert_eq!(status["problems"][0], warehouse["text"]);
}

#[tokio::test]
async fn two_nodes_that_work_on_one_shard_are_told_of() {
    let scene = scene(node("node-2#0", Presence::Dead)).await;
    let shard = ShardId::new("a");
    scene.served.board.put_up(vec![lease("a", Some("node-2#1"), LeaseState::Held, &[])], true);
    scene.lanes.started(&shard, 1);
    scene.served.enrich.started(&shard, 1);
    let findings = async || scene.served.get("/api/v1/overview").await.json()["findings"].clone();
    assert_eq!(findings().await, json!([]), "a lease that moves may be seen twice for a moment");
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let found = findings().await;
    assert_eq!((&found[0]["rule"], &found[0]["severity"]), (&"shard-claimed-twice".into(), &"critical".into()));
    assert_eq!(
        (&found[0]["target"], &found[0]["text"]),
        (&"enrich/a".into(), &"enrich a is worked on by node-1 and node-2 at once".into())
    );
    let metrics = scene.served.get("/metrics").await;
    let line = "speedtrap_findings{severity=\"critical\",rule=\"shard-claimed-twice\"} 1";
    assert!(metrics.text().lines().any(|found| found == line), "{}", metrics.text());
}

#[tokio::test]
async fn a_node_that_left_on_purpose_is_shown_and_missed_by_nobody() {
    let scene = scene(ClusterNode { draining: true, ..node("node-3#1", Presence::Dead) }).await;
    scene.served.board.put_up(vec![lease("a", Some("node-2#1"), LeaseState::Held, &[])], true);
    scene.lanes.started(&ShardId::new("a"), 1);
    let page = scene.served.get("/api/v1/status?scope=cluster").await.json();
    assert_eq!((&page["problems"], &page["healthy"], &page["counts_are_whole"]), (&json!([]), &true.into(), &true.into()));
    assert_eq!(scene.served.get("/api/v1/nodes").await.json()["nodes"][2]["presence"], "left");
    let metrics = scene.served.get("/metrics").await;
    assert!(metrics.text().lines().any(|line| line == "speedtrap_cluster_nodes{presence=\"left\"} 1"), "{}", metrics.text());
    let drain = scene.served.ask("POST", "/api/v1/nodes/node-3/drain", &[("content-type", "application/json")], "{}").await;
    assert_eq!(drain.status, 404);
}

#[tokio::test]
async fn any_node_drains_from_any_node_once() {
    let scene = scene(node("node-3#1", Presence::Suspect)).await;
    let json = [("content-type", "application/json")];
    let drain = async |name: &str| scene.served.ask("POST", &format!("/api/v1/nodes/{name}/drain"), &json, "{}").await;
    let answer = drain("node-2").await;
    assert_eq!((answer.status, &answer.json()["worker"]), (202, &"node-2#1".into()));
    assert_eq!(scene.others.told(), ["drain node-2#1"]);
    let unreachable = drain("node-3").await;
    assert_eq!((unreachable.status, &unreachable.json()["code"]), (503, &"node_unreachable".into()));

    assert_eq!(drain("node-1").await.status, 202);
    tokio::time::timeout(Duration::from_secs(1), scene.served.view.drain_asked.notified()).await.expect("the program is told");
    scene.served.view.enter(Phase::Draining);
    scene.view.send_modify(|view| Arc::make_mut(view).nodes[1].draining = true);
    for name in ["node-1", "node-2"] {
        let again = drain(name).await;
        assert_eq!((again.status, &again.json()["code"]), (409, &"drains_already".into()), "{name}");
    }
    assert!(scene.others.told().is_empty());
}

#[tokio::test]
async fn a_load_is_told_to_all_nodes_and_the_answer_names_who_has_not_heard() {
    let scene = scene(node("node-3#1", Presence::Unlinked)).await;
    let json = [("content-type", "application/json")];
    let answer = scene.served.ask("POST", "/api/v1/loads", &json, r#"{"load_id":"l1"}"#).await;
    assert_eq!((answer.status, scene.served.loads.load(Relaxed)), (202, 1));
    assert_eq!(answer.json()["nodes_told"], 2);
    assert_eq!(answer.json()["failed"], json!([{ "node": "node-3", "why": "it is unlinked" }]));
    assert_eq!(scene.others.told(), ["l1 to node-2#1"]);
}

#[tokio::test(start_paused = true)]
async fn a_load_is_told_again_until_a_node_hears_it_and_to_nodes_that_link_up_later() {
    let second = NodeView::new("node-2#1", Vec::new(), ActorTable::default(), None, Pulse::unwatched());
    let third = NodeView::new("node-3#1", Vec::new(), ActorTable::default(), None, Pulse::unwatched());
    let nodes = [("node-2#1".to_owned(), Arc::new(second)), ("node-3#1".to_owned(), Arc::new(third))].into();
    let others = Arc::new(Others { nodes, ..Others::default() });
    let known = |nodes: Vec<ClusterNode>| Arc::new(ClusterView { nodes });
    let (view, seen) = watch::channel(known(vec![node("node-1#1", Presence::Here), node("node-2#1", Presence::Linked)]));
    let news = LoadNews::new(seen, Arc::clone(&others) as Arc<dyn Reach>);
    others.be_silent(&["node-2#1"]);
    let told = news.spread("l1").await;
    assert_eq!((told.n_told, told.failed), (0, vec![("node-2".to_owned(), "it sleeps".to_owned())]));

    others.be_silent(&[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(others.told(), ["l1 to node-2#1"], "again, and only once");
    view.send_replace(known(vec![node("node-2#1", Presence::Linked), node("node-3#1", Presence::Linked)]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(others.told(), ["l1 to node-3#1"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    view.send_replace(known(vec![node("node-2#2", Presence::Linked)]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(others.told().is_empty(), "the minute is over");
}

fn settle(stats: &LaneStats, readings: &[(&str, u16)]) {
    let mark = |(state, mph): &(&str, u16)| {
        let json = json!({"iottimestamp": "", "licensePlate": "A", "longitude": "0", "latitude": "0", "city": "", "state": state, "speed": mph});
        let reading = json.to_string();
        TrafficMark::of(&read_reading(reading.as_bytes()).expect("a reading"), SpeedMph::new(75).expect("a speed"))
    };
    stats.traffic().settle(SystemTime::now(), &readings.iter().map(mark).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_map_adds_up_what_all_nodes_have_settled() {
    let scene = scene(node("node-3#1", Presence::Dead)).await;
    settle(&scene.served.enrich, &[("Iowa", 80), ("nowhere", 75), ("Maine", 40)]);
    settle(&scene.lanes, &[("ia", 76), ("", 999)]);
    let page = scene.served.get("/api/v1/map?window=5m").await.json();
    assert_eq!((&page["schema"], &page["window_s"]), (&1.into(), &300.into()));
    assert_eq!((&page["events"], &page["violations"]), (&5.into(), &3.into()));
    assert_eq!(page["state_unknown"], json!({"events": 2, "violations": 1}));
    assert_eq!(page["coordinates_off"], 3, "the middle of the Atlantic lies in no state");
    let states = page["states"].as_array().expect("states");
    let state = |code: &str| states.iter().find(|row| row["state"] == code).expect("the state");
    assert_eq!(states.len(), 51);
    assert_eq!(*state("IA"), json!({"state": "IA", "name": "Iowa", "events": 2, "violations": 2}));
    let sum =
        |rows: &Value| rows.as_array().expect("rows").iter().map(|row| row["events"].as_u64().expect("a count")).sum::<u64>();
    assert_eq!((sum(&page["states"]) + 2, sum(&page["histogram"]["bins"]), sum(&page["hours"])), (5, 5, 5));
    assert_eq!(page["silent"][0]["node"], "node-3", "{page}");

    scene.others.be_silent(&["node-2#1"]);
    let page = scene.served.get("/api/v1/map?window=5m").await.json();
    assert_eq!((&page["events"], page["silent"].as_array().map(Vec::len)), (&5.into(), Some(2)), "its last answer counts");
    assert_eq!(scene.served.get("/api/v1/map?window=2h").await.status, 400);
    assert_eq!(scene.served.get("/api/v1/map").await.json()["window_s"], 900);
}
