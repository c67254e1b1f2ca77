//! Telling all nodes that drivers were loaded, again and again until each has heard it or is gone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use speedtrap_actors::cluster::{ClusterNode, ClusterView, Presence};
use speedtrap_actors::ports::PeerFailure;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::cluster::Reach;

/// A loader waits for this answer; whoever is slower is told again.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A node that is busy or just linked is told again after this long, so that it serves what changed within a second.
const AGAIN_EVERY: Duration = Duration::from_millis(250);
/// What a node has not heard by then it learns when its cache entries expire.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Brings the news of loads to the other nodes.
pub(super) struct LoadNews {
    view: watch::Receiver<Arc<ClusterView>>,
    reach: Arc<dyn Reach>,
    /// The retries of the last load. Those of an earlier one end with a new one: whoever hears of the new one renews its cache
    /// for both.
    telling: Mutex<JoinSet<()>>,
}

/// How the first try went.
pub(super) struct Told {
    /// How many other nodes have heard it.
    pub(super) n_told: usize,
    /// Which have not, and why; they are told again.
    pub(super) failed: Vec<(String, String)>,
}

impl LoadNews {
    pub(super) fn new(view: watch::Receiver<Arc<ClusterView>>, reach: Arc<dyn Reach>) -> Self {
        Self { view, reach, telling: Mutex::default() }
    }

    /// Tells all nodes once, and goes on in the background for a minute: nodes that link up meanwhile are told, too.
    pub(super) async fn spread(&self, load_id: &str) -> Told {
        let mut told = BTreeSet::new();
        let nodes = self.view.borrow().clone();
        let failed = round(&nodes, self.reach.as_ref(), load_id, &mut told).await;
        let n_told = told.len();
        let (mut view, reach, load_id) = (self.view.clone(), Arc::clone(&self.reach), load_id.to_owned());
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        *telling = JoinSet::new();
        telling.spawn(async move { keep_telling(&mut view, reach.as_ref(), &load_id, told).await });
        Told { n_told, failed }
    }
}

async fn keep_telling(
    view: &mut watch::Receiver<Arc<ClusterView>>,
    reach: &dyn Reach,
    load_id: &str,
    mut told: BTreeSet<String>,
) {
    let until = Instant::now() + GIVE_UP_AFTER;
    let mut missing = Vec::new();
    while Instant::now() < until {
        // A view that changes may have a new link in it; without a sender this node has no others.
        if let Ok(Err(_)) = timeout(AGAIN_EVERY, view.changed()).await {
            return;
        }
        let nodes = view.borrow_and_update().clone();
        missing = round(&nodes, reach, load_id, &mut told).await;
    }
    for (node, why) in missing {
        tracing::warn!(node, load_id, why, "a node was not told of a load; it learns of it as its cache entries expire");
    }
}

/// Tells the linked nodes that have not heard it, side by side. The answer names all that still have not, but for dead ones.
async fn round(view: &ClusterView, reach: &dyn Reach, load_id: &str, told: &mut BTreeSet<String>) -> Vec<(String, String)> {
    let due = |node: &&ClusterNode| !matches!(node.presence, Presence::Here | Presence::Dead) && !told.contains(&node.worker);
    let tell = async |node: &ClusterNode| match node.presence {
        Presence::Linked => match timeout(ANSWER_WITHIN, reach.load_committed(&node.worker, load_id)).await {
            Ok(answer) => answer.map_err(|PeerFailure { reason, .. }| reason),
            Err(_) => Err(format!("no answer within {} ms", ANSWER_WITHIN.as_millis())),
        },
        other => Err(format!("it is {}", other.label())),
    };
    let nodes: Vec<&ClusterNode> = view.nodes.iter().filter(due).collect();
    let answers = join_all(nodes.iter().map(|node| tell(node))).await;
    let mut failed = Vec::new();
    for (node, answer) in nodes.into_iter().zip(answers) {
        match answer {
            Ok(()) => drop(told.insert(node.worker.clone())),
            Err(why) => failed.push((node.name.clone(), why)),
        }
    }
    failed
}
