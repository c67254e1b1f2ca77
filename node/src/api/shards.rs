//! Every lease of every application, with its lane wherever it runs and why it does not move.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use speedtrap_actors::cluster::{ClusterNode, Presence};

use super::cluster::{Api, Heard};
use super::lanes_page::{ApplicationPage, HashRange, LaneRow, LanesPage, LeaseRow};
use super::node_view::LANES;
use super::pages::{millis, time};

/// One call lasts a second at most in good times; whoever waits longer is throttled, refused or unanswered.
const LONG_WAIT_MS: u64 = 2_000;

/// `GET /api/v1/shards`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShardsPage {
    pub(crate) schema: u32,
    pub(crate) served_by: String,
    pub(crate) at: String,
    pub(crate) shards: Vec<ShardPage>,
    /// Nodes that did not answer; what they run is as they said last, or unknown.
    pub(crate) silent: Vec<SilentNode>,
}

/// One shard: its lease and its lane.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShardPage {
    pub(crate) application: String,
    pub(crate) role: String,
    pub(crate) shard: String,
    /// The name of the node that holds the lease; null if nobody does, or a worker that is no node of this cluster.
    pub(crate) node: Option<String>,
    /// `leaseOwner` as it stands in the row.
    pub(crate) worker: Option<String>,
    pub(crate) state: String,
    pub(crate) counter: u64,
    pub(crate) checkpoint: String,
    /// How long the lease lasts by the clock of the node that holds it; null where that does not tell.
    #[serde(default)]
    pub(crate) lease_left_ms: Option<u64>,
    pub(crate) parents: Vec<String>,
    /// The shards that follow it, as far as they are known.
    #[serde(default)]
    pub(crate) children: Vec<String>,
    /// Null of streams without any, and of shards that their stream lists no more.
    #[serde(default)]
    pub(crate) hash_range: Option<HashRange>,
    pub(crate) unowned_ms: Option<u64>,
    pub(crate) lane: Option<LaneRow>,
    /// Why the shard does not move; null if it does, or is done.
    pub(crate) why: Option<String>,
}

/// A node that did not answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SilentNode {
    pub(crate) node: String,
    pub(crate) worker: String,
    pub(crate) presence: String,
    pub(crate) why: String,
    /// How old its last answer is; null if there is none.
    pub(crate) last_heard_ms: Option<u64>,
}

impl Api {
    /// What all nodes know of shards.
    pub(super) async fn shards(&self) -> ShardsPage {
        self.shards_of(&self.hear(LANES).await)
    }

    /// What these nodes know of shards.
    pub(super) fn shards_of(&self, heard: &[Heard<LanesPage>]) -> ShardsPage {
        let silent = silent(heard);
        ShardsPage { schema: 1, served_by: self.node.name.clone(), at: time(SystemTime::now()), shards: join(heard), silent }
    }
}

/// Whether a later boot of its name has taken the place of a dead one, which is missed by nobody then.
pub(super) fn is_replaced<T>(gone: &ClusterNode, heard: &[Heard<T>]) -> bool {
    let lives = |other: &Heard<T>| other.node.name == gone.name && other.node.presence != Presence::Dead;
    gone.presence == Presence::Dead && heard.iter().any(lives)
}

/// The nodes that did not answer.
pub(super) fn silent<T>(heard: &[Heard<T>]) -> Vec<SilentNode> {
    let of = |heard: &Heard<T>| {
        heard.silent.as_ref().map(|why| SilentNode {
            node: heard.node.name.clone(),
            worker: heard.node.worker.clone(),
            presence: heard.node.presence.label().to_owned(),
            why: why.clone(),
            last_heard_ms: heard.page.as_ref().map(|_| millis(heard.age)),
        })
    };
    heard.iter().filter(|one| !is_replaced(&one.node, heard)).filter_map(of).collect()
}

/// Joins what the nodes say: leases from the freshest look at each application, lanes from the nodes that run them.
pub(super) fn join(heard: &[Heard<LanesPage>]) -> Vec<ShardPage> {
    let names: BTreeSet<(&str, &str)> = applications(heard).map(|(_, it)| (it.role.as_str(), it.name.as_str())).collect();
    let mut shards = Vec::new();
    for (_, name) in names {
        let views: Vec<_> = applications(heard).filter(|(_, it)| it.name == name).collect();
        let looked = views.iter().filter_map(|(from, it)| Some((it.seen_ms? + millis(from.age), *it)));
        let Some((_, freshest)) = looked.min_by_key(|(age, _)| *age) else { continue };
        shards.extend(freshest.leases.iter().map(|lease| shard_page(freshest, lease, &views, heard)));
    }
    shards
}

fn applications(heard: &[Heard<LanesPage>]) -> impl Iterator<Item = (&Heard<LanesPage>, &ApplicationPage)> {
    heard.iter().flat_map(|heard| heard.page.iter().flat_map(move |page| page.applications.iter().map(move |it| (heard, it))))
}

type View<'a> = (&'a Heard<LanesPage>, &'a ApplicationPage);

fn shard_page(application: &ApplicationPage, lease: &LeaseRow, views: &[View<'_>], heard: &[Heard<LanesPage>]) -> ShardPage {
    let owner = lease.owner.as_ref().and_then(|owner| heard.iter().find(|heard| heard.node.worker == *owner));
    // Only the two nodes between which a lease moves know that it does.
    let moves = |row: &LeaseRow| row.shard == lease.shard && row.owner == lease.owner && row.state == "handing_over";
    let is_moving = lease.state == "held" && views.iter().any(|(_, it)| it.leases.iter().any(moves));
    let lane = lane_of(lease, owner.map(|owner| owner.node.worker.as_str()), views);
    ShardPage {
        application: application.name.clone(),
        role: application.role.clone(),
        shard: lease.shard.clone(),
        node: owner.map(|owner| owner.node.name.clone()),
        worker: lease.owner.clone(),
        state: if is_moving { "handing_over".to_owned() } else { lease.state.clone() },
        counter: lease.counter,
        checkpoint: lease.checkpoint.clone(),
        lease_left_ms: lane
            .as_ref()
            .filter(|lane| owner.is_some_and(|owner| owner.node.name == lane.node))
            .and_then(|lane| lane.lease_left_ms),
        parents: lease.parents.clone(),
        children: lease.children.clone(),
        hash_range: lease.hash_range.clone(),
        unowned_ms: lease.unowned_ms,
        why: if is_moving { Some(HANDED_OVER.to_owned()) } else { why(application, lease, owner, lane.as_ref()) },
        lane,
    }
}

const HANDED_OVER: &str = "it is being handed over";

/// The lane on the owner's node; else one that still runs on another, which is about to notice that it lost its lease.
fn lane_of(lease: &LeaseRow, owner: Option<&str>, views: &[View<'_>]) -> Option<LaneRow> {
    let live = |row: &&LaneRow| row.shard == lease.shard && !matches!(row.state.as_str(), "closed" | "ended");
    let lanes = |of_owner: bool| {
        let from = views.iter().filter(move |(from, _)| (Some(from.node.worker.as_str()) == owner) == of_owner);
        from.filter(|(from, _)| from.silent.is_none()).flat_map(|(_, it)| &it.lanes).find(live)
    };
    lanes(true).or_else(|| lanes(false)).cloned()
}

fn why(
    application: &ApplicationPage,
    lease: &LeaseRow,
    owner: Option<&Heard<LanesPage>>,
    lane: Option<&LaneRow>,
) -> Option<String> {
    match lease.state.as_str() {
        "ended" => None,
        "waits_for_parent" => {
            let done = |parent: &&String| application.leases.iter().any(|row| row.shard == **parent && row.state == "ended");
            let open: Vec<_> = lease.parents.iter().filter(|parent| !done(parent)).map(String::as_str).collect();
            Some(format!("it waits for its parents {}", open.join(", ")))
        }
        "free" => Some("nobody took it yet".to_owned()),
        "expired" => Some(match owner {
            Some(owner) => format!("its node {} is {}; nobody took it over yet", owner.node.name, owner.node.presence.label()),
            None => "its owner let it expire; nobody took it over yet".to_owned(),
        }),
        "handing_over" => Some(HANDED_OVER.to_owned()),
        _ => held(lease, owner, lane),
    }
}

/// Why a lease that somebody holds does not move.
fn held(lease: &LeaseRow, owner: Option<&Heard<LanesPage>>, lane: Option<&LaneRow>) -> Option<String> {
    let Some(owner) = owner else {
        let worker = lease.owner.as_deref().unwrap_or("nobody");
        return Some(format!("its owner `{worker}` is no node of this cluster; it is taken over once it expires"));
    };
    let name = &owner.node.name;
    match owner.node.presence {
        Presence::Dead => return Some(format!("its node {name} is dead; it is taken over at the next look")),
        Presence::Suspect => return Some(format!("its node {name} is suspect; it is taken over once that is dead")),
        Presence::Unlinked => {
            return Some(format!("not known: its node {name} works, but is not linked with the one that was asked"));
        }
        Presence::Here | Presence::Linked => {}
    }
    if let Some(silent) = &owner.silent {
        return Some(format!("not known: its node {name} does not answer: {silent}"));
    }
    if owner.page.as_ref().is_some_and(|page| page.paused) {
        return Some(format!("it is paused: its node {name} cannot show that it lives"));
    }
    let Some(lane) = lane else { return Some(format!("its lane on {name} has not started yet")) };
    match (lane.state.as_str(), &lane.waiting) {
        ("backoff", _) => Some(format!("it backs off after: {}", lane.last_fault.as_deref().unwrap_or("an unknown fault"))),
        ("draining", _) => Some(format!("its lane on {} takes nothing more in", lane.node)),
        (_, Some(waiting)) if waiting.for_ms >= LONG_WAIT_MS => {
            let (actor, seconds) = (&waiting.actor, waiting.for_ms / 1_000);
            let cause = waiting.cause.as_deref().unwrap_or("an answer");
            Some(format!("{actor} has waited {seconds} s for {cause}"))
        }
        _ => None,
    }
}
