//! What the API answers about all nodes together. What is not known is null, never 0.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use speedtrap_actors::cluster::{ClusterNode, Presence};

use super::cluster::{Answer, Api, Heard};
use super::lanes_page::LanesPage;
use super::node_view::{ACTORS, LANES, MORE_ACTORS, STATUS};
use super::overview::{Judged, Kpis};
use super::pages::{ActorPage, ActorsPage, RestartPage, StatusPage, time};
use super::shards::{ShardPage, SilentNode, is_replaced, join, silent};
use crate::findings::Finding;

/// `GET /api/v1/nodes`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodesPage {
    pub(crate) schema: u32,
    pub(crate) served_by: String,
    pub(crate) at: String,
    pub(crate) nodes: Vec<NodePage>,
}

/// One node as the one that was asked sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodePage {
    pub(crate) name: String,
    pub(crate) worker: String,
    pub(crate) address: Option<String>,
    pub(crate) dashboard: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) draining: bool,
    pub(crate) presence: String,
    pub(crate) round_trip_ms: Option<f64>,
    pub(crate) misses: u32,
    /// Leases it holds of shards that are not done, by role; null while nobody who answers has looked.
    pub(crate) leases: BTreeMap<String, Option<u64>>,
}

/// `GET /api/v1/status?scope=cluster`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClusterStatusPage {
    pub(crate) schema: u32,
    pub(crate) served_by: String,
    pub(crate) at: String,
    pub(crate) healthy: bool,
    /// The findings' texts.
    pub(crate) problems: Vec<String>,
    /// What is not as it should be, the gravest first.
    #[serde(default)]
    pub(crate) findings: Vec<Finding>,
    /// What is good to know and no reason to call anything unhealthy.
    #[serde(default)]
    pub(crate) notes: Vec<Finding>,
    #[serde(default)]
    pub(crate) kpis: Kpis,
    /// Whether the counts hold all nodes' latest ones; if not, those of silent nodes are older, or missing.
    pub(crate) counts_are_whole: bool,
    pub(crate) events_in: u64,
    pub(crate) errors_in: u64,
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) outcomes_by_role: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) possible_repeats: u64,
    pub(crate) idle: bool,
    pub(crate) nodes: Vec<NodeStatus>,
}

/// One node's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) worker: String,
    pub(crate) presence: String,
    /// Why it does not answer; null if it does.
    pub(crate) silent: Option<String>,
    /// How old its status is; null if none was ever heard.
    pub(crate) age_ms: Option<u64>,
    pub(crate) status: Option<StatusPage>,
}

/// `GET /api/v1/actors?scope=cluster`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClusterActorsPage {
    pub(crate) schema: u32,
    pub(crate) served_by: String,
    pub(crate) at: String,
    pub(crate) total: usize,
    pub(crate) rows: Vec<ActorPage>,
    /// The last restarts of all nodes, oldest first.
    pub(crate) restarts: Vec<RestartPage>,
    /// Nodes that did not answer; their actors are as they said last, or missing.
    pub(crate) silent: Vec<SilentNode>,
}

impl Answer for StatusPage {}

impl Answer for ActorsPage {
    fn rest(&self) -> Option<String> {
        self.next.as_ref().map(|next| format!("{MORE_ACTORS}{next}"))
    }

    fn add(&mut self, more: Self) {
        self.rows.extend(more.rows);
        (self.total, self.next) = (more.total, more.next);
    }
}

impl Api {
    pub(super) async fn nodes_page(&self) -> NodesPage {
        let roles = |node: &ClusterNode| node.roles.iter().all(|role| self.runs(role));
        // The leases of roles that run here are seen from here; for others somebody has to be asked.
        let lanes = if self.nodes().iter().all(roles) { vec![self.own_lanes()] } else { self.hear(LANES).await };
        self.nodes_of(&lanes)
    }

    /// All nodes, with the leases that these lanes tell of.
    pub(super) fn nodes_of(&self, lanes: &[Heard<LanesPage>]) -> NodesPage {
        let (nodes, seen, shards) = (self.nodes(), roles_seen(lanes), join(lanes));
        let nodes = nodes.iter().map(|node| NodePage::of(node, &seen, &shards)).collect();
        NodesPage { schema: 1, served_by: self.node.name.clone(), at: time(SystemTime::now()), nodes }
    }

    fn runs(&self, role: &str) -> bool {
        self.node.applications.iter().any(|application| application.role == role)
    }

    fn own_lanes(&self) -> Heard<LanesPage> {
        let node = self.nodes().into_iter().find(|node| node.worker == self.node.worker).expect("this node is always there");
        Heard { node, page: Some(LanesPage::of(&self.node)), age: Duration::ZERO, silent: None }
    }

    pub(super) async fn cluster_status(&self) -> ClusterStatusPage {
        let (statuses, lanes) = tokio::join!(self.hear(STATUS), self.hear(LANES));
        self.status_of(statuses, &lanes)
    }

    /// Judges what all nodes say of themselves and their lanes.
    pub(super) fn status_of(&self, statuses: Vec<Heard<StatusPage>>, lanes: &[Heard<LanesPage>]) -> ClusterStatusPage {
        let Judged { findings, notes, kpis } = self.judge(&statuses, lanes);
        let shards = join(lanes);
        let mut page = ClusterStatusPage {
            schema: 1,
            served_by: self.node.name.clone(),
            at: time(SystemTime::now()),
            healthy: findings.is_empty(),
            problems: findings.iter().map(|finding| finding.text.clone()).collect(),
            findings,
            notes,
            kpis,
            counts_are_whole: statuses.iter().all(|heard| heard.silent.is_none()),
            events_in: 0,
            errors_in: 0,
            outcomes: BTreeMap::new(),
            outcomes_by_role: BTreeMap::new(),
            possible_repeats: 0,
            idle: shards.iter().all(is_settled) && statuses.iter().all(|heard| heard.now().is_some_and(|page| page.idle)),
            nodes: Vec::new(),
        };
        for status in statuses.iter().filter_map(|heard| heard.page.as_ref()) {
            page.add(status);
        }
        page.nodes = statuses.into_iter().map(NodeStatus::of).collect();
        page
    }

    pub(super) async fn cluster_actors(&self) -> ClusterActorsPage {
        let heard: Vec<Heard<ActorsPage>> = self.hear(ACTORS).await;
        let silent = silent(&heard);
        let (mut rows, mut restarts) = (Vec::new(), Vec::new());
        // Actors of a boot that was replaced are gone, and have the names of those that run now; why they were restarted stays true.
        let gone: Vec<bool> = heard.iter().map(|one| is_replaced(&one.node, &heard)).collect();
        for (page, is_gone) in heard.into_iter().zip(gone).filter_map(|(heard, is_gone)| Some((heard.page?, is_gone))) {
            restarts.extend(page.restarts);
            if !is_gone {
                rows.extend(page.rows);
            }
        }
        restarts.sort_by(|one, other| one.at.cmp(&other.at));
        let (served_by, at) = (self.node.name.clone(), time(SystemTime::now()));
        ClusterActorsPage { schema: 1, served_by, at, total: rows.len(), rows, restarts, silent }
    }
}

/// The roles whose leases somebody has looked at.
fn roles_seen(lanes: &[Heard<LanesPage>]) -> BTreeSet<String> {
    let applications = lanes.iter().filter_map(|heard| heard.page.as_ref()).flat_map(|page| &page.applications);
    applications.filter(|it| it.seen_ms.is_some()).map(|it| it.role.clone()).collect()
}

/// A lease that a running lane works on, or that nobody needs to.
fn is_settled(shard: &ShardPage) -> bool {
    match shard.state.as_str() {
        "ended" => true,
        "held" => shard.lane.as_ref().is_some_and(|lane| lane.state == "running"),
        _ => false,
    }
}

impl NodePage {
    fn of(node: &ClusterNode, seen: &BTreeSet<String>, shards: &[ShardPage]) -> Self {
        let holds = |shard: &&ShardPage| shard.worker.as_ref() == Some(&node.worker) && shard.state != "ended";
        let held = |role: &str| {
            let of_role = shards.iter().filter(|shard| shard.role == role);
            seen.contains(role).then(|| of_role.filter(holds).count() as u64)
        };
        Self {
            name: node.name.clone(),
            worker: node.worker.clone(),
            address: node.address.clone(),
            dashboard: node.dashboard.clone(),
            roles: node.roles.clone(),
            draining: node.draining,
            presence: node.label().to_owned(),
            round_trip_ms: node.round_trip.filter(|_| node.presence == Presence::Linked).map(|trip| trip.as_secs_f64() * 1_000.0),
            misses: node.misses,
            leases: node.roles.iter().map(|role| (role.clone(), held(role))).collect(),
        }
    }

    /// All leases it holds; `None` if those of some role are unknown.
    pub(crate) fn n_leases(&self) -> Option<u64> {
        self.leases.values().copied().sum()
    }
}

impl ClusterStatusPage {
    fn add(&mut self, status: &StatusPage) {
        self.events_in += status.events_in;
        self.errors_in += status.errors_in;
        self.possible_repeats += status.possible_repeats;
        add_counts(&mut self.outcomes, &status.outcomes);
        for (role, outcomes) in &status.outcomes_by_role {
            add_counts(self.outcomes_by_role.entry(role.clone()).or_default(), outcomes);
        }
    }
}

fn add_counts(sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (name, count) in counts {
        *sum.entry(name.clone()).or_default() += count;
    }
}

impl NodeStatus {
    fn of(heard: Heard<StatusPage>) -> Self {
        Self {
            name: heard.node.name,
            worker: heard.node.worker,
            presence: heard.node.presence.label().to_owned(),
            silent: heard.silent,
            age_ms: heard.page.as_ref().map(|_| super::pages::millis(heard.age)),
            status: heard.page,
        }
    }
}
