//! Drives the connection: keeps the window full, counts acknowledgements, connects anew and sends again what is open.
//!
//! A new event loop is made for each connection. The library's own resending drops everything queued when the broker kept
//! no session (after an hour offline AWS IoT never has one), and can stall on packet ids left over from the old connection.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::commands::publish::PublishArgs;
use crate::event_ids::{EventIds, random_u64};
use crate::failure::Failure;
use crate::light::{Light, LightState};
use crate::link_error::{LinkError, judge};
use crate::reading::{MAX_PAYLOAD_BYTES, timestamp};
use crate::report::{RejectedRow, Report};
use crate::source::{Item, Source};
use crate::window::Window;

/// Below 30 s AWS IoT takes 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// So many connections in a row that the broker accepted and ended before it acknowledged a first reading: AWS IoT tells a
/// client in no other way that its policy does not allow it to publish.
const MAX_FRUITLESS: u32 = 5;
/// The farewell is a courtesy: everything is acknowledged by then.
const FAREWELL: Duration = Duration::from_secs(1);

pub(crate) struct Publisher<'a> {
    args: &'a PublishArgs,
    tls: Arc<ClientConfig>,
    source: Source,
    light: &'a mut dyn Light,
    report: &'a mut Report,
    progress: ProgressBar,
    window: Window,
    backoff: Backoff,
    source_ended: bool,
    started: Instant,
    ever_connected: bool,
    hang_ups: u32,
    /// Last moment at which nothing was owed to us, or an acknowledgement came.
    progress_at: Instant,
}

/// How one connection ended.
enum Ended {
    AllAcknowledged,
    Lost(LinkError),
}

struct Interrupt {
    int: Signal,
    term: Signal,
}

impl Interrupt {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|e| Failure::BadInput { what: format!("cannot listen for signals: {e}") });
        Ok(Self { int: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

impl<'a> Publisher<'a> {
    pub(crate) fn new(
        args: &'a PublishArgs,
        tls: Arc<ClientConfig>,
        source: Source,
        light: &'a mut dyn Light,
        report: &'a mut Report,
        progress: ProgressBar,
    ) -> Self {
        let now = Instant::now();
        Self {
            args,
            tls,
            source,
            light,
            report,
            progress,
            window: Window::new(args.window, packet_ids(args.window)),
            backoff: Backoff::new(args.connection.is_loopback()),
            source_ended: false,
            started: now,
            ever_connected: false,
            hang_ups: 0,
            progress_at: now,
        }
    }

    /// Returns when every reading of the file is acknowledged, or with the reason why not.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let ended = self.publish_all().await;
        self.report.seconds = (self.started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
        ended
    }

    async fn publish_all(&mut self) -> Result<(), Failure> {
        let device = self.args.device_id().map_err(|what| Failure::Usage { what })?;
        let start = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0);
        let mut ids = EventIds::new(device, start, random_u64());
        let mut interrupt = Interrupt::new()?;
        loop {
            let error = match self.connection(&mut ids, &mut interrupt).await? {
                Ended::AllAcknowledged => return Ok(()),
                Ended::Lost(error) => error,
            };
            self.window.connection_lost();
            self.light.show(LightState::Offline);
            if let Some(failure) = error.fatal(&self.args.connection) {
                return Err(failure);
            }
            self.hang_ups += u32::from(error.is_hang_up());
            if self.hang_ups >= MAX_FRUITLESS && self.report.acknowledged == 0 {
                return Err(self.publishing_refused());
            }
            let wait = self.backoff.next_wait(random_u64());
            let limit = self.give_up_at();
            if Instant::now() + wait >= limit {
                return Err(self.unreachable(&error));
            }
            warn!("{error}; {} readings unacknowledged; next attempt in {:.1} s", self.window.len(), wait.as_secs_f64());
            tokio::select! {
                () = sleep(wait) => {}
                () = interrupt.recv() => return Err(self.interrupted()),
            }
        }
    }

    /// One connection, from CONNECT to its end.
    async fn connection(&mut self, ids: &mut EventIds, interrupt: &mut Interrupt) -> Result<Ended, Failure> {
        let (client, mut link) = AsyncClient::new(self.options(), usize::from(self.args.window) + 1);
        link.network_options.set_connection_timeout(self.args.connect_timeout().as_secs().clamp(1, 10));
        let mut connected = false;
        loop {
            let event = {
                // The poll is kept across timers: the library does not promise that a half-done one may be dropped.
                let mut poll = pin!(link.poll());
                loop {
                    let wake = self.wake_at();
                    tokio::select! {
                        event = &mut poll => break event,
                        item = self.source.next(), if connected && !self.source_ended && self.window.has_room(self.report.published + 1) => {
                            self.take(item?, ids)?;
                        }
                        () = sleep_until(wake.into()) => {}
                        () = interrupt.recv() => return Err(self.interrupted()),
                    }
                    if let Some(error) = self.overdue(connected)? {
                        return Ok(Ended::Lost(error));
                    }
                    if connected {
                        if let Some(error) = self.send(&client) {
                            return Ok(Ended::Lost(error));
                        }
                        if self.is_done() {
                            break Ok(Event::Outgoing(Outgoing::PingReq));
                        }
                    }
                }
            };
            match event {
                Ok(event) => self.note(&event, &mut connected),
                Err(error) => return Ok(Ended::Lost(judge(&error, connected))),
            }
            if connected {
                if let Some(error) = self.send(&client) {
                    return Ok(Ended::Lost(error));
                }
                if self.is_done() {
                    farewell(&client, &mut link).await;
                    return Ok(Ended::AllAcknowledged);
                }
            }
        }
    }

    fn note(&mut self, event: &Event, connected: &mut bool) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                info!("connected to {}:{}", self.args.connection.endpoint, self.args.connection.port);
                *connected = true;
                if !self.ever_connected {
                    self.ever_connected = true;
                    self.progress_at = Instant::now();
                }
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.window.written(*packet_id),
            Event::Incoming(Packet::PubAck(ack)) if self.window.acknowledged(ack.pkid) => {
                self.report.acknowledged += 1;
                self.progress_at = Instant::now();
                self.backoff.reset();
                if self.window.is_empty() {
                    self.light.show(LightState::Sent);
                }
                if self.report.acknowledged % 64 == 0 {
                    self.progress.set_position(self.source.bytes_read());
                    self.progress.set_message(format!("{} acknowledged", self.report.acknowledged));
                }
            }
            _ => {}
        }
        // A sender that owes nothing waits for its rate, not for the broker.
        if *connected && self.window.is_empty() {
            self.progress_at = Instant::now();
        }
    }

    /// Hands over what is to be sent, also again.
    fn send(&mut self, client: &AsyncClient) -> Option<LinkError> {
        while let Some(send) = self.window.next_to_send(Instant::now()) {
            if send.is_repeat {
                self.report.repeats += 1;
            }
            // The queue holds a whole window and each connection gets a new one, so it cannot be full. Were it so all the
            // same, packet ids would no longer belong to the readings we think: only a new connection is safe then.
            if let Err(e) = client.try_publish(self.args.topic.as_str(), QoS::AtLeastOnce, false, send.payload) {
                return Some(LinkError::not_taken(&e));
            }
        }
        None
    }

    fn take(&mut self, item: Option<Item>, ids: &mut EventIds) -> Result<(), Failure> {
        let (line, reading, pressed_at) = match item {
            None => {
                self.source_ended = true;
                return Ok(());
            }
            Some(Item::Rejected(row)) => {
                self.report.rows += 1;
                self.report.reject(row);
                return Ok(());
            }
            Some(Item::Reading { line, reading, pressed_at }) => (line, reading, pressed_at),
        };
        self.report.rows += 1;
        let (seq, event_id) = ids.peek();
        let json = reading.to_json(&timestamp(pressed_at), &event_id, ids.device());
        let payload = json.map_err(|e| Failure::BadInput { what: format!("line {line} cannot be written as JSON: {e}") })?;
        if payload.len() > MAX_PAYLOAD_BYTES {
            let reason = format!("the message would have {} bytes, the limit is {MAX_PAYLOAD_BYTES}", payload.len());
            self.report.reject(RejectedRow { line, reason });
            return Ok(());
        }
        ids.used();
        self.window.push(seq, payload);
        self.report.published = seq;
        self.light.show(LightState::Queued);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.source_ended && self.window.is_empty()
    }

    /// When something other than the connection wants attention.
    fn wake_at(&self) -> Instant {
        let mut wake = self.give_up_at();
        if let Some(since) = self.window.waiting_since() {
            wake = wake.min(since + self.args.ack_timeout());
        }
        wake
    }

    fn give_up_at(&self) -> Instant {
        if self.ever_connected {
            self.progress_at + self.args.stall_timeout()
        } else {
            self.started + self.args.connect_timeout()
        }
    }

    /// Whether this connection, or the whole run, has waited long enough.
    fn overdue(&mut self, connected: bool) -> Result<Option<LinkError>, Failure> {
        let now = Instant::now();
        if connected && self.window.is_empty() {
            self.progress_at = now;
        }
        if now >= self.give_up_at() {
            let (endpoint, port) = (&self.args.connection.endpoint, self.args.connection.port);
            if connected {
                return Err(Failure::TimedOut {
                    what: format!(
                        "{endpoint}:{port} has acknowledged nothing for {} s; {} readings are unacknowledged. The broker may be \
                         overloaded, or its policy may not allow publishing to `{}`",
                        self.args.stall_timeout().as_secs(),
                        self.window.len(),
                        self.args.topic
                    ),
                });
            }
            return Err(self.unreachable(&LinkError::no_answer()));
        }
        let late = self.window.waiting_since().is_some_and(|since| now >= since + self.args.ack_timeout());
        Ok(late.then(|| LinkError::no_acknowledgement(self.args.ack_timeout())))
    }

    fn unreachable(&self, error: &LinkError) -> Failure {
        let limit = if self.ever_connected { self.args.stall_timeout() } else { self.args.connect_timeout() };
        Failure::Unreachable { what: error.gave_up(&self.args.connection, self.ever_connected, limit, self.window.len()) }
    }

    fn publishing_refused(&self) -> Failure {
        Failure::Refused {
            what: format!(
                "{}:{} accepts client `{}` but ended the connection {} times when readings came, and has acknowledged none. Check \
                 that its policy allows this client to publish to `{}`",
                self.args.connection.endpoint,
                self.args.connection.port,
                self.args.connection.client_id,
                self.hang_ups,
                self.args.topic
            ),
        }
    }

    fn interrupted(&self) -> Failure {
        Failure::Interrupted {
            what: format!(
                "interrupted: {} readings acknowledged, {} sent or about to be sent but not acknowledged, the rest of the file not read",
                self.report.acknowledged,
                self.window.len()
            ),
        }
    }

    fn options(&self) -> MqttOptions {
        let mut options =
            MqttOptions::new(&self.args.connection.client_id, &self.args.connection.endpoint, self.args.connection.port);
        options
            .set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(&self.tls))))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_inflight(packet_ids(self.args.window))
            // The library's default of 10 KiB would end the connection; topic and packet header come on top.
            .set_max_packet_size(64 * 1024, MAX_PAYLOAD_BYTES + 1024);
        options
    }
}

/// More packet ids than readings in flight, so that one late acknowledgement does not stop the others.
fn packet_ids(window: u16) -> u16 {
    window.saturating_mul(4)
}

async fn farewell(client: &AsyncClient, link: &mut EventLoop) {
    if client.try_disconnect().is_err() {
        return;
    }
    let until_written = async {
        while !matches!(link.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(ConnectionError::MqttState(_))) {}
    };
    // Whether it arrives changes nothing.
    drop(timeout(FAREWELL, until_written).await);
}
