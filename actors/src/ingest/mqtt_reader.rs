//! Holds the connection to the broker, and acknowledges what is stored.
//!
//! Child of `IngestSupervisor`. Sends each message to `StreamWriter` and hears from it when it is stored. Only then is it
//! acknowledged, and only over the connection that it came with. A lost connection is made anew after a delay, when everything that
//! came over it is stored, so that no more than one window of messages is ever in memory. The supervisor is told of a loss, since
//! the cause may be that another node connected under the same name. A panic in the connection's task ends this actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::IngestSettings;
use super::intake::Piece;
use super::stream_writer::StreamWriterMsg;
use crate::flow::Backoff;
use crate::observe::{Mailbox, Meter, Outlet};
use crate::ports::{Acks, FailureKind, Message, Receipt, RemoteFailure};

/// Delays before a lost connection is made anew: half of it at least, and AWS IoT takes one a second from a client.
const RECONNECT: Backoff = Backoff { first: Duration::from_secs(2), most: Duration::from_secs(60) };
/// A connection that lasted for so long begins with the first delay again.
const PROVEN_AFTER: Duration = Duration::from_secs(30);
/// How long the last acknowledgements may take to leave.
const LAST_ACKS: Duration = Duration::from_millis(200);

pub(super) struct MqttReader;

#[derive(Debug)]
pub(super) enum MqttReaderMsg {
    ConnectDue,
    Connected(Link),
    Arrived(Message),
    Lost(RemoteFailure),
    /// These are stored; each with the connection it came with.
    Stored(Vec<Stamp>),
    /// Lets nothing more in, and answers when everything that came is stored and acknowledged.
    Drain(RpcReplyPort<()>),
    AcksLeft,
}

/// Which message of which connection.
pub(super) type Stamp = (u64, Option<Receipt>);

/// What came of a connection that was made.
pub(super) struct Link {
    acks: Arc<dyn Acks>,
    resumed: bool,
}

pub(super) struct MqttReaderArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) settings: IngestSettings,
    pub(super) writer: Mailbox<StreamWriterMsg>,
    /// Told when a connection is lost.
    pub(super) lost: Outlet<()>,
}

pub(super) struct MqttReaderState {
    myself: Mailbox<MqttReaderMsg>,
    args: MqttReaderArgs,
    /// Counts connections.
    connection: u64,
    acks: Option<Arc<dyn Acks>>,
    /// Messages that came and are not stored yet; the connection's task adds to it.
    open: Arc<AtomicUsize>,
    /// Messages so far.
    n: u64,
    losses: u32,
    connected_at: Option<Instant>,
    waits_for_writer: bool,
    drained: Option<RpcReplyPort<()>>,
    running: JoinSet<()>,
}

impl ractor::Message for MqttReaderMsg {}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Actor for MqttReader {
    type Msg = MqttReaderMsg;
    type State = MqttReaderState;
    type Arguments = MqttReaderArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<MqttReaderMsg>,
        args: MqttReaderArgs,
    ) -> Result<MqttReaderState, ActorProcessingErr> {
        let myself = Mailbox::new(myself, Arc::clone(&args.meter));
        args.writer.cast(StreamWriterMsg::Serve(myself.outlet(MqttReaderMsg::Stored)))?;
        myself.cast(MqttReaderMsg::ConnectDue)?;
        Ok(MqttReaderState {
            myself,
            args,
            connection: 0,
            acks: None,
            open: Arc::default(),
            n: 0,
            losses: 0,
            connected_at: None,
            waits_for_writer: false,
            drained: None,
            running: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<MqttReaderMsg>,
        message: MqttReaderMsg,
        state: &mut MqttReaderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MqttReaderMsg::ConnectDue => state.connect(),
            MqttReaderMsg::Connected(link) => state.connected(link),
            MqttReaderMsg::Arrived(message) => state.arrived(message)?,
            MqttReaderMsg::Lost(failure) => state.lost(&failure)?,
            MqttReaderMsg::Stored(stamps) => state.stored(&stamps),
            MqttReaderMsg::Drain(done) => {
                state.drained = Some(done);
                state.end_if_drained();
            }
            MqttReaderMsg::AcksLeft => {
                state.running.abort_all();
                if let Some(done) = state.drained.take() {
                    // Who asked may have given up.
                    let _gone = done.send(());
                }
            }
        }
        while let Some(ended) = state.running.try_join_next() {
            match ended {
                Err(error) if error.is_panic() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl MqttReaderState {
    fn connect(&mut self) {
        if self.drained.is_some() {
            return;
        }
        self.connection += 1;
        let (settings, myself, open) = (self.args.settings.clone(), self.myself.clone(), Arc::clone(&self.open));
        self.running.spawn(async move {
            // When the actor is gone there is nobody left to tell.
            if let Err(failure) = listen(&settings, &myself, &open).await {
                let _gone = myself.cast(MqttReaderMsg::Lost(failure));
            }
        });
    }

    fn connected(&mut self, link: Link) {
        let IngestSettings { client_id, topic_filter, stats, .. } = &self.args.settings;
        stats.connected(link.resumed);
        let resumed = link.resumed;
        tracing::info!(client_id, topic_filter, resumed, "connected to the MQTT broker");
        self.acks = Some(link.acks);
        self.connected_at = Some(Instant::now());
    }

    fn arrived(&mut self, message: Message) -> Result<(), ActorProcessingErr> {
        if self.drained.is_some() {
            // It comes again to whoever connects next.
            self.open.fetch_sub(1, Relaxed);
            return Ok(());
        }
        self.args.settings.stats.received();
        self.n += 1;
        let stamp = (self.connection, message.receipt);
        let piece = Piece::of(message, &self.args.settings.client_id, self.n);
        self.note_open();
        self.args.writer.cast(StreamWriterMsg::Accept(piece, stamp))?;
        Ok(())
    }

    fn lost(&mut self, failure: &RemoteFailure) -> Result<(), ActorProcessingErr> {
        tracing::warn!(%failure, "no connection to the MQTT broker");
        self.args.settings.stats.lost(&failure.to_string());
        self.acks = None;
        if self.connected_at.take().is_some_and(|since| since.elapsed() >= PROVEN_AFTER) {
            self.losses = 0;
        }
        self.waits_for_writer = true;
        self.reconnect_if_empty();
        self.end_if_drained();
        self.args.lost.send(())?;
        Ok(())
    }

    fn stored(&mut self, stamps: &[Stamp]) {
        self.open.fetch_sub(stamps.len(), Relaxed);
        if let Some(acks) = &self.acks {
            for receipt in
                stamps.iter().filter(|(connection, _)| *connection == self.connection).filter_map(|(_, receipt)| *receipt)
            {
                acks.acknowledge(receipt);
                self.args.settings.stats.acknowledged();
            }
        }
        self.note_open();
        self.reconnect_if_empty();
        self.end_if_drained();
    }

    fn reconnect_if_empty(&mut self) {
        if self.waits_for_writer && self.open.load(Relaxed) == 0 {
            self.waits_for_writer = false;
            let delay = RECONNECT.delay(self.losses, rand::random());
            self.losses += 1;
            self.myself.cast_after(delay, || MqttReaderMsg::ConnectDue);
        }
    }

    fn end_if_drained(&mut self) {
        if self.drained.is_some() && self.open.load(Relaxed) == 0 {
            self.myself.cast_after(LAST_ACKS, || MqttReaderMsg::AcksLeft);
        }
    }

    fn note_open(&self) {
        self.args.settings.stats.open(self.open.load(Relaxed));
    }
}

/// One connection, from its beginning to its end.
async fn listen(settings: &IngestSettings, myself: &Mailbox<MqttReaderMsg>, open: &AtomicUsize) -> Result<(), RemoteFailure> {
    let mut connection = settings.source.connect().await?;
    let link = Link { acks: connection.acks, resumed: connection.resumed };
    if myself.cast(MqttReaderMsg::Connected(link)).is_err() {
        return Ok(());
    }
    loop {
        let message = connection.messages.next().await?;
        if open.load(Relaxed) >= settings.in_flight {
            if message.receipt.is_none() {
                settings.stats.dropped();
                continue;
            }
            let detail = format!("the broker sends more than {} messages without an acknowledgement", settings.in_flight);
            return Err(RemoteFailure { call: "mqtt receive", kind: FailureKind::Refused, detail });
        }
        open.fetch_add(1, Relaxed);
        if myself.cast(MqttReaderMsg::Arrived(message)).is_err() {
            return Ok(());
        }
    }
}
