//! An MQTT 5 broker.
//!
//! Each connection has an event loop of its own: rumqttc keeps packets of an old connection in one that is used again. The broker is
//! told how many messages it may send without an acknowledgement (Receive Maximum), how long one may be, and how long to keep the
//! session of a client that is away.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Filter, Packet, Publish, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::ports::{Acks, Connection, FailureKind, Message, MessageSource, Messages, Receipt, RemoteFailure};

/// A broker that is gone without a word is noticed after one and a half of these.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// From the first packet to the answer to the subscription.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const CALL: &str = "mqtt connect";

/// Where the broker is and who connects.
#[derive(Clone)]
pub struct MqttBroker {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS, if the broker speaks it.
    pub tls: Option<MqttTls>,
    /// User and password, if the broker asks for them.
    pub login: Option<(String, String)>,
    /// The name that the broker knows its session by.
    pub client_id: String,
    /// What to subscribe to.
    pub topic_filter: String,
    /// Most messages without an acknowledgement.
    pub in_flight: u16,
    /// Longest packet that the broker may send.
    pub max_packet: u32,
    /// How long the broker keeps the session while nobody is connected.
    pub session_expiry: Duration,
}

/// TLS towards a broker.
#[derive(Clone)]
pub struct MqttTls(Arc<ClientConfig>);

/// A file of the TLS settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {detail}", file.display())]
pub struct MqttTlsError {
    /// The file.
    pub file: PathBuf,
    detail: String,
}

struct RumqttMessages {
    events: EventLoop,
    /// What came before the answer to the subscription.
    early: VecDeque<Message>,
    /// Sends acknowledgements for as long as the connection lives.
    _client: AsyncClient,
}

struct RumqttAcks(AsyncClient);

impl MqttTls {
    /// TLS with the authorities of `ca`, and with a client certificate if one is given.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn from_files(ca: &Path, certificate: Option<(&Path, &Path)>) -> Result<Self, MqttTlsError> {
        let fault =
            |file: &Path, detail: &dyn std::fmt::Display| MqttTlsError { file: file.to_owned(), detail: detail.to_string() };
        let read = |file: &Path| {
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match read.map_err(|error| fault(file, &format_args!("cannot be read: {error}")))? {
                none if none.is_empty() => Err(fault(file, &"holds no certificate in PEM form")),
                some => Ok(some),
            }
        };
        let mut roots = RootCertStore::empty();
        for authority in read(ca)? {
            roots.add(authority).map_err(|error| fault(ca, &format_args!("holds no authority: {error}")))?;
        }
        // Named, because several crates choose different defaults and rustls then takes none.
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(ca, &error))?
            .with_root_certificates(roots);
        let config = match certificate {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &format_args!("cannot be read: {error}")))?;
                let chain = read(certificate)?;
                config
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| fault(key, &format_args!("does not fit: {error}")))?
            }
        };
        Ok(Self(Arc::new(config)))
    }
}

impl MqttBroker {
    fn options(&self) -> MqttOptions {
        let mut options = MqttOptions::new(&self.client_id, &self.host, self.port);
        let expiry = u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX);
        let properties = ConnectProperties {
            session_expiry_interval: Some(expiry),
            receive_maximum: Some(self.in_flight),
            max_packet_size: Some(self.max_packet),
            topic_alias_max: None,
            request_response_info: None,
            request_problem_info: None,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        };
        options
            .set_connect_properties(properties)
            .set_clean_start(false)
            .set_manual_acks(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_connection_timeout(CONNECT_LIMIT.as_secs())
            // Nothing is published, so no room is needed for it.
            .set_outgoing_inflight_upper_limit(1);
        if let Some(MqttTls(tls)) = &self.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        if let Some((user, password)) = &self.login {
            options.set_credentials(user, password);
        }
        options
    }

    async fn open(&self) -> Result<Connection, RemoteFailure> {
        // Every acknowledgement that may be under way has room, so none is ever refused.
        let (client, mut events) = AsyncClient::new(self.options(), usize::from(self.in_flight) + 8);
        let mut resumed = false;
        let mut early = VecDeque::new();
        loop {
            match events.poll().await.map_err(|error| failure(CALL, &error))? {
                Event::Incoming(Packet::ConnAck(answer)) => {
                    resumed = answer.session_present;
                    let filter = Filter {
                        retain_forward_rule: RetainForwardRule::OnNewSubscribe,
                        ..Filter::new(&self.topic_filter, QoS::AtLeastOnce)
                    };
                    client.subscribe_many([filter]).await.map_err(|error| refused(error.to_string()))?;
                }
                Event::Incoming(Packet::SubAck(answer)) => {
                    let granted = answer.return_codes.first();
                    if !matches!(granted, Some(SubscribeReasonCode::Success(QoS::AtLeastOnce))) {
                        return Err(refused(format!("the subscription to `{}` got {granted:?}", self.topic_filter)));
                    }
                    let acks = Arc::new(RumqttAcks(client.clone()));
                    let messages = Box::new(RumqttMessages { events, early, _client: client });
                    return Ok(Connection { messages, acks, resumed });
                }
                Event::Incoming(Packet::Publish(publish)) => early.push_back(message(publish)),
                _ => {}
            }
        }
    }
}

#[async_trait]
impl MessageSource for MqttBroker {
    async fn connect(&self) -> Result<Connection, RemoteFailure> {
        let late =
            || RemoteFailure { call: CALL, kind: FailureKind::TimedOut, detail: format!("no answer within {CONNECT_LIMIT:?}") };
        tokio::time::timeout(CONNECT_LIMIT, self.open()).await.map_err(|_| late())?
    }
}

#[async_trait]
impl Messages for RumqttMessages {
    async fn next(&mut self) -> Result<Message, RemoteFailure> {
        if let Some(message) = self.early.pop_front() {
            return Ok(message);
        }
        loop {
            match self.events.poll().await.map_err(|error| failure("mqtt receive", &error))? {
                Event::Incoming(Packet::Publish(publish)) => return Ok(message(publish)),
                Event::Outgoing(Outgoing::Disconnect) => {
                    let detail = "the connection was closed".to_owned();
                    return Err(RemoteFailure { call: "mqtt receive", kind: FailureKind::Unreachable, detail });
                }
                _ => {}
            }
        }
    }
}

impl Acks for RumqttAcks {
    fn acknowledge(&self, receipt: Receipt) {
        let publish = Publish { qos: QoS::AtLeastOnce, pkid: receipt.0, ..Publish::default() };
        // A connection that is lost takes none, and its messages come again.
        let _lost = self.0.try_ack(&publish);
    }
}

fn message(publish: Publish) -> Message {
    Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload,
        receipt: (publish.qos != QoS::AtMostOnce).then_some(Receipt(publish.pkid)),
    }
}

fn refused(detail: String) -> RemoteFailure {
    RemoteFailure { call: CALL, kind: FailureKind::Refused, detail }
}

fn failure(call: &'static str, error: &ConnectionError) -> RemoteFailure {
    let kind = match error {
        ConnectionError::Timeout(_) => FailureKind::TimedOut,
        ConnectionError::ConnectionRefused(_)
        | ConnectionError::MqttState(StateError::ConnFail { .. })
        | ConnectionError::Tls(_) => FailureKind::Refused,
        _ => FailureKind::Unreachable,
    };
    RemoteFailure { call, kind, detail: super::failure::chain(error) }
}
