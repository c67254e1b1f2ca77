//! Answers the other nodes: the one actor of a node that they can reach.
//!
//! Child of `Membership`. Receives what nodes ask of each other, sends questions about leases to the root of this node's tree,
//! and answers the rest from the [`Desk`]. It waits for nothing: heartbeats of the links queue behind every other question.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::concurrency::oneshot;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorClusterMessage;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::NodeSupervisorMsg;
use super::orders::{NodeOrder, OrderAnswer};
use super::wire_message::{About, LeaseQuestion, PageAnswer, Wire};
use crate::observe::Mailbox;

/// Process group in which nodes find each other's gateways.
pub(super) const SCOPE: &str = "speedtrap";
/// See [`SCOPE`].
pub(super) const GROUP: &str = "gateway";
/// A longer page would hold up the heartbeats behind it.
const MOST_PAGE_BYTES: usize = 1 << 20;
/// Answers being waited for; whoever asks beyond them gets none, and asks again.
const MOST_ASKED: usize = 256;
/// The other node gives up sooner.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Makes pages by their names.
pub type Pages = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// What a node's program answers to other nodes. None of it may wait.
#[derive(Clone)]
pub struct Desk {
    /// A page of this node as JSON, by its name.
    pub page: Pages,
    /// A load of drivers, by its id, was committed.
    pub load_committed: Arc<dyn Fn(&str) + Send + Sync>,
    /// This node is to drain and end.
    pub drain: Arc<dyn Fn() + Send + Sync>,
    /// An operator's order; answered when it has begun, or never if nobody knows.
    pub order: Arc<dyn Fn(NodeOrder) -> BoxFuture<'static, Option<OrderAnswer>> + Send + Sync>,
}

pub(super) struct Gateway;

/// Variants are told apart by their names, and may only be added; see `wire_message`.
#[derive(Debug, RactorClusterMessage)]
pub(super) enum GatewayMsg {
    /// The heartbeat of a link.
    #[rpc]
    Ping(RpcReplyPort<Wire<About>>),
    #[rpc]
    AskLease(Wire<LeaseQuestion>, RpcReplyPort<Wire<Option<String>>>),
    /// With the application's name.
    #[rpc]
    Assigned(String, RpcReplyPort<()>),
    /// With the load's id.
    #[rpc]
    LoadCommitted(String, RpcReplyPort<()>),
    /// With the page's name.
    #[rpc]
    Page(String, RpcReplyPort<Wire<PageAnswer>>),
    #[rpc]
    Drain(RpcReplyPort<()>),
    #[rpc]
    Order(Wire<NodeOrder>, RpcReplyPort<Wire<OrderAnswer>>),
}

pub(super) struct GatewayArgs {
    pub(super) root: Mailbox<NodeSupervisorMsg>,
    pub(super) desk: Desk,
    pub(super) about: watch::Receiver<About>,
}

pub(super) struct GatewayState {
    args: GatewayArgs,
    asked: JoinSet<()>,
}

impl Actor for Gateway {
    type Msg = GatewayMsg;
    type State = GatewayState;
    type Arguments = GatewayArgs;

    async fn pre_start(&self, myself: ActorRef<GatewayMsg>, args: GatewayArgs) -> Result<GatewayState, ActorProcessingErr> {
        ractor::pg::join_scoped(SCOPE.to_owned(), GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(GatewayState { args, asked: JoinSet::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<GatewayMsg>,
        message: GatewayMsg,
        state: &mut GatewayState,
    ) -> Result<(), ActorProcessingErr> {
        // Whoever asked may have given up, or be gone: then an answer goes nowhere.
        match message {
            GatewayMsg::Ping(answer) => {
                let _gone = answer.send(Wire::of(state.args.about.borrow().clone()));
            }
            GatewayMsg::AskLease(Wire(Ok(question)), answer) => state.ask_for_lease(question, answer),
            GatewayMsg::AskLease(Wire(Err(error)), _) => tracing::warn!(%error, "a question for a lease was left unanswered"),
            GatewayMsg::Assigned(application, answer) => {
                if state.args.root.cast(NodeSupervisorMsg::Assigned { application }).is_ok() {
                    let _gone = answer.send(());
                }
            }
            GatewayMsg::LoadCommitted(load, answer) => {
                (state.args.desk.load_committed)(&load);
                let _gone = answer.send(());
            }
            GatewayMsg::Page(page, answer) => {
                let _gone = answer.send(Wire::of(page_answer((state.args.desk.page)(&page))));
            }
            GatewayMsg::Drain(answer) => {
                tracing::info!("another node passed on the order to drain");
                (state.args.desk.drain)();
                let _gone = answer.send(());
            }
            GatewayMsg::Order(Wire(Ok(order)), answer) => state.pass_on(order, answer),
            GatewayMsg::Order(Wire(Err(error)), answer) => {
                tracing::warn!(%error, "an order was not understood");
                let _gone = answer.send(Wire::of(OrderAnswer::not_now("this node runs a version that knows no such order")));
            }
        }
        Ok(())
    }
}

impl GatewayState {
    fn ask_for_lease(&mut self, question: LeaseQuestion, answer: RpcReplyPort<Wire<Option<String>>>) {
        while self.asked.try_join_next().is_some() {}
        if self.asked.len() >= MOST_ASKED {
            return;
        }
        let (told, is_told) = oneshot();
        let LeaseQuestion { application, taker } = question;
        if self.args.root.cast(NodeSupervisorMsg::LeaseAsked { application, taker, answer: told.into() }).is_err() {
            return;
        }
        self.asked.spawn(async move {
            if let Ok(Ok(shard)) = tokio::time::timeout(ANSWER_LIMIT, is_told).await {
                let _gone = answer.send(Wire::of(shard.map(|shard| shard.as_str().to_owned())));
            }
        });
    }

    /// Done beside everything else: an order may wait for a lane.
    fn pass_on(&mut self, order: NodeOrder, answer: RpcReplyPort<Wire<OrderAnswer>>) {
        while self.asked.try_join_next().is_some() {}
        if self.asked.len() >= MOST_ASKED {
            return;
        }
        tracing::info!(?order, "another node passed on an order");
        let answered = (self.args.desk.order)(order);
        self.asked.spawn(async move {
            if let Ok(Some(said)) = tokio::time::timeout(ANSWER_LIMIT, answered).await {
                let _gone = answer.send(Wire::of(said));
            }
        });
    }
}

fn page_answer(page: Option<Vec<u8>>) -> PageAnswer {
    match page {
        None => PageAnswer::NoSuchPage,
        Some(page) if page.len() > MOST_PAGE_BYTES => PageAnswer::TooLong(page.len() as u64),
        Some(page) => PageAnswer::Page(page),
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_would_hold_up_heartbeats_is_not_sent() {
        assert_eq!(page_answer(None), PageAnswer::NoSuchPage);
        assert_eq!(page_answer(Some(vec![0; MOST_PAGE_BYTES])), PageAnswer::Page(vec![0; MOST_PAGE_BYTES]));
        assert_eq!(page_answer(Some(vec![0; MOST_PAGE_BYTES + 1])), PageAnswer::TooLong(1_048_577));
    }
}
