//! Reading from an MQTT broker that has no rule into Kinesis.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// `[ingest]`: readings from an MQTT broker, for where no AWS IoT rule carries them into the in-stream. Off unless `broker` is set. Of
/// all nodes that have it set, one ingests; another takes over when it dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IngestConfig {
    /// `host:port` of the broker, which has to speak MQTT 5. Default empty: nothing is ingested.
    pub(crate) broker: String,
    /// Topics to subscribe to. Default `rtr/iot/trafficdata`; 1 to 256 bytes, `+` and `#` as MQTT has them.
    pub(crate) topic_filter: String,
    /// Name that the broker knows the session by: the same on all nodes, and nobody else's. Default empty: the name of the enrich
    /// application with `-ingest`; else 1 to 128 bytes.
    pub(crate) client_id: String,
    /// PEM file of the authority that signed the broker's certificate. Default empty: no TLS, which only a broker on a loopback
    /// address may do without.
    pub(crate) ca: String,
    /// PEM file with this client's certificate. Default empty: none.
    pub(crate) cert: String,
    /// PEM file with its private key; readable by the node alone. Default empty.
    pub(crate) key: String,
    /// User name, if the broker asks for one. Default empty.
    pub(crate) username: String,
    /// File that holds the user's password and nothing else; readable by the node alone. Default empty.
    pub(crate) password_file: String,
    /// Most messages that came and are not stored and acknowledged yet; they are what is in memory. Default 1000; 1 to 10000. A
    /// broker may have a limit of its own, as mosquitto's `max_inflight_messages` (20).
    pub(crate) in_flight: u16,
    /// Longest packet that the broker may send; longer ones it keeps back. Default 256KiB; 1KiB to 1MiB. A reading has at most 128 KiB.
    pub(crate) max_packet: ByteSize,
    /// How long the broker keeps messages while no node is connected. Default 7days; 1min to 365days. A broker may have a shorter limit
    /// of its own.
    #[serde(with = "humantime_serde")]
    pub(crate) session_expiry: Duration,
    /// How long a reading waits for others to share a call. Default 50ms; 0s to 1s. A call holds up to 500 readings or 4.5 MiB.
    #[serde(with = "humantime_serde")]
    pub(crate) linger: Duration,
    /// Table with the row that says which node ingests. Made by the node when absent. Default `rtr-iot-ingest`; as
    /// `dynamodb.speeding_table`.
    pub(crate) leases: String,
}

impl IngestConfig {
    /// Whether this node may ingest.
    pub(crate) fn is_on(&self) -> bool {
        !self.broker.is_empty()
    }

    /// Host and port of the broker.
    pub(crate) fn address(&self) -> Option<(&str, u16)> {
        let (host, port) = self.broker.rsplit_once(':')?;
        Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
    }

    /// Whether the broker is on this machine.
    pub(crate) fn is_near(&self) -> bool {
        let is_loopback = |host: &str| host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.address().is_some_and(|(host, _)| is_loopback(host))
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            broker: String::new(),
            topic_filter: "rtr/iot/trafficdata".into(),
            client_id: String::new(),
            ca: String::new(),
            cert: String::new(),
            key: String::new(),
            username: String::new(),
            password_file: String::new(),
            in_flight: 1_000,
            max_packet: ByteSize::kib(256),
            session_expiry: Duration::from_secs(7 * 86_400),
            linger: Duration::from_millis(50),
            leases: "rtr-iot-ingest".into(),
        }
    }
}
