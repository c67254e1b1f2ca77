//! What an operator may have a node do, and which of its actors may be ended.
//!
//! Orders travel between nodes as postcard, so variants may only be added at the end, and none may change its fields.

use serde::{Deserialize, Serialize};

/// Something that a node is to do about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeOrder {
    /// End an actor, so that its supervisor starts it again.
    EndActor {
        /// Its path.
        path: String,
        /// In which way.
        how: ActorEnd,
        /// Who says so.
        by: String,
        /// Why, in their words.
        reason: String,
    },
    /// Hand a lease over.
    HandOver {
        /// The application's name.
        application: String,
        /// The shard.
        shard: String,
        /// The worker that is to have it; else whoever holds the fewest.
        to: Option<String>,
    },
    /// Look at the leases of an application now, and ask for what is missing to a fair share.
    Balance {
        /// The application's name.
        application: String,
    },
    /// Give all leases away and take none, but stay.
    StandAside,
    /// Take part again after standing aside.
    Resume,
}

/// How an actor is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorEnd {
    /// At once, in the middle of what it does.
    Kill,
    /// After the message in hand.
    Restart,
    /// After the messages in its mailbox. A lane finishes what it has begun and writes its checkpoint.
    Drain,
}

/// What a node says to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderAnswer {
    /// It has begun.
    Begun,
    /// It will not, and why; what is more, nothing has changed.
    Refused(OrderRefusal, String),
}

/// Why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderRefusal {
    /// There is no such actor, shard or application here.
    NotFound,
    /// It is never done.
    NotAllowed,
    /// It cannot be done now.
    NotNow,
}

impl ActorEnd {
    /// The word in the restart log.
    #[must_use]
    pub const fn past(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Restart => "restarted",
            Self::Drain => "drained",
        }
    }
}

impl OrderAnswer {
    pub(crate) fn not_now(why: impl Into<String>) -> Self {
        Self::Refused(OrderRefusal::NotNow, why.into())
    }

    pub(crate) fn not_found(why: impl Into<String>) -> Self {
        Self::Refused(OrderRefusal::NotFound, why.into())
    }
}

/// Why no operator may end an actor of this kind, and what to do instead; `None` if they may.
#[must_use]
pub fn why_never_ended(kind: &str) -> Option<&'static str> {
    match kind {
        "NodeSupervisor" => Some("it is the root of its node's tree, and the process ends with it; drain the node instead"),
        "Membership" | "Gateway" => Some(
            "orders and their answers travel over the links that it keeps; lost links are dialled again by themselves, and \
             draining the node and starting it again renews all of them",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_orders_stay_as_other_versions_know_them() {
        let bytes = |order: &NodeOrder| postcard::to_stdvec(order).expect("plain values");
        let (path, by, reason) = ("n/x".to_owned(), "op".to_owned(), "r".to_owned());
        assert_eq!(bytes(&NodeOrder::EndActor { path, how: ActorEnd::Drain, by, reason }), b"\x00\x03n/x\x02\x02op\x01r");
        let hand_over = NodeOrder::HandOver { application: "a".into(), shard: "s".into(), to: Some("n#1".into()) };
        assert_eq!(bytes(&hand_over), b"\x01\x01a\x01s\x01\x03n#1");
        let others = [NodeOrder::Balance { application: "a".into() }, NodeOrder::StandAside, NodeOrder::Resume];
        assert_eq!(others.each_ref().map(bytes), [vec![2, 1, b'a'], vec![3], vec![4]]);
        let refused = OrderAnswer::Refused(OrderRefusal::NotNow, "w".into());
        assert_eq!(postcard::to_stdvec(&refused).expect("plain values"), b"\x01\x02\x01w");
    }
}
