//! What an action is: resolved from what was asked for, with what it would do.

use axum::http::StatusCode;
use speedtrap_actors::cluster::{ActorEnd, ClusterNode, Presence};

use super::letters::Verb;
use super::{Options, Target};
use super::{actors, letters, nodes, shards};
use crate::api::caller::Role;
use crate::api::cluster::Api;
use crate::api::problem::Problem;

/// The kinds of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    EndActor(ActorEnd),
    HandOver,
    Rebalance,
    Drain,
    Resume,
    Letters(Verb),
}

/// How much can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Risk {
    Low,
    Medium,
    High,
}

/// An action that may be confirmed.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) kind: Kind,
    pub(super) target: String,
    pub(super) effects: Vec<String>,
    pub(super) risk: Risk,
    pub(super) confirm_text: String,
    pub(super) plan: Plan,
}

/// What it takes to do it.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    EndActor { node: ClusterNode, path: String, how: ActorEnd, shown_at: String },
    HandOver { from: ClusterNode, to: ClusterNode, application: String, role: String, shard: String },
    Rebalance { roles: Vec<String> },
    Drain { node: ClusterNode, stay: bool },
    Resume { node: ClusterNode },
    Letters { verb: Verb, ids: Vec<String>, per_second: u32 },
}

const KINDS: [Kind; 9] = [
    Kind::EndActor(ActorEnd::Restart),
    Kind::EndActor(ActorEnd::Drain),
    Kind::EndActor(ActorEnd::Kill),
    Kind::HandOver,
    Kind::Rebalance,
    Kind::Drain,
    Kind::Resume,
    Kind::Letters(Verb::Redrive),
    Kind::Letters(Verb::Discard),
];

impl Kind {
    pub(super) fn named(name: &str) -> Result<Self, Problem> {
        KINDS.into_iter().find(|kind| kind.label() == name).ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.label()).collect();
            let detail = format!("there is no kind of action `{name}`; there are {}", known.join(", "));
            Problem::new(StatusCode::BAD_REQUEST, "unknown_kind", detail)
        })
    }

    /// The name used in the API and in the audit log.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::EndActor(ActorEnd::Restart) => "restart-actor",
            Self::EndActor(ActorEnd::Drain) => "drain-actor",
            Self::EndActor(ActorEnd::Kill) => "kill-actor",
            Self::HandOver => "handoff-shard",
            Self::Rebalance => "rebalance",
            Self::Drain => "drain-node",
            Self::Resume => "resume-node",
            Self::Letters(Verb::Redrive) => "redrive",
            Self::Letters(Verb::Discard) => "discard",
        }
    }

    /// Who may have it done: what loses work takes an admin.
    pub(super) const fn least(self) -> Role {
        match self {
            Self::EndActor(ActorEnd::Kill) | Self::Letters(Verb::Discard) => Role::Admin,
            _ => Role::Operator,
        }
    }

    pub(super) const fn can_be_cancelled(self) -> bool {
        matches!(self, Self::Letters(_) | Self::Rebalance)
    }
}

impl Risk {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Finds what an action is about and says what it would do.
pub(super) async fn plan(api: &Api, kind: Kind, target: Target, options: Options) -> Result<Planned, Problem> {
    if let Kind::Letters(verb) = kind {
        return letters::plan(api, verb, target, &options).await;
    }
    let Target::Name(name) = target else {
        let detail = format!("`target` of {} must be a name", kind.label());
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_target", detail));
    };
    match kind {
        Kind::EndActor(how) => actors::plan(api, how, name).await,
        Kind::HandOver => shards::plan_hand_over(api, name, options.to.as_deref()).await,
        Kind::Rebalance => shards::plan_rebalance(api, name).await,
        Kind::Drain => nodes::plan_drain(api, &name, options.stay).await,
        Kind::Resume | Kind::Letters(_) => nodes::plan_resume(api, &name).await,
    }
}

/// The node of a name that is there, or may be again; a name may stand there twice, for an earlier boot, too.
pub(in crate::api) fn node_named(api: &Api, name: &str) -> Result<ClusterNode, Problem> {
    let nodes = api.nodes();
    let of_name = || nodes.iter().filter(|node| node.name == name && !node.has_left());
    let node = of_name().find(|node| node.presence != Presence::Dead).or_else(|| of_name().next());
    node.cloned().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "unknown_node", format!("there is no node `{name}`")))
}

/// Whether it can be told anything.
pub(super) const fn can_be_told(node: &ClusterNode) -> bool {
    matches!(node.presence, Presence::Here | Presence::Linked)
}

/// The answer about a node that cannot be told.
pub(in crate::api) fn unreachable(node: &ClusterNode, why: &str) -> Problem {
    let at = node.dashboard.as_deref().unwrap_or("an address that is not known");
    let detail = format!("{} cannot be told: {why}; ask it itself, at {at}", node.name);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "node_unreachable", detail)
}

/// The answer about what cannot be done now.
pub(super) fn not_now(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "not_now", detail)
}

/// The answer about what is never done.
pub(super) fn not_allowed(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "not_allowed", detail)
}
