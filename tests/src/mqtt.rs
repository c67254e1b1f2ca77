//! Publishing any bytes over MQTT, as a device gone wrong may do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::endpoints::Mqtt;

const LIMIT: Duration = Duration::from_secs(30);

/// Publishes payloads with QoS 1 and waits until each is acknowledged.
///
/// # Errors
/// When that does not come about.
pub async fn publish(mqtt: &Mqtt, payloads: &[Vec<u8>]) -> Result<()> {
    let mut options = MqttOptions::new(&mqtt.client_id, &mqtt.host, mqtt.port);
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls(mqtt)?))));
    options.set_max_packet_size(256 * 1024, 256 * 1024);
    let (client, mut connection) = AsyncClient::new(options, payloads.len() + 1);
    for payload in payloads {
        client.publish(&mqtt.topic, QoS::AtLeastOnce, false, payload.clone()).await?;
    }
    let acknowledged = async {
        let mut left = payloads.len();
        while left > 0 {
            if let Event::Incoming(Packet::PubAck(_)) = connection.poll().await.context("the connection failed")? {
                left -= 1;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, acknowledged).await.context("not all payloads were acknowledged in time")?
}

fn tls(mqtt: &Mqtt) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&mqtt.ca)? {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_file_iter(&mqtt.cert)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&mqtt.key)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(config)
}
