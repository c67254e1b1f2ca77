//! A TCP proxy that can be switched off, so that connections are refused and open ones are cut, and held, so that nothing passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Below the ports that systems give to outgoing connections, so that nobody takes the port while it is refused.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many of them this process has tried: another one each time, so that no test takes the port that another one refuses for a while.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// One listening port and where it leads to.
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    serving: JoinHandle<()>,
    held: watch::Sender<bool>,
}

impl Proxy {
    /// Starts it in front of the host and port of a URL.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(url: &str) -> Result<Self> {
        Self::at(Ipv4Addr::LOCALHOST, url).await
    }

    /// The same, listening at another address of this machine.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn at(address: Ipv4Addr, url: &str) -> Result<Self> {
        let upstream = authority(url)?.parse().with_context(|| format!("`{url}` names no address"))?;
        // Tests of one run start at different places.
        let start = std::process::id() as u16 % 10_000;
        let n_ports = PORTS.end - PORTS.start;
        for _ in 0..n_ports {
            let n = TRIED.fetch_add(1, Ordering::Relaxed) % n_ports;
            let address = SocketAddr::from((address, PORTS.start + (start + n) % n_ports));
            if let Ok(listener) = TcpListener::bind(address).await {
                let held = watch::Sender::new(false);
                let serving = tokio::spawn(serve(listener, upstream, held.subscribe()));
                return Ok(Self { address, upstream, serving, held });
            }
        }
        bail!("no port in {PORTS:?} is free")
    }

    /// The URL with this proxy's address in place of the upstream's.
    ///
    /// # Errors
    /// When the URL names no address.
    pub fn instead_of(&self, url: &str) -> Result<String> {
        Ok(url.replacen(authority(url)?, &self.address.to_string(), 1))
    }

    /// Refuses connections from now on, and cuts the open ones.
    pub async fn refuse(&mut self) {
        self.serving.abort();
        // The listener is gone once its task is.
        let _aborted = (&mut self.serving).await;
    }

    /// Lets nothing pass while it is held, as a network that loses everything: connections stand, and nobody answers.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Cuts the open connections, and leads new ones to another address.
    ///
    /// # Errors
    /// When somebody else took the port.
    pub async fn lead_to(&mut self, upstream: SocketAddr) -> Result<SocketAddr> {
        self.refuse().await;
        let before = std::mem::replace(&mut self.upstream, upstream);
        self.accept().await.map(|()| before)
    }

    /// Accepts connections again.
    ///
    /// # Errors
    /// When somebody else took the port.
    pub async fn accept(&mut self) -> Result<()> {
        let bind = || async { Ok(TcpListener::bind(self.address).await?) };
        let listener = crate::deadline::eventually("the proxy's port is free again", Duration::from_secs(10), bind).await?;
        self.serving = tokio::spawn(serve(listener, self.upstream, self.held.subscribe()));
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, held: watch::Receiver<bool>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let held = held.clone();
        connections.spawn(async move {
            if let Ok(server) = TcpStream::connect(upstream).await {
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::join!(pass(from_client, to_server, held.clone()), pass(from_server, to_client, held));
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One direction of a connection. Either side may go away at any time, which the other one is told.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        if held.wait_for(|held| !held).await.is_err() || to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
    let _gone_already = to.shutdown().await;
}

/// `host:port` of a URL.
pub(crate) fn authority(url: &str) -> Result<&str> {
    let rest = url.split_once("://").map(|(_, rest)| rest).with_context(|| format!("`{url}` is no URL"))?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Ok(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}
