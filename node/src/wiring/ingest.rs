//! The ingest lane: broker, stream, dead letters and lease table.

use std::path::Path;
use std::sync::Arc;

use speedtrap_actors::adapters::{DynamoLeaseTable, KinesisViolationStream, MqttBroker, MqttTls};
use speedtrap_actors::ingest::IngestSettings;
use speedtrap_actors::observe::IngestStats;
use speedtrap_actors::ports::DeadLetters;

use super::bad;
use super::clients::Clients;
use crate::config::{IngestConfig, NodeConfig};
use crate::exit::Stop;

/// Joins it, if a broker is configured. The broker itself may be down: the lane waits for it.
pub(super) fn settings(
    config: &NodeConfig,
    clients: &Clients,
    letters: &Arc<dyn DeadLetters>,
) -> Result<Option<IngestSettings>, Stop> {
    let ingest = &config.ingest;
    let Some((host, port)) = ingest.address().filter(|_| ingest.is_on()) else { return Ok(None) };
    let client_id = match ingest.client_id.as_str() {
        "" => format!("{}-ingest", config.dynamodb.enrich_leases),
        given => given.to_owned(),
    };
    let broker = MqttBroker {
        host: host.to_owned(),
        port,
        tls: if ingest.ca.is_empty() { None } else { Some(tls(ingest)?) },
        login: login(ingest)?,
        client_id: client_id.clone(),
        topic_filter: ingest.topic_filter.clone(),
        in_flight: ingest.in_flight,
        max_packet: u32::try_from(ingest.max_packet.as_u64()).unwrap_or(u32::MAX),
        session_expiry: ingest.session_expiry,
    };
    Ok(Some(IngestSettings {
        source: Arc::new(broker),
        stream: Arc::new(KinesisViolationStream::new(
            &clients.kinesis,
            &config.kinesis.in_stream,
            clients.limits("ingest/stream_writer"),
        )),
        letters: Arc::clone(letters),
        leases: Arc::new(DynamoLeaseTable::new(&clients.dynamodb, &ingest.leases, clients.lease_limits("ingest/lease", config))),
        topic_filter: ingest.topic_filter.clone(),
        client_id,
        in_flight: usize::from(ingest.in_flight),
        linger: ingest.linger,
        renew_every: config.lease.renew_every,
        expires_after: config.lease.expires_after,
        stats: IngestStats::default(),
    }))
}

fn tls(ingest: &IngestConfig) -> Result<MqttTls, Stop> {
    let (ca, cert, key) = (Path::new(&ingest.ca), Path::new(&ingest.cert), Path::new(&ingest.key));
    let own = (!ingest.cert.is_empty()).then_some((cert, key));
    MqttTls::from_files(ca, own).map_err(|error| {
        let files = [("ingest.ca", ca), ("ingest.cert", cert), ("ingest.key", key)];
        let at_fault = files.into_iter().find(|(_, file)| *file == error.file);
        bad(at_fault.map_or("ingest", |(setting, _)| setting), &error)
    })
}

fn login(ingest: &IngestConfig) -> Result<Option<(String, String)>, Stop> {
    if ingest.username.is_empty() {
        return Ok(None);
    }
    let file = &ingest.password_file;
    let text = std::fs::read_to_string(file)
        .map_err(|error| bad("ingest.password_file", &format_args!("`{file}` cannot be read: {error}")))?;
    Ok(Some((ingest.username.clone(), text.trim_end_matches(['\r', '\n']).to_owned())))
}
