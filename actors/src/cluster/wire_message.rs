//! What nodes say to each other, as bytes.
//!
//! Postcard does not describe itself, so nothing here may ever change its fields: a newer node says something new by a new
//! variant of `GatewayMsg`, which an older one does not answer.

use ractor::BytesConvertable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A value on its way between two nodes. What came from another node may not be readable: it may run another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wire<T>(pub(super) Result<T, Unreadable>);

/// Bytes that are no such value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other node says what this one does not understand")]
pub(super) struct Unreadable;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) boot: u64,
    /// Where it takes links.
    pub(super) address: Option<String>,
    /// URL of its API.
    pub(super) dashboard: Option<String>,
    pub(super) roles: Vec<String>,
    pub(super) draining: bool,
}

/// A question for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaseQuestion {
    pub(super) application: String,
    /// The worker that would take it.
    pub(super) taker: String,
}

/// The answer to a question for a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PageAnswer {
    Page(Vec<u8>),
    NoSuchPage,
    /// Its length: more than may go over a link, where it would hold up heartbeats.
    TooLong(u64),
}

impl<T> Wire<T> {
    pub(super) const fn of(value: T) -> Self {
        Self(Ok(value))
    }
}

impl<T: Serialize + DeserializeOwned> BytesConvertable for Wire<T> {
    fn into_bytes(self) -> Vec<u8> {
        // What was not readable here is not readable there either.
        let Ok(value) = self.0 else { return Vec::new() };
        postcard::to_stdvec(&value).expect("plain values have a length and no foreign code in them")
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(postcard::from_bytes(&bytes).map_err(|_| Unreadable))
    }
}

impl About {
    /// The owner that this boot writes into leases.
    pub(super) fn worker(&self) -> String {
        format!("{}#{}", self.name, self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_other_bytes_are_no_value() {
        let question = LeaseQuestion { application: "a".into(), taker: "n2#7".into() };
        let bytes = Wire::of(question.clone()).into_bytes();
        assert_eq!(bytes, b"\x01a\x04n2#7", "these bytes are what other versions understand");
        assert_eq!(Wire::<LeaseQuestion>::from_bytes(bytes), Wire::of(question));
        assert_eq!(Wire::<LeaseQuestion>::from_bytes(vec![9]), Wire(Err(Unreadable)));
        assert_eq!(Wire::of(PageAnswer::NoSuchPage).into_bytes(), [1]);
    }
}
