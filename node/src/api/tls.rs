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
