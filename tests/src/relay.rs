//! A proxy that understands HTTP/1.1 as the SDK speaks it: it holds calls back, or notes what was asked and answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::proxy::authority;

/// What stands between a client and its service.
pub(crate) trait Between: Send + Sync + 'static {
    /// How long this call waits before it is passed on.
    fn hold(&self, _: &Message) -> Duration {
        Duration::ZERO
    }

    /// Hears of a call that had come in by then, and of its answer if there was one.
    fn passed(&self, _: SystemTime, _: &Message, _: Option<&Message>) {}
}

/// Listens until it is dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

/// A call or an answer.
pub(crate) struct Message {
    /// In lower case.
    head: String,
    bytes: Vec<u8>,
    body_at: usize,
}

impl Relay {
    /// Starts it in front of the host and port of a URL.
    ///
    /// # Errors
    /// When no port is free.
    pub(crate) async fn before(url: &str, between: Arc<dyn Between>) -> Result<Self> {
        let upstream: SocketAddr = authority(url)?.parse().with_context(|| format!("`{url}` names no address"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, serving: tokio::spawn(serve(listener, upstream, between)) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Message {
    /// The operation that a call in JSON names, in lower case.
    pub(crate) fn operation(&self) -> &str {
        self.header("x-amz-target").unwrap_or_default().rsplit('.').next().unwrap_or_default()
    }

    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes[self.body_at..]).unwrap_or_default()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, between: Arc<dyn Between>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let between = Arc::clone(&between);
        // Either side may go away at any time.
        connections.spawn(async move { relay(client, upstream, &*between).await.is_ok() });
        while connections.try_join_next().is_some() {}
    }
}

/// One call after the other, as HTTP/1.1 has it.
async fn relay(client: TcpStream, upstream: SocketAddr, between: &dyn Between) -> Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    let (mut from_client, mut from_server) = (BufReader::new(from_client), BufReader::new(from_server));
    loop {
        let call = read(&mut from_client).await?;
        let at = SystemTime::now();
        sleep(between.hold(&call)).await;
        let answer = exchange(&call, &mut to_server, &mut from_server).await;
        between.passed(at, &call, answer.as_ref().ok());
        to_client.write_all(&answer?.bytes).await?;
    }
}

async fn exchange(call: &Message, to: &mut OwnedWriteHalf, from: &mut BufReader<OwnedReadHalf>) -> Result<Message> {
    to.write_all(&call.bytes).await?;
    read(from).await
}

/// A whole message. The SDK and the local cloud say how long each is.
async fn read(from: &mut BufReader<OwnedReadHalf>) -> Result<Message> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        ensure!(bytes.len() < 64 * 1024, "a head without end");
        bytes.push(from.read_u8().await?);
    }
    let head = String::from_utf8(bytes.clone())?.to_lowercase();
    let body_at = bytes.len();
    let length = match header(&head, "content-length") {
        Some(length) => length.parse()?,
        None if header(&head, "transfer-encoding").is_some() => bail!("a message of unknown length"),
        None => 0,
    };
    bytes.resize(body_at + length, 0);
    from.read_exact(&mut bytes[body_at..]).await?;
    Ok(Message { head, bytes, body_at })
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
