//! Serving the API, over TLS where it has a certificate: bounded in connections, in patience with each, and in the time its end takes.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use x509_cert::der::Decode as _;

/// Connections at a time: all streams there may be, with room for commands beside them.
const MOST_CONNECTIONS: usize = 256;
/// How long a handshake may take, and the head of a request; also how long an idle connection is kept.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long answers under way may take when the node ends. Streams never end by themselves.
const END_WITHIN: Duration = Duration::from_millis(500);
/// A certificate that ends within this time is told of with more than its date.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_hours(14 * 24);

/// What the API proves with that it is this node.
pub(crate) struct ApiTls(RustlsConfig);

/// What is wrong with a file of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFault {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

/// The API while it answers; dropped, it accepts nothing more.
pub(crate) struct Serving {
    handle: Handle<SocketAddr>,
    server: JoinSet<io::Result<()>>,
}

impl ApiTls {
    /// Reads PEM files: a certificate with those between it and its authority, and its key.
    ///
    /// # Errors
    /// When a file cannot be read, holds something else, or the two do not belong together.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsFault> {
        let fault = |file: &Path, what: &dyn std::fmt::Display| TlsFault { file: file.to_owned(), what: what.to_string() };
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(|error| fault(certificate, &error))?;
        let Some(own) = chain.first() else { return Err(fault(certificate, &"holds no certificate")) };
        tell_dates(own).map_err(|error| fault(certificate, &error))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
        // Named, because several crates choose different defaults and rustls then takes none.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(certificate, &error))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| fault(key, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(RustlsConfig::from_config(Arc::new(config))))
    }
}

/// Logs when a certificate is good.
fn tell_dates(certificate: &CertificateDer<'_>) -> Result<(), x509_cert::der::Error> {
    let validity = *x509_cert::Certificate::from_der(certificate)?.tbs_certificate().validity();
    let time = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    let (from, until, now) = (time(validity.not_before), time(validity.not_after), Timestamp::now());
    if now < from || now > until {
        tracing::error!(%from, %until, "the API's certificate is not good now, so nobody will trust it");
    } else if until.duration_since(now) < SOON {
        tracing::warn!(%from, %until, "the API's certificate ends soon; a new one needs a restart");
    } else {
        tracing::info!(%from, %until, "the API's certificate is good");
    }
    Ok(())
}

/// Starts to answer.
pub(crate) fn serve(listener: TcpListener, tls: Option<ApiTls>, router: Router) -> Serving {
    let handle = Handle::new();
    let (bounded, service) = (Bounded(handle.clone()), router.into_make_service_with_connect_info::<SocketAddr>());
    let mut listening = Server::<SocketAddr>::from_listener(listener)
        .handle(handle.clone())
        .http1_only()
        .first_request_timeout(PATIENCE)
        .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "a connection to the API came to nothing"));
    listening.http_builder().http1().header_read_timeout(PATIENCE);
    let mut server = JoinSet::new();
    match tls {
        None => server.spawn(listening.acceptor(bounded).serve(service)),
        Some(ApiTls(config)) => {
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(PATIENCE).acceptor(bounded);
            server.spawn(listening.acceptor(acceptor).serve(service))
        }
    };
    Serving { handle, server }
}

impl Serving {
    /// Lets answers under way finish for a moment, and cuts streams off.
    pub(crate) async fn end(mut self) {
        self.handle.graceful_shutdown(Some(END_WITHIN));
        // How it ended is of no use to anybody any more.
        let _ended = self.server.join_next().await;
    }
}

/// Takes connections while there are not too many.
#[derive(Clone)]
struct Bounded(Handle<SocketAddr>);

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = TcpStream;
    type Service = S;
    type Future = Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Frames of a stream are short, and somebody looks at them.
        let tuned = if self.0.connection_count() > MOST_CONNECTIONS {
            Err(io::Error::other("there are too many connections"))
        } else {
            stream.set_nodelay(true)
        };
        ready(tuned.map(|()| (stream, service)))
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    async fn serving() -> (Serving, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        (serve(listener, None, Router::new().route("/", get(|| async { "here" }))), address)
    }

    /// What comes back for a request, until the other end closes.
    async fn asked(address: SocketAddr) -> String {
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        // A connection too many is closed at once, maybe before this is written.
        let _refused = socket.write_all(request).await;
        let mut answer = Vec::new();
        let _reset = timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await.expect("in time");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn connections_are_bounded_and_one_that_ends_makes_room() {
        let (_serving, address) = serving().await;
        assert!(asked(address).await.ends_with("here"));
        let mut idle = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.expect("connected"));
        }
        let full = timeout(Duration::from_secs(20), async { while !asked(address).await.is_empty() {} });
        full.await.expect("one too many is closed");
        idle.clear();
        let room = timeout(Duration::from_secs(20), async { while !asked(address).await.ends_with("here") {} });
        room.await.expect("there is room again");
    }

    #[tokio::test]
    async fn its_end_waits_for_no_connection() {
        let (serving, address) = serving().await;
        let _idle = TcpStream::connect(address).await.expect("connected");
        timeout(Duration::from_secs(20), serving.end()).await.expect("it ends");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn a_certificate_and_a_key_that_do_not_belong_together_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let [one, other] = ["one.example", "other.example"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("made");
            [write(&format!("{name}.pem"), &made.cert.pem()), write(&format!("{name}.key"), &made.signing_key.serialize_pem())]
        });
        assert!(ApiTls::from_files(&one[0], &one[1]).is_ok());
        let at_fault = |certificate: &Path, key: &Path| ApiTls::from_files(certificate, key).err().map(|fault| fault.file);
        assert_eq!(at_fault(&one[0], &other[1]), Some(other[1].clone()));
        assert_eq!(at_fault(&one[1], &one[1]), Some(one[1].clone()));
        assert_eq!(at_fault(&one[0], &folder.path().join("absent")), Some(folder.path().join("absent")));
    }
}
