//! A broker of messages that keeps each one until it is acknowledged.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::RemoteFailure;

/// Messages of one topic filter, for one client that the broker knows again.
#[async_trait]
pub trait MessageSource: Send + Sync {
    /// Connects and subscribes. What an earlier connection did not acknowledge comes again.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    async fn connect(&self) -> Result<Connection, RemoteFailure>;
}

/// A connection that lasts until its messages end.
pub struct Connection {
    /// What comes in.
    pub messages: Box<dyn Messages>,
    /// The way back, good for the messages of this connection alone.
    pub acks: Arc<dyn Acks>,
    /// Whether the broker knew the client, and so kept for it what was published meanwhile.
    pub resumed: bool,
}

/// The messages of a connection.
#[async_trait]
pub trait Messages: Send {
    /// Waits for the next one. It has to be asked all the time: the connection lives and acknowledgements leave only meanwhile.
    ///
    /// # Errors
    /// When the connection is lost, which ends it for good.
    async fn next(&mut self) -> Result<Message, RemoteFailure>;
}

/// Acknowledges the messages of a connection.
pub trait Acks: Send + Sync {
    /// Tells the broker that it need not keep a message any longer. Of a connection that is lost, nothing happens.
    fn acknowledge(&self, receipt: Receipt);
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// What was published.
    pub payload: Bytes,
    /// What it is acknowledged with; none if the broker does not keep it (QoS 0).
    pub receipt: Option<Receipt>,
}

/// The name of a message within its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(pub u16);
