//! The sockets of the cluster: this node's listener, its dialler, and mutual TLS.
//!
//! Off this machine only mutual TLS is spoken: ractor_cluster's cookie proves that both ends know a secret, but nothing that
//! follows is protected by it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ractor_cluster::NetworkStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A node in reach answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Forty times of what a handshake took on a machine under load.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes that go on at once; whoever connects beyond them waits in the listener's backlog.
const MOST_HANDSHAKES: usize = 64;
/// An accept that failed for want of descriptors must not be repeated in a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Links are pinged; these only let the kernel forget sockets that nobody reads any more.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_RETRIES: u32 = 3;
/// Without it the kernel goes on for a quarter of an hour with what was sent into a cut.
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes connections from other nodes, and makes them.
pub struct ClusterSocket {
    listener: TcpListener,
    tls: Option<ClusterTls>,
}

/// Certificates of the cluster: every node shows one of them and accepts only them.
pub struct ClusterTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("`{file}`: {detail}", file = file.display())]
pub struct ClusterTlsError {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

impl ClusterTls {
    /// Reads PEM files: the authority that signs all nodes, and this node's certificate with its key. Every certificate must
    /// bear `name`.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn from_files(ca: &Path, certificate: &Path, key: &Path, name: &str) -> Result<Self, ClusterTlsError> {
        let fault =
            |file: &Path, detail: &dyn std::fmt::Display| ClusterTlsError { file: file.to_owned(), detail: detail.to_string() };
        let certificates = |file: &Path| {
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match read.map_err(|error| fault(file, &error))? {
                none if none.is_empty() => Err(fault(file, &"holds no certificate")),
                some => Ok(some),
            }
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates(ca)? {
            roots.add(authority).map_err(|error| fault(ca, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
        let name = ServerName::try_from(name.to_owned()).map_err(|error| fault(certificate, &error))?;

        // Named, because several crates choose different defaults and rustls then takes none.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| fault(ca, &error))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(certificate, &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(|error| fault(key, &error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(certificate, &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)
            .map_err(|error| fault(key, &error))?;
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into(), name })
    }
}

impl ClusterSocket {
    /// Listens. Without TLS it neither listens nor dials off this machine.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(address: SocketAddr, tls: Option<ClusterTls>) -> io::Result<Self> {
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(io::Error::other("links off this machine need TLS"));
        }
        Ok(Self { listener: TcpListener::bind(address).await?, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Hands every connection from another node over once its handshake is done. Handshakes go on beside each other, so a client
    /// that says nothing keeps nobody out. Never ends by itself; dropped, it gives up what is under way.
    pub async fn serve(&self, open: impl Fn(NetworkStream)) {
        let half_open = Arc::new(Semaphore::new(MOST_HANDSHAKES));
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if half_open.available_permits() > 0 => match accepted {
                    Ok((stream, peer)) => {
                        let permit = Arc::clone(&half_open).try_acquire_owned();
                        let acceptor = self.tls.as_ref().map(|tls| tls.acceptor.clone());
                        handshakes.spawn(async move {
                            let greeted = greeted(stream, peer, acceptor).await;
                            drop(permit);
                            greeted
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection from another node was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(greeted) = handshakes.join_next() => match greeted {
                    Ok(Ok(stream)) => open(stream),
                    Ok(Err(error)) => tracing::debug!(%error, "a connection from outside came to nothing"),
                    Err(error) => tracing::error!(%error, "a handshake died"),
                },
            }
        }
    }

    /// Connects to another node's listener; gives the address that was reached, too.
    ///
    /// # Errors
    /// When it cannot be reached in time, is off this machine and there is no TLS, or has no certificate of the cluster.
    pub async fn dial(&self, address: &str) -> io::Result<(NetworkStream, SocketAddr)> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(address)).await??;
        tune(&connected)?;
        let (peer_addr, local_addr) = (connected.peer_addr()?, connected.local_addr()?);
        let stream = match &self.tls {
            None => NetworkStream::Raw { peer_addr, local_addr, stream: connected },
            Some(tls) => {
                let handshake = tls.connector.connect(tls.name.clone(), connected);
                let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await??;
                NetworkStream::TlsClient { peer_addr, local_addr, stream }
            }
        };
        Ok((stream, peer_addr))
    }

    /// What the listener of ractor_cluster itself needs to speak as this one does.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| tls.acceptor.clone())
    }

    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host(address).await? {
            if self.tls.is_none() && !address.ip().is_loopback() {
                refused = io::Error::other("links off this machine need TLS (cluster.tls_ca, tls_cert, tls_key)");
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

async fn greeted(stream: TcpStream, peer_addr: SocketAddr, acceptor: Option<TlsAcceptor>) -> io::Result<NetworkStream> {
    tune(&stream)?;
    let local_addr = stream.local_addr()?;
    match acceptor {
        None => Ok(NetworkStream::Raw { peer_addr, local_addr, stream }),
        Some(acceptor) => {
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
            Ok(NetworkStream::TlsServer { peer_addr, local_addr, stream })
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}
