//! The way to the other nodes: a handle on the gateways that this node is linked to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ractor::rpc::CallResult;
use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::watch;

use super::ClusterView;
use super::gateway::GatewayMsg;
use super::orders::{NodeOrder, OrderAnswer};
use super::wire_message::{LeaseQuestion, PageAnswer, Wire};
use crate::domain::ShardId;
use crate::ports::{PeerFailure, Peers};

/// A call over a link takes a millisecond; one that takes this long is lost, whatever became of it over there.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The gateways of the other nodes, and the latest view of the cluster. A cheap handle; `Membership` keeps it up to date.
#[derive(Clone)]
pub struct Links(Arc<Shared>);

struct Shared {
    gateways: Mutex<BTreeMap<String, ActorRef<GatewayMsg>>>,
    view: watch::Sender<Arc<ClusterView>>,
}

impl Links {
    /// Links of a node that has none yet.
    #[must_use]
    pub fn none_yet() -> Self {
        let (view, _) = watch::channel(Arc::default());
        Self(Arc::new(Shared { gateways: Mutex::default(), view }))
    }

    /// The view of the cluster, the latest first.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.0.view.subscribe()
    }

    /// A page of another node, as JSON.
    ///
    /// # Errors
    /// When it is not linked, did not answer, or has no such page.
    pub async fn page(&self, worker: &str, page: &str) -> Result<Vec<u8>, PeerFailure> {
        let Wire(answer) = self.call(worker, |answer| GatewayMsg::Page(page.to_owned(), answer)).await?;
        match answer.map_err(|error| failed(worker, error))? {
            PageAnswer::Page(page) => Ok(page),
            PageAnswer::NoSuchPage => Err(failed(worker, format_args!("it has no page `{page}`"))),
            PageAnswer::TooLong(n) => Err(failed(worker, format_args!("its page `{page}` has {n} bytes, too many for a link"))),
        }
    }

    /// Tells another node that a load of drivers was committed. Twice does no harm.
    ///
    /// # Errors
    /// When it is not linked or did not answer.
    pub async fn load_committed(&self, worker: &str, load_id: &str) -> Result<(), PeerFailure> {
        self.call(worker, |answer| GatewayMsg::LoadCommitted(load_id.to_owned(), answer)).await
    }

    /// Tells another node to drain and end; it answers that it has begun.
    ///
    /// # Errors
    /// When it is not linked or did not answer.
    pub async fn drain(&self, worker: &str) -> Result<(), PeerFailure> {
        self.call(worker, GatewayMsg::Drain).await
    }

    /// Passes an operator's order on; it answers that it has begun, or why not.
    ///
    /// # Errors
    /// When it is not linked or did not answer: then it may have begun all the same.
    pub async fn order(&self, worker: &str, order: NodeOrder) -> Result<OrderAnswer, PeerFailure> {
        let Wire(answer) = self.call(worker, |answer| GatewayMsg::Order(Wire::of(order), answer)).await?;
        answer.map_err(|error| failed(worker, error))
    }

    /// Ends without an error only with an answer. Without one it is unknown whether the call took effect: a lost link and a lost
    /// answer look the same.
    async fn call<T: Send + 'static>(
        &self,
        worker: &str,
        message: impl FnOnce(RpcReplyPort<T>) -> GatewayMsg,
    ) -> Result<T, PeerFailure> {
        let gateway = self.gateways().get(worker).cloned();
        let gateway = gateway.ok_or_else(|| failed(worker, "there is no link to it"))?;
        match gateway.call(message, Some(CALL_TIMEOUT)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) => {
                Err(failed(worker, "no answer came, so whether it took effect is not known"))
            }
            Err(_) => Err(failed(worker, "the link to it is gone")),
        }
    }

    pub(super) fn linked(&self, worker: String, gateway: ActorRef<GatewayMsg>) {
        self.gateways().insert(worker, gateway);
    }

    pub(super) fn unlinked(&self, worker: &str) {
        self.gateways().remove(worker);
    }

    pub(super) fn unlink_all(&self) {
        self.gateways().clear();
    }

    /// Puts up a view; whoever waits for changes is woken only by one that bears on leases or pages.
    pub(super) fn publish(&self, view: ClusterView) {
        self.0.view.send_if_modified(|shown| {
            let changed = !shown.is_same_but_for_round_trips(&view);
            *shown = Arc::new(view);
            changed
        });
    }

    /// A panic while it was locked leaves the map whole.
    fn gateways(&self) -> MutexGuard<'_, BTreeMap<String, ActorRef<GatewayMsg>>> {
        self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(worker: &str, reason: impl fmt::Display) -> PeerFailure {
    PeerFailure { worker: worker.to_owned(), reason: reason.to_string() }
}

#[async_trait]
impl Peers for Links {
    async fn ask_lease(&self, worker: &str, application: &str, taker: &str) -> Result<Option<ShardId>, PeerFailure> {
        let question = LeaseQuestion { application: application.to_owned(), taker: taker.to_owned() };
        let Wire(answer) = self.call(worker, |answer| GatewayMsg::AskLease(Wire::of(question), answer)).await?;
        let shard = answer.map_err(|error| failed(worker, error))?;
        Ok(shard.map(|shard| ShardId::new(&shard)))
    }

    async fn assigned(&self, worker: &str, application: &str) -> Result<(), PeerFailure> {
        self.call(worker, |answer| GatewayMsg::Assigned(application.to_owned(), answer)).await
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.gateways().keys()).finish()
    }
}
