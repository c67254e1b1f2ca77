//! An MQTT broker in memory, with one client's session.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::Outage;
use crate::ports::{Acks, Connection, FailureKind, Message, MessageSource, Messages, Receipt, RemoteFailure};

/// The fake [`MessageSource`]. Clones share the session.
#[derive(Clone)]
pub struct MemoryBroker {
    /// How connecting fails.
    pub outage: Outage,
    in_flight: usize,
    session: Arc<Mutex<Session>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Session {
    queued: VecDeque<Bytes>,
    unacknowledged: BTreeMap<u16, Bytes>,
    /// Which connection is the one that counts.
    connection: u64,
    next_receipt: u16,
    acknowledged: Vec<Bytes>,
    most_unacknowledged: usize,
}

struct Incoming {
    broker: MemoryBroker,
    connection: u64,
}

impl MemoryBroker {
    /// A broker that sends so many messages before it wants an acknowledgement.
    #[must_use]
    pub fn new(in_flight: usize) -> Self {
        Self { outage: Outage::default(), in_flight, session: Arc::default(), changed: Arc::default() }
    }

    /// Takes a message for the session.
    pub fn publish(&self, payload: impl Into<Bytes>) {
        self.with(|session| session.queued.push_back(payload.into()));
        self.changed.notify_waiters();
    }

    /// Breaks the connection, as another client under the same name would.
    pub fn cut(&self) {
        self.with(|session| session.connection += 1);
        self.changed.notify_waiters();
    }

    /// What was acknowledged, in that order.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Bytes> {
        self.with(|session| session.acknowledged.clone())
    }

    /// Connections made and broken so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.with(|session| session.connection)
    }

    /// The most messages that were ever sent and not acknowledged.
    #[must_use]
    pub fn most_unacknowledged(&self) -> usize {
        self.with(|session| session.most_unacknowledged)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        change(&mut self.session.lock().expect("no fake panics with its session locked"))
    }
}

#[async_trait]
impl MessageSource for MemoryBroker {
    async fn connect(&self) -> Result<Connection, RemoteFailure> {
        let broker = self.clone();
        let (connection, resumed) = self
            .outage
            .call(|| {
                self.with(|session| {
                    let resumed = session.connection > 0;
                    session.connection += 1;
                    for (_, payload) in std::mem::take(&mut session.unacknowledged).into_iter().rev() {
                        session.queued.push_front(payload);
                    }
                    (session.connection, resumed)
                })
            })
            .await?;
        self.changed.notify_waiters();
        let incoming = || Incoming { broker: broker.clone(), connection };
        Ok(Connection { messages: Box::new(incoming()), acks: Arc::new(incoming()), resumed })
    }
}

#[async_trait]
impl Messages for Incoming {
    async fn next(&mut self) -> Result<Message, RemoteFailure> {
        loop {
            let changed = self.broker.changed.notified();
            let sent = self.broker.with(|session| {
                if session.connection != self.connection {
                    let detail = "the connection was cut".to_owned();
                    return Err(RemoteFailure { call: "fake", kind: FailureKind::Unreachable, detail });
                }
                if session.unacknowledged.len() >= self.broker.in_flight {
                    return Ok(None);
                }
                let Some(payload) = session.queued.pop_front() else { return Ok(None) };
                session.next_receipt += 1;
                let receipt = session.next_receipt;
                session.unacknowledged.insert(receipt, payload.clone());
                session.most_unacknowledged = session.most_unacknowledged.max(session.unacknowledged.len());
                Ok(Some(Message { topic: "rtr/iot/trafficdata".to_owned(), payload, receipt: Some(Receipt(receipt)) }))
            })?;
            match sent {
                Some(message) => return Ok(message),
                None => changed.await,
            }
        }
    }
}

impl Acks for Incoming {
    fn acknowledge(&self, receipt: Receipt) {
        self.broker.with(|session| {
            if session.connection == self.connection
                && let Some(payload) = session.unacknowledged.remove(&receipt.0)
            {
                session.acknowledged.push(payload);
            }
        });
        self.broker.changed.notify_waiters();
    }
}
