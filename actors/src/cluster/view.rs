//! Which nodes there are, as this node sees it.

use std::time::Duration;

/// All nodes of the node table and all linked ones, this one included, sorted by name. `Membership` sends a new one whenever
/// something changes that bears on leases.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterView {
    /// The nodes.
    pub nodes: Vec<ClusterNode>,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// `<name>#<boot>`: the owner in its leases.
    pub worker: String,
    /// Where it is reached by other nodes.
    pub address: Option<String>,
    /// URL of its API.
    pub dashboard: Option<String>,
    /// Its kinds of lane, by label.
    pub roles: Vec<String>,
    /// Whether it is giving its leases away.
    pub draining: bool,
    /// Whether it is there.
    pub presence: Presence,
    /// Round trip of the last heartbeat over the link.
    pub round_trip: Option<Duration>,
    /// Heartbeats in a row that the link did not answer.
    pub misses: u32,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// This node itself.
    Here,
    /// Linked, and its link answers.
    Linked,
    /// Not linked, but its row in the node table moves: it works, and keeps its leases.
    Unlinked,
    /// Not linked, and its row has not moved lately, though not long enough to call it dead.
    Suspect,
    /// Not linked, and its row stood still for too long or was taken away, or a later boot of its name has begun: its leases
    /// are free.
    Dead,
}

impl ClusterView {
    /// Whether this owner of leases is known to be dead: it is shown so, or a later boot of its name is there.
    #[must_use]
    pub fn is_dead(&self, worker: &str) -> bool {
        if let Some(node) = self.worker(worker) {
            return node.presence == Presence::Dead;
        }
        let Some((name, boot)) = boot_of(worker) else { return false };
        self.nodes.iter().filter_map(|node| boot_of(&node.worker)).any(|(other, later)| other == name && later > boot)
    }

    /// Whether nothing but heartbeats of links came in between.
    pub(super) fn is_same_but_for_round_trips(&self, other: &Self) -> bool {
        let bare = |node: &ClusterNode| ClusterNode { round_trip: None, misses: 0, ..node.clone() };
        self.nodes.len() == other.nodes.len() && self.nodes.iter().zip(&other.nodes).all(|(a, b)| bare(a) == bare(b))
    }

    /// The node that writes this owner into leases.
    #[must_use]
    pub fn worker(&self, worker: &str) -> Option<&ClusterNode> {
        self.nodes.iter().find(|node| node.worker == worker)
    }
}

impl ClusterNode {
    /// Whether it ended on purpose: it drained before. It is shown for a minute so that what it could not give away is free.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.draining && self.presence == Presence::Dead
    }

    /// The name used in the API for whether it is there.
    #[must_use]
    pub fn label(&self) -> &'static str {
        if self.has_left() { Self::LEFT } else { self.presence.label() }
    }

    /// The label of a node that ended on purpose.
    pub const LEFT: &'static str = "left";
}

fn boot_of(worker: &str) -> Option<(&str, u64)> {
    let (name, boot) = worker.rsplit_once('#')?;
    Some((name, boot.parse().ok()?))
}

impl Presence {
    /// The name used in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}
