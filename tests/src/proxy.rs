//! A TCP proxy that can be switched off: connections are then refused, and open ones are cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Below the ports that systems give to outgoing connections, so that nobody takes the port while it is refused.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One listening port and where it leads to.
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    serving: JoinHandle<()>,
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
        for port in (0..PORTS.end - PORTS.start).map(|n| PORTS.start + (start + n) % (PORTS.end - PORTS.start)) {
            let address = SocketAddr::from((address, port));
            if let Ok(listener) = TcpListener::bind(address).await {
                return Ok(Self { address, upstream, serving: tokio::spawn(serve(listener, upstream)) });
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
        self.serving = tokio::spawn(serve(listener, self.upstream));
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(upstream).await {
                // Either side may go away at any time.
                let _copied = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// `host:port` of a URL.
pub(crate) fn authority(url: &str) -> Result<&str> {
    let rest = url.split_once("://").map(|(_, rest)| rest).with_context(|| format!("`{url}` is no URL"))?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Ok(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}
