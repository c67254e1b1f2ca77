//! The broker itself: whether it takes this client, and carries a message to the test topic and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, SubscribeReasonCode, TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::Checks;
use crate::config::ConnectionArgs;
use crate::event_ids::random_u64;
use crate::link_error::judge;

const LIMIT: Duration = Duration::from_secs(10);

/// Connects as the device does; with a topic it also publishes there and waits for the message to come back.
pub(crate) async fn connect_and_echo(to: &ConnectionArgs, tls: Arc<ClientConfig>, echo: Option<&str>, checks: &mut Checks) {
    let mut options = MqttOptions::new(&to.client_id, &to.endpoint, to.port);
    options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls))).set_clean_session(true);
    let (client, mut link) = AsyncClient::new(options, 10);
    link.network_options.set_connection_timeout(LIMIT.as_secs());
    let begun = Instant::now();
    if let Err((what, next)) = limited(connected(to, &mut link)).await {
        checks.fail("broker", what, next);
        if echo.is_some() {
            checks.skip(&["echo"], "the broker did not take the client");
        }
        return;
    }
    checks.ok("broker", format!("took client `{}`, in {} ms", to.client_id, begun.elapsed().as_millis()));
    if let Some(topic) = echo {
        let begun = Instant::now();
        match limited(echoed(topic, &client, &mut link)).await {
            Ok(()) => checks.ok("echo", format!("came back from `{topic}`, in {} ms", begun.elapsed().as_millis())),
            Err((what, next)) => checks.fail("echo", what, next),
        }
    }
    // The broker learns that the device meant to leave; it does not matter if it does not.
    if client.try_disconnect().is_ok() {
        let until_written = async { while link.poll().await.is_ok() {} };
        drop(timeout(Duration::from_secs(1), until_written).await);
    }
}

/// What is wrong and what to do.
type Fault = (String, String);

async fn limited(step: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    match timeout(LIMIT, step).await {
        Ok(ended) => ended,
        Err(_) => Err((
            format!("the broker does not answer within {} s", LIMIT.as_secs()),
            "it may be overloaded, or speak another protocol than MQTT 3.1.1 on this port".to_owned(),
        )),
    }
}

async fn connected(to: &ConnectionArgs, link: &mut EventLoop) -> Result<(), Fault> {
    loop {
        match link.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok(()),
            Ok(_) => {}
            Err(e) => {
                let error = judge(&e, false);
                let next = format!(
                    "check that `{}` is registered and active at this broker, and that its policy lets client `{}` connect",
                    to.cert.display(),
                    to.client_id
                );
                return Err(match error.fatal(to) {
                    // Its text says itself what to check.
                    Some(failure) => (failure.to_string(), next),
                    None => (format!("the broker hung up without a word ({error})"), next),
                });
            }
        }
    }
}

async fn echoed(topic: &str, client: &AsyncClient, link: &mut EventLoop) -> Result<(), Fault> {
    let forbidden = |doing: &str| {
        let what = format!("the broker does not let this device {doing} `{topic}`");
        (
            what,
            format!(
                "allow it in the device's policy (`speedtrap device register` does), or give another --echo-topic than `{topic}`"
            ),
        )
    };
    let message = format!("{{\"selftest\":\"{:016x}\"}}", random_u64());
    let queued = client.try_subscribe(topic, QoS::AtLeastOnce);
    queued.map_err(|e| (format!("the MQTT library did not take the subscription ({e})"), "try again".to_owned()))?;
    let mut published = false;
    loop {
        match link.poll().await {
            Ok(Event::Incoming(Packet::SubAck(answer))) => {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return Err(forbidden("subscribe to"));
                }
                let queued = client.try_publish(topic, QoS::AtLeastOnce, false, message.clone());
                queued.map_err(|e| (format!("the MQTT library did not take the message ({e})"), "try again".to_owned()))?;
                published = true;
            }
            Ok(Event::Incoming(Packet::Publish(came))) if came.topic == topic && came.payload == message.as_bytes() => {
                return Ok(());
            }
            Ok(_) => {}
            // AWS IoT tells a forbidden topic by ending the connection.
            Err(_) => return Err(forbidden(if published { "publish to" } else { "subscribe to" })),
        }
    }
}
