//! The way to the broker: its name, a connection, and TLS on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Checks;
use crate::certificate::{Certificate, Validity};
use crate::config::ConnectionArgs;

const LIMIT: Duration = Duration::from_secs(10);

/// Whether an MQTT client could begin to talk. Without `tls` only name and connection are tried.
pub(crate) async fn reach(to: &ConnectionArgs, tls: Option<Arc<ClientConfig>>, now: Timestamp, checks: &mut Checks) -> bool {
    let Some(addresses) = resolve(to, checks).await else {
        checks.skip(&["tcp", "tls"], "the broker's address is not known");
        return false;
    };
    let Some(stream) = connect(to, &addresses, checks).await else {
        checks.skip(&["tls"], "there is no connection");
        return false;
    };
    let Some(tls) = tls else {
        checks.skip(&["tls"], "certificate, key and root CA cannot be used");
        return false;
    };
    shake_hands(to, stream, tls, now, checks)
}

async fn resolve(to: &ConnectionArgs, checks: &mut Checks) -> Option<Vec<SocketAddr>> {
    let endpoint = &to.endpoint;
    let next = "check --endpoint, and that this machine has a network and a name server (/etc/resolv.conf)";
    match timeout(LIMIT, lookup_host((endpoint.as_str(), to.port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.collect();
            let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            if addresses.is_empty() {
                checks.fail("dns", format!("`{endpoint}` has no address"), next);
                return None;
            }
            checks.ok("dns", format!("`{endpoint}` is {}", shown.join(", ")));
            Some(addresses)
        }
        Ok(Err(e)) => {
            checks.fail("dns", format!("no address is found for `{endpoint}` ({e})"), next);
            None
        }
        Err(_) => {
            checks.fail("dns", format!("nobody answers for the name `{endpoint}` within {} s", LIMIT.as_secs()), next);
            None
        }
    }
}

async fn connect(to: &ConnectionArgs, addresses: &[SocketAddr], checks: &mut Checks) -> Option<TcpStream> {
    let mut failures = Vec::new();
    for address in addresses {
        let begun = Instant::now();
        match timeout(LIMIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                checks.ok("tcp", format!("{address} takes connections, in {} ms", begun.elapsed().as_millis()));
                return Some(stream);
            }
            Ok(Err(e)) => failures.push(format!("{address}: {e}")),
            Err(_) => failures.push(format!("{address}: no answer within {} s", LIMIT.as_secs())),
        }
    }
    let next = format!(
        "check --port ({}), that the broker runs, and that no firewall on the way stops this port; AWS IoT also takes 443",
        to.port
    );
    checks.fail("tcp", format!("no connection ({})", failures.join("; ")), next);
    None
}

/// A TLS 1.3 server judges the device's certificate only after this, so its refusal shows at the broker's answer.
fn shake_hands(to: &ConnectionArgs, stream: TcpStream, tls: Arc<ClientConfig>, now: Timestamp, checks: &mut Checks) -> bool {
    let wanted_alpn = tls.alpn_protocols.first().cloned();
    let begun = Instant::now();
    let mut connection = match shaken(to, stream, tls) {
        Ok(connection) => connection,
        Err(e) => {
            let (what, next) = explain(to, &e);
            checks.fail("tls", what, next);
            return false;
        }
    };
    let took = begun.elapsed().as_millis();
    if let Some(alpn) = wanted_alpn {
        if connection.alpn_protocol() != Some(&alpn) {
            let what =
                format!("port 443 does not speak MQTT: it does not know the protocol `{}`", String::from_utf8_lossy(&alpn));
            checks.fail("tls", what, "give the port of the broker's MQTT listener; 443 works with AWS IoT");
            return false;
        }
    }
    connection.send_close_notify();
    let version = connection.protocol_version().map_or_else(String::new, |version| format!("{version:?} "));
    let broker = connection.peer_certificates().and_then(|chain| chain.first()).and_then(|der| Certificate::from_der(der).ok());
    match broker.map(|certificate| (certificate.validity(now), certificate.not_after.strftime("%Y-%m-%d").to_string())) {
        Some((Validity::EndsSoon { days }, until)) => {
            let what = format!("{version}in {took} ms; the broker's certificate expires on {until}, in {days} days");
            checks.warn("tls", what, "whoever runs the broker should renew it");
        }
        Some((_, until)) => checks.ok("tls", format!("{version}in {took} ms; the broker's certificate is good until {until}")),
        None => checks.ok("tls", format!("{version}in {took} ms")),
    }
    true
}

fn shaken(to: &ConnectionArgs, stream: TcpStream, tls: Arc<ClientConfig>) -> std::io::Result<ClientConnection> {
    let name = ServerName::try_from(to.endpoint.clone()).map_err(std::io::Error::other)?;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut connection = ClientConnection::new(tls, name).map_err(std::io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(connection)
}

/// What is wrong, and what to do.
fn explain(to: &ConnectionArgs, e: &std::io::Error) -> (String, String) {
    let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (endpoint, root) = (&to.endpoint, to.root_ca.display());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                "the broker's certificate is signed by an authority that is not in the root CA file".to_owned(),
                format!("give the broker's own authority as --root-ca instead of `{root}` (for AWS IoT AmazonRootCA1.pem)"),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                format!("the broker's certificate is for another name than `{endpoint}`{}", names(why)),
                "give as --endpoint the name that is in the broker's certificate".to_owned(),
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "the broker's certificate has expired".to_owned(),
                "whoever runs the broker must renew it; or set this machine's clock if that is wrong".to_owned(),
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                "the broker's certificate is not good yet".to_owned(),
                "set this machine's clock, which seems to be late".to_owned(),
            ),
            other => (format!("the broker's certificate is not accepted ({other})"), "ask whoever runs the broker".to_owned()),
        },
        Some(rustls::Error::AlertReceived(alert)) => (
            format!("the broker ended the TLS handshake (alert {alert:?})"),
            format!(
                "check that `{}` is registered and active at this broker, or signed by an authority it trusts",
                to.cert.display()
            ),
        ),
        Some(rustls::Error::InvalidMessage(_)) => (
            format!("port {} does not speak TLS", to.port),
            "give the port of the broker's TLS listener (8883 as a rule)".to_owned(),
        ),
        _ => (
            format!("the TLS handshake failed ({e})"),
            "a broker that hangs up at once speaks no TLS on this port, or knows no such certificate".to_owned(),
        ),
    }
}

fn names(why: &CertificateError) -> String {
    match why {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!(": {}", presented.join(", "))
        }
        _ => String::new(),
    }
}
