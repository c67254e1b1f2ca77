//! Drives the connection: sends what is in the outbox, counts acknowledgements, connects anew and sends again what is open.
//! All the while, connected or not, it lets the intake bring new readings to disk.
//!
//! A new event loop is made for each connection. The library's own resending drops everything queued when the broker kept
//! no session (after an hour offline AWS IoT never has one), and can stall on packet ids left over from the old connection.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::commands::publish::PublishArgs;
use crate::event_ids::random_u64;
use crate::failure::Failure;
use crate::intake::Intake;
use crate::interrupt::Interrupt;
use crate::light::{Light, LightState};
use crate::link_error::{LinkError, judge};
use crate::outbox::Outbox;
use crate::reading::MAX_PAYLOAD_BYTES;
use crate::report::Report;
use crate::source::Item;
use crate::status::Status;
use crate::window::Window;

/// Below 30 s AWS IoT takes 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// So many connections in a row that the broker accepted and ended before it acknowledged a first reading: AWS IoT tells a
/// client in no other way that its policy does not allow it to publish.
const MAX_FRUITLESS: u32 = 5;
/// The farewell is a courtesy: everything is acknowledged by then.
const FAREWELL: Duration = Duration::from_secs(1);
/// Without any deadline there is still nothing to be lost by waking up.
const IDLE: Duration = Duration::from_secs(3_600);

pub(crate) struct Publisher<'a> {
    args: &'a PublishArgs,
    tls: Arc<ClientConfig>,
    intake: Intake,
    outbox: Outbox,
    light: &'a mut dyn Light,
    report: &'a mut Report,
    progress: ProgressBar,
    status: Option<Status>,
    window: Window,
    backoff: Backoff,
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

impl<'a> Publisher<'a> {
    pub(crate) fn new(
        args: &'a PublishArgs,
        tls: Arc<ClientConfig>,
        intake: Intake,
        outbox: Outbox,
        light: &'a mut dyn Light,
        report: &'a mut Report,
        progress: ProgressBar,
    ) -> Self {
        let now = Instant::now();
        let status = args.status_topic.clone().map(|topic| Status::new(topic, intake.device().to_owned()));
        Self {
            args,
            tls,
            intake,
            outbox,
            light,
            report,
            progress,
            status,
            window: Window::new(args.window, packet_ids(args.window)),
            backoff: Backoff::new(args.connection.is_loopback()),
            started: now,
            ever_connected: false,
            hang_ups: 0,
            progress_at: now,
        }
    }

    /// Returns when the source has ended and every reading is acknowledged, or with the reason why not.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let ended = self.publish_all().await;
        self.report.seconds = (self.started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
        self.report.waiting = self.outbox.waiting();
        self.report.dropped = self.outbox.dropped();
        self.report.damaged = self.outbox.damaged();
        if self.report.waiting > 0 {
            warn!("{} readings stay in the outbox `{}`", self.report.waiting, self.outbox.folder().display());
        }
        let closed = self.outbox.close();
        ended.and(closed.map_err(Failure::from))
    }

    async fn publish_all(&mut self) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        self.light.show(LightState::Offline);
        loop {
            let error = match self.connection(&mut interrupt).await? {
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
                let refused = self.publishing_refused();
                if self.args.stall_timeout().is_some() {
                    return Err(refused);
                }
                warn!("{refused}");
            }
            self.wait(&error, &mut interrupt).await?;
        }
    }

    /// Lets time pass before the next attempt to connect, or gives up if there is none left.
    async fn wait(&mut self, error: &LinkError, interrupt: &mut Interrupt) -> Result<(), Failure> {
        let now = Instant::now();
        let left = self.give_up_at().map_or(Duration::MAX, |limit| limit.saturating_duration_since(now));
        if left < self.backoff.min() {
            return Err(self.unreachable(error));
        }
        // The last attempt is made before time is up, not after.
        let wait = self.backoff.next_wait(random_u64()).min(left);
        warn!("{error}; {} readings unacknowledged; next attempt in {:.1} s", self.outbox.waiting(), wait.as_secs_f64());
        let until = now + wait;
        loop {
            tokio::select! {
                () = sleep_until(until.into()) => return Ok(()),
                item = self.intake.next(), if self.takes(false) => self.take(item?).await?,
                () = interrupt.recv() => return Err(self.interrupted()),
            }
        }
    }

    /// One connection, from CONNECT to its end.
    async fn connection(&mut self, interrupt: &mut Interrupt) -> Result<Ended, Failure> {
        // Room for a whole window and two words about our status.
        let (client, mut link) = AsyncClient::new(self.options(), usize::from(self.args.window) + 2);
        link.network_options.set_connection_timeout(self.args.connect_timeout().map_or(10, |limit| limit.as_secs().clamp(1, 10)));
        let mut connected = false;
        loop {
            let event = {
                // The poll is kept across timers: the library does not promise that a half-done one may be dropped.
                let mut poll = pin!(link.poll());
                loop {
                    let wake = self.wake_at();
                    tokio::select! {
                        event = &mut poll => break event,
                        item = self.intake.next(), if self.takes(connected) => self.take(item?).await?,
                        () = sleep_until(wake.into()) => {}
                        () = interrupt.recv() => return Err(self.interrupted()),
                    }
                    if let Some(error) = self.overdue(connected)? {
                        return Ok(Ended::Lost(error));
                    }
                    if connected {
                        if let Some(error) = self.send(&client)? {
                            return Ok(Ended::Lost(error));
                        }
                        if self.is_done() {
                            break Ok(Event::Outgoing(Outgoing::PingReq));
                        }
                    }
                }
            };
            match event {
                Ok(event) => self.note(&event, &client, &mut connected)?,
                Err(error) => return Ok(Ended::Lost(judge(&error, connected))),
            }
            if connected {
                if let Some(error) = self.send(&client)? {
                    return Ok(Ended::Lost(error));
                }
                if self.is_done() {
                    self.farewell(&client, &mut link).await;
                    return Ok(Ended::AllAcknowledged);
                }
            }
        }
    }

    fn note(&mut self, event: &Event, client: &AsyncClient, connected: &mut bool) -> Result<(), Failure> {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => self.connected(client, connected),
            // Packet id 0 is what our status has.
            Event::Outgoing(Outgoing::Publish(packet_id @ 1..)) => self.window.written(*packet_id),
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(seq) = self.window.acknowledged(ack.pkid) {
                    self.acknowledged(seq)?;
                }
            }
            _ => {}
        }
        // A sender that owes nothing waits for its source, not for the broker.
        if *connected && self.window.is_empty() {
            self.progress_at = Instant::now();
        }
        Ok(())
    }

    fn connected(&mut self, client: &AsyncClient, connected: &mut bool) {
        info!("connected to {}:{}", self.args.connection.endpoint, self.args.connection.port);
        *connected = true;
        self.report.connections += 1;
        if !self.ever_connected {
            self.ever_connected = true;
            self.progress_at = Instant::now();
        }
        if let Some(status) = &self.status {
            status.tell_online(client, self.outbox.waiting());
        }
        self.show_if_sent();
    }

    fn acknowledged(&mut self, seq: u64) -> Result<(), Failure> {
        self.outbox.acknowledged(seq)?;
        self.report.acknowledged += 1;
        self.progress_at = Instant::now();
        self.backoff.reset();
        self.show_if_sent();
        if self.report.acknowledged % 64 == 0 {
            self.progress.set_position(self.intake.bytes_read());
            self.progress.set_message(format!("{} acknowledged", self.report.acknowledged));
        }
        Ok(())
    }

    fn show_if_sent(&mut self) {
        if self.outbox.waiting() == 0 {
            self.light.show(LightState::Sent);
        }
    }

    fn takes(&self, connected: bool) -> bool {
        self.intake.is_open(connected, self.outbox.waiting(), self.args.window)
    }

    async fn take(&mut self, item: Option<Item>) -> Result<(), Failure> {
        let dropped_below = self.intake.take(item, self.args.window, &mut self.outbox, self.light, self.report).await?;
        if let Some(seq) = dropped_below {
            self.window.forget_below(seq);
        }
        Ok(())
    }

    /// Hands over what is to be sent, first what is sent again.
    fn send(&mut self, client: &AsyncClient) -> Result<Option<LinkError>, Failure> {
        while self.window.has_room(self.outbox.next_unsent_seq()) {
            let Some((seq, payload)) = self.outbox.next_unsent()? else { break };
            self.window.push(seq, payload);
            self.report.published += 1;
        }
        while let Some(send) = self.window.next_to_send(Instant::now()) {
            if send.is_repeat {
                self.report.repeats += 1;
            }
            // The queue holds a whole window and each connection gets a new one, so it cannot be full. Were it so all the
            // same, packet ids would no longer belong to the readings we think: only a new connection is safe then.
            if let Err(e) = client.try_publish(self.args.topic.as_str(), QoS::AtLeastOnce, false, send.payload) {
                return Ok(Some(LinkError::not_taken(&e)));
            }
        }
        Ok(None)
    }

    fn is_done(&self) -> bool {
        self.intake.has_ended() && self.outbox.waiting() == 0
    }

    /// When something other than connection and source wants attention.
    fn wake_at(&self) -> Instant {
        let wake = self.give_up_at().unwrap_or_else(|| Instant::now() + IDLE);
        match self.window.waiting_since() {
            Some(since) => wake.min(since + self.args.ack_timeout()),
            None => wake,
        }
    }

    fn give_up_at(&self) -> Option<Instant> {
        if self.ever_connected {
            self.args.stall_timeout().map(|limit| self.progress_at + limit)
        } else {
            self.args.connect_timeout().map(|limit| self.started + limit)
        }
    }

    /// Whether this connection, or the whole run, has waited long enough.
    fn overdue(&mut self, connected: bool) -> Result<Option<LinkError>, Failure> {
        let now = Instant::now();
        if connected && self.window.is_empty() {
            self.progress_at = now;
        }
        if self.give_up_at().is_some_and(|limit| now >= limit) {
            return Err(if connected { self.silent() } else { self.unreachable(&LinkError::no_answer()) });
        }
        let late = self.window.waiting_since().is_some_and(|since| now >= since + self.args.ack_timeout());
        Ok(late.then(|| LinkError::no_acknowledgement(self.args.ack_timeout())))
    }

    fn silent(&self) -> Failure {
        Failure::TimedOut {
            what: format!(
                "{}:{} has acknowledged nothing for {} s; {} readings are unacknowledged. The broker may be overloaded, or its \
                 policy may not allow publishing to `{}`",
                self.args.connection.endpoint,
                self.args.connection.port,
                self.args.stall_timeout().unwrap_or_default().as_secs(),
                self.outbox.waiting(),
                self.args.topic
            ),
        }
    }

    fn unreachable(&self, error: &LinkError) -> Failure {
        let limit = if self.ever_connected { self.args.stall_timeout() } else { self.args.connect_timeout() };
        let limit = limit.expect("without a limit nobody gives up");
        Failure::Unreachable { what: error.gave_up(&self.args.connection, self.ever_connected, limit, self.outbox.waiting()) }
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
                "interrupted: {} readings acknowledged, {} kept in the outbox for the next start",
                self.report.acknowledged,
                self.outbox.waiting()
            ),
        }
    }

    fn options(&self) -> MqttOptions {
        let connection = &self.args.connection;
        let mut options = MqttOptions::new(&connection.client_id, &connection.endpoint, connection.port);
        options
            .set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(&self.tls))))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(true)
            .set_inflight(packet_ids(self.args.window))
            // The library's default of 10 KiB would end the connection; topic and packet header come on top.
            .set_max_packet_size(64 * 1024, MAX_PAYLOAD_BYTES + 1024);
        if let Some(status) = &self.status {
            options.set_last_will(status.last_will());
        }
        options
    }

    async fn farewell(&self, client: &AsyncClient, link: &mut EventLoop) {
        if let Some(status) = &self.status {
            status.tell_offline(client, 0);
        }
        if client.try_disconnect().is_err() {
            return;
        }
        let until_written = async {
            while !matches!(link.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(ConnectionError::MqttState(_))) {}
        };
        // Whether it arrives changes nothing.
        drop(timeout(FAREWELL, until_written).await);
    }
}

/// More packet ids than readings in flight, so that one late acknowledgement does not stop the others.
fn packet_ids(window: u16) -> u16 {
    window.saturating_mul(4)
}
