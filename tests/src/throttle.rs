//! A service that answers every call with the same refusal: it is asked too often.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// As SNS says it.
const BODY: &str = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
    <Code>Throttling</Code><Message>Rate exceeded</Message></Error><RequestId>0</RequestId></ErrorResponse>";

/// Listens until it is dropped.
pub struct Throttle {
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Throttle {
    /// Starts it.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // A client may go away at any time.
                connections.spawn(async move { drop(refuse_all(client).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, serving })
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn refuse_all(client: TcpStream) -> Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while client.read_line(&mut line).await? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        if line.is_empty() {
            return Ok(());
        }
        let mut body = vec![0; length];
        client.read_exact(&mut body).await?;
        let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n", BODY.len());
        client.get_mut().write_all(format!("{head}{BODY}").as_bytes()).await?;
    }
}
