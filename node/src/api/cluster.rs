//! The cluster as the API of one node sees it: which nodes there are, and what each of them says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use serde::de::DeserializeOwned;
use speedtrap_actors::adapters::LetterDesk;
use speedtrap_actors::cluster::{ClusterNode, ClusterView, Links, NodeOrder, OrderAnswer, Presence};
use speedtrap_actors::ports::PeerFailure;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::NodeView;
use super::actions::ActionDesk;
use super::gate::Gate;
use super::load_news::LoadNews;
use super::overview::Watch;
use super::stream::Feed;

/// A node that has not answered by then is shown as silent: whoever asks wants to know of that within a second.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);

/// The way to the other nodes, by worker id. Every call ends within a timeout of its own.
#[async_trait]
pub(crate) trait Reach: Send + Sync {
    /// Asks for a page about that node alone.
    async fn page(&self, worker: &str, page: &str) -> Result<Vec<u8>, PeerFailure>;

    /// Tells it that drivers were loaded; twice does no harm.
    async fn load_committed(&self, worker: &str, load_id: &str) -> Result<(), PeerFailure>;

    /// Asks it to drain.
    async fn drain(&self, worker: &str) -> Result<(), PeerFailure>;

    /// Passes an order on; answered when it has begun. An error leaves open whether it has.
    async fn order(&self, worker: &str, order: NodeOrder) -> Result<OrderAnswer, PeerFailure>;
}

/// What the API answers from.
pub(crate) struct Api {
    /// This node.
    pub(crate) node: Arc<NodeView>,
    /// All nodes; empty for a node without others.
    pub(super) view: watch::Receiver<Arc<ClusterView>>,
    pub(super) reach: Arc<dyn Reach>,
    pub(super) news: LoadNews,
    pub(super) feed: Feed,
    pub(super) watch: Watch,
    /// The dead letters, if the node reaches their table.
    pub(super) letters: Option<Arc<LetterDesk>>,
    /// Who is let in.
    pub(super) gate: Arc<Gate>,
    /// What operators have done or are having done.
    pub(super) actions: ActionDesk,
    last: Mutex<LastPages>,
}

/// The last page of each kind from each worker that is still known, in the parts that it came in.
type LastPages = BTreeMap<(String, &'static str), (Instant, Vec<Vec<u8>>)>;

/// Parts of one answer: a node has no more than a hundred thousand actors.
const MOST_PARTS: usize = 100;

/// What nodes answer each other, in parts if it is long.
pub(super) trait Answer: DeserializeOwned {
    /// The page that goes on with it.
    fn rest(&self) -> Option<String> {
        None
    }

    /// Adds the next part.
    fn add(&mut self, _more: Self) {}
}

/// What one node said.
pub(super) struct Heard<T> {
    pub(super) node: ClusterNode,
    /// Its answer, or the last one that it gave.
    pub(super) page: Option<T>,
    /// How old that is.
    pub(super) age: Duration,
    /// Why it did not answer now.
    pub(super) silent: Option<String>,
}

impl Api {
    /// The API of a node and of the cluster around it.
    pub(crate) fn new(node: Arc<NodeView>, view: watch::Receiver<Arc<ClusterView>>, reach: Arc<dyn Reach>) -> Self {
        let news = LoadNews::new(view.clone(), Arc::clone(&reach));
        let feed = Feed::new(&node.worker);
        let gate = Arc::new(Gate::of_this_machine());
        let (watch, actions) = (Watch::counted_by(&node.cost), ActionDesk::default());
        Self { node, view, reach, news, feed, watch, letters: None, gate, actions, last: Mutex::default() }
    }

    /// With the dead letters.
    #[must_use]
    pub(crate) fn with_letters(self, letters: Arc<LetterDesk>) -> Self {
        Self { letters: Some(letters), ..self }
    }

    /// Behind a gate of its own, in place of one for whoever is on this machine.
    #[must_use]
    pub(crate) fn behind(self, gate: Gate) -> Self {
        Self { gate: Arc::new(gate), ..self }
    }

    /// All nodes by name, this one always among them.
    pub(super) fn nodes(&self) -> Vec<ClusterNode> {
        let mut nodes = self.view.borrow().nodes.clone();
        if !nodes.iter().any(|node| node.worker == self.node.worker) {
            nodes.push(ClusterNode {
                name: self.node.name.clone(),
                worker: self.node.worker.clone(),
                address: None,
                dashboard: None,
                roles: self.node.applications.iter().map(|application| application.role.to_owned()).collect(),
                draining: false,
                presence: Presence::Here,
                round_trip: None,
                misses: 0,
            });
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
        }
        for node in &mut nodes {
            node.draining |= node.worker == self.node.worker && self.node.phase() == super::Phase::Draining;
        }
        nodes
    }

    /// Asks all nodes for a page, side by side. One that cannot be asked, or is too slow, is there with its last answer; one that
    /// left on purpose is missed by nobody.
    pub(super) async fn hear<T: Answer>(&self, page: &'static str) -> Vec<Heard<T>> {
        let mut nodes = self.nodes();
        nodes.retain(|node| !node.has_left());
        self.last_pages().retain(|(worker, _), _| nodes.iter().any(|node| node.worker == *worker));
        join_all(nodes.into_iter().map(|node| self.ask(node, page))).await
    }

    /// Asks one node for a page, whatever it said before.
    pub(super) async fn ask_now<T: DeserializeOwned>(&self, node: &ClusterNode, page: &str) -> Result<T, String> {
        read(&self.bytes_of(node, page).await?)
    }

    /// Asks for a page and all that goes on with it.
    async fn whole<T: Answer>(&self, node: &ClusterNode, page: &str) -> Result<(T, Vec<Vec<u8>>), String> {
        let mut parts = vec![self.bytes_of(node, page).await?];
        let mut whole: T = read(&parts[0])?;
        while let Some(rest) = whole.rest().filter(|_| parts.len() < MOST_PARTS) {
            let bytes = self.bytes_of(node, &rest).await?;
            whole.add(read(&bytes)?);
            parts.push(bytes);
        }
        Ok((whole, parts))
    }

    async fn bytes_of(&self, node: &ClusterNode, page: &str) -> Result<Vec<u8>, String> {
        match node.presence {
            Presence::Here => self.node.page(page).ok_or_else(|| "it has no such page".to_owned()),
            Presence::Linked => match timeout(ANSWER_WITHIN, self.reach.page(&node.worker, page)).await {
                Ok(answer) => answer.map_err(|failure| failure.reason),
                Err(_) => Err(format!("no answer within {} ms", ANSWER_WITHIN.as_millis())),
            },
            Presence::Unlinked | Presence::Suspect | Presence::Dead => Err(format!("it is {}", node.presence.label())),
        }
    }

    /// Gives a node an order; answered when it has begun. An error leaves open whether it has.
    pub(super) async fn order(&self, node: &ClusterNode, order: NodeOrder) -> Result<OrderAnswer, String> {
        if node.presence == Presence::Here {
            let unknown = "its actors did not answer in time, so whether it took effect is not known";
            return self.node.order(order).await.ok_or_else(|| unknown.to_owned());
        }
        self.reach.order(&node.worker, order).await.map_err(|failure| failure.reason)
    }

    async fn ask<T: Answer>(&self, node: ClusterNode, page: &'static str) -> Heard<T> {
        let key = (node.worker.clone(), page);
        match self.whole(&node, page).await {
            Ok((page, parts)) => {
                if node.presence != Presence::Here {
                    self.last_pages().insert(key, (Instant::now(), parts));
                }
                Heard { node, page: Some(page), age: Duration::ZERO, silent: None }
            }
            Err(why) => {
                let last = self.last_pages().get(&key).cloned();
                let (page, age) = last.map_or((None, Duration::ZERO), |(at, parts)| (joined(&parts), at.elapsed()));
                Heard { node, page, age, silent: Some(why) }
            }
        }
    }

    /// The map holds whole answers only, so a panic while it was locked leaves nothing half done.
    fn last_pages(&self) -> MutexGuard<'_, LastPages> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("its answer is not understood: {error}"))
}

fn joined<T: Answer>(parts: &[Vec<u8>]) -> Option<T> {
    let mut parts = parts.iter().map(|part| read::<T>(part).ok());
    let mut whole = parts.next()??;
    for part in parts {
        whole.add(part?);
    }
    Some(whole)
}

impl<T> Heard<T> {
    /// The answer, unless it is an old one.
    pub(super) fn now(&self) -> Option<&T> {
        self.page.as_ref().filter(|_| self.silent.is_none())
    }
}

#[async_trait]
impl Reach for Links {
    async fn page(&self, worker: &str, page: &str) -> Result<Vec<u8>, PeerFailure> {
        self.page(worker, page).await
    }

    async fn load_committed(&self, worker: &str, load_id: &str) -> Result<(), PeerFailure> {
        self.load_committed(worker, load_id).await
    }

    async fn drain(&self, worker: &str) -> Result<(), PeerFailure> {
        self.drain(worker).await
    }

    async fn order(&self, worker: &str, order: NodeOrder) -> Result<OrderAnswer, PeerFailure> {
        self.order(worker, order).await
    }
}
