//! What is not as it should be: typed rules over what all nodes say of themselves.
//!
//! The rules are pure: plain data in, suspicions out. A suspicion becomes a finding when it has lasted for as long as its rule
//! asks, and a finding goes when nothing has spoken for it for a while (`tracker`). What has to be known of earlier moments stands
//! in `past`. Durations that a node can measure itself come from that node (`facts`), so that a rule need not have watched it.

mod cause;
mod facts;
mod flow;
mod lanes;
mod letters;
mod nodes;
mod past;
mod services;
mod shards;
mod tracker;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(crate) use cause::cause_of;
pub(crate) use facts::{FreshLetterFact, NodeFacts};
pub(crate) use past::{Past, Rates};
pub(crate) use tracker::Tracker;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Work stands still, or something may be lost.
    Critical,
    /// Somebody should look at it.
    Warning,
    /// Good to know; no reason to call anything unhealthy.
    Info,
}

impl Severity {
    /// Its name, if it makes the cluster unhealthy.
    pub(crate) const fn counted(self) -> Option<&'static str> {
        match self {
            Self::Critical => Some("critical"),
            Self::Warning => Some("warning"),
            Self::Info => None,
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Stays the same for as long as it lasts.
    pub(crate) id: String,
    pub(crate) rule: String,
    pub(crate) severity: Severity,
    /// What it is about: a node, a lane, an actor, a service or a stage.
    pub(crate) target: String,
    /// The node that it is about; null for what is all nodes'.
    pub(crate) node: Option<String>,
    pub(crate) since: String,
    pub(crate) text: String,
    /// The row of the dashboard that proves it.
    pub(crate) link: String,
    /// What to do about it.
    pub(crate) next: String,
}

/// What a rule says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspicion {
    rule: &'static str,
    severity: Severity,
    target: String,
    node: Option<String>,
    text: String,
    link: String,
    next: &'static str,
    /// How long it has to last before it is told.
    after: Duration,
}

/// All nodes at one moment, as one of them hears them.
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<SeenNode<'a>>,
    pub(crate) shards: Vec<SeenShard<'a>>,
    /// New dead letters that nobody has settled.
    pub(crate) letters: Vec<&'a FreshLetterFact>,
}

/// One node.
pub(crate) struct SeenNode<'a> {
    pub(crate) name: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) presence: &'a str,
    /// Why it does not answer, unless it is missed by nobody.
    pub(crate) silent: Option<&'a str>,
    /// What it says now.
    pub(crate) status: Option<SeenStatus<'a>>,
    /// Whether it holds back because it cannot show that it lives.
    pub(crate) paused: bool,
}

/// What a node says.
#[derive(Clone, Copy)]
pub(crate) struct SeenStatus<'a> {
    pub(crate) state: &'a str,
    pub(crate) uptime: Duration,
    /// Whether its ingest lane should be connected and is not, and why.
    pub(crate) ingest_trouble: Option<&'a str>,
    /// Its clock less that of whoever hears it, in milliseconds.
    pub(crate) clock_off_ms: Option<i64>,
    pub(crate) facts: &'a NodeFacts,
}

/// One lease, and who runs a lane for it.
pub(crate) struct SeenShard<'a> {
    pub(crate) role: &'a str,
    pub(crate) shard: &'a str,
    pub(crate) owner: Option<&'a str>,
    pub(crate) unowned: Option<Duration>,
    /// The nodes that answer and work on it.
    pub(crate) runners: Vec<&'a str>,
}

impl Suspicion {
    fn new(rule: &'static str, severity: Severity, target: impl Into<String>, text: String) -> Self {
        let (target, after) = (target.into(), Duration::ZERO);
        Self { rule, severity, target, node: None, text, link: "#/overview".to_owned(), next: "", after }
    }

    fn on(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }
    }

    fn link(self, link: String) -> Self {
        Self { link, ..self }
    }

    fn next(self, next: &'static str) -> Self {
        Self { next, ..self }
    }

    fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    fn id(&self) -> String {
        format!("{}:{}:{}", self.rule, self.node.as_deref().unwrap_or("all"), self.target)
    }
}

/// Everything that the rules have to say about a moment.
pub(crate) fn suspicions(scene: &Scene<'_>, past: &Past) -> Vec<Suspicion> {
    let mut all = nodes::suspicions(scene, past);
    all.extend(services::suspicions(scene));
    all.extend(lanes::suspicions(scene, past));
    all.extend(shards::suspicions(scene, past));
    all.extend(flow::suspicions(scene, past));
    all.extend(letters::suspicions(scene));
    all
}

#[cfg(test)]
mod sample {
    //! A healthy scene that tests spoil.

    use super::*;

    pub(super) fn lane(role: &str, shard: &str) -> facts::LaneFact {
        facts::LaneFact {
            role: role.to_owned(),
            shard: shard.to_owned(),
            state: "running".to_owned(),
            ..facts::LaneFact::default()
        }
    }

    pub(super) fn node<'a>(name: &'a str, worker: &'a str, facts: &'a NodeFacts) -> SeenNode<'a> {
        let status =
            SeenStatus { state: "running", uptime: Duration::from_secs(900), ingest_trouble: None, clock_off_ms: Some(3), facts };
        SeenNode { name, worker, presence: "linked", silent: None, status: Some(status), paused: false }
    }

    pub(super) fn scene(nodes: Vec<SeenNode<'_>>) -> Scene<'_> {
        Scene { now: Instant::now(), nodes, shards: Vec::new(), letters: Vec::new() }
    }

    pub(super) fn rules(suspicions: &[Suspicion]) -> Vec<&str> {
        suspicions.iter().map(|suspicion| suspicion.rule).collect()
    }
}
