//! What a node needs to be one of several.

use std::sync::Arc;
use std::time::Duration;

use super::{Desk, Links};
use crate::adapters::ClusterSocket;
use crate::flow::{Backoff, Pulse};
use crate::ports::{NodeRow, NodeTable};

/// How a node is linked to others and shows that it lives.
#[derive(Clone)]
pub struct MembershipSettings {
    /// This node's row, with the heartbeat 0.
    pub me: NodeRow,
    /// The node table; without one nodes meet only by [`MembershipSettings::join`], and nobody is ever declared dead.
    pub table: Option<Arc<dyn NodeTable>>,
    /// Takes and makes connections.
    pub socket: Arc<ClusterSocket>,
    /// Addresses of nodes to link to, whatever the node table says.
    pub join: Vec<String>,
    /// The secret that all nodes share.
    pub cookie: String,
    /// Is kept up to date.
    pub links: Links,
    /// What other nodes are answered from.
    pub desk: Desk,
    /// Beats with every heartbeat that was written.
    pub pulse: Pulse,
    /// Called when a later start of this node's name has taken over, so that this process must end.
    pub superseded: Arc<dyn Fn() + Send + Sync>,
    /// How fast all of it goes.
    pub timings: ClusterTimings,
}

/// How fast nodes notice each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterTimings {
    /// Between two heartbeats in the node table.
    pub beat_every: Duration,
    /// Between two scans of the node table.
    pub scan_every: Duration,
    /// The same while a node is neither linked nor dead.
    pub scan_every_in_doubt: Duration,
    /// How long a heartbeat must stand still before a node that is not linked counts as dead. A node whose own heartbeat is as
    /// old stands still by itself; see [`Pulse`].
    pub still_for: Duration,
    /// Between two pings of a link.
    pub ping_every: Duration,
    /// How long a ping may take; less than the time between two.
    pub ping_timeout: Duration,
    /// Pings in a row without an answer that end a link.
    pub most_misses: u32,
    /// How long a session may take to become a link.
    pub ready_within: Duration,
    /// Delays between dials of one address.
    pub redial: Backoff,
}

impl MembershipSettings {
    /// The addresses to join, without this node's own.
    pub(super) fn others_to_join(&self) -> impl Iterator<Item = String> {
        self.join.iter().filter(|address| self.me.address.as_ref() != Some(address)).cloned()
    }
}

impl Default for ClusterTimings {
    fn default() -> Self {
        Self {
            beat_every: Duration::from_secs(1),
            scan_every: Duration::from_secs(1),
            scan_every_in_doubt: Duration::from_millis(250),
            still_for: Duration::from_secs(2),
            ping_every: Duration::from_millis(500),
            ping_timeout: Duration::from_millis(400),
            most_misses: 3,
            ready_within: Duration::from_secs(5),
            redial: Backoff { first: Duration::from_millis(500), most: Duration::from_secs(4) },
        }
    }
}
