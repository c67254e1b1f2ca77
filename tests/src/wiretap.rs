//! A proxy before DynamoDB that keeps what one node asked for and what it was answered: the proof of what a node did not write.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet};

use crate::lease_log::LeaseLog;
use crate::proxy::authority;

/// One call and its answer.
#[derive(Clone, Debug)]
pub struct Call {
    /// When all of it had come in.
    pub at: SystemTime,
    pub operation: String,
    pub body: Value,
    /// The status of the answer; none if there was none.
    pub status: Option<u16>,
}

/// Listens until it is dropped.
struct Wiretap {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    serving: JoinHandle<()>,
}

/// One wiretap a node.
pub struct Wiretaps(BTreeMap<String, Wiretap>);

struct Message {
    head: String,
    bytes: Vec<u8>,
    body_at: usize,
}

impl Call {
    /// Whether DynamoDB did as it was asked.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.status == Some(200)
    }

    /// The table it is about.
    #[must_use]
    pub fn table(&self) -> &str {
        self.body["TableName"].as_str().unwrap_or_default()
    }

    /// Whether it changes rows.
    #[must_use]
    pub fn is_write(&self) -> bool {
        ["UpdateItem", "PutItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"].contains(&self.operation.as_str())
    }

    /// The shard whose lease an UpdateItem is about.
    #[must_use]
    pub fn lease_key(&self) -> Option<&str> {
        self.body["Key"]["leaseKey"]["S"].as_str()
    }

    /// The value that an UpdateItem sets an attribute to.
    #[must_use]
    pub fn sets(&self, attribute: &str) -> Option<&str> {
        let update = self.body["UpdateExpression"].as_str()?;
        let names = self.body["ExpressionAttributeNames"].as_object();
        let set = update.split(" REMOVE ").next()?.split(" ADD ").next()?.trim_start_matches("SET ");
        let value = set.split(", ").filter_map(|term| term.split_once(" = ")).find_map(|(name, value)| {
            let name = names.and_then(|names| names.get(name)).and_then(Value::as_str).unwrap_or(name);
            (name == attribute).then_some(value)
        })?;
        self.body["ExpressionAttributeValues"][value].as_object()?.values().next()?.as_str()
    }

    /// Whether an UpdateItem removes an attribute.
    #[must_use]
    pub fn removes(&self, attribute: &str) -> bool {
        let update = self.body["UpdateExpression"].as_str().unwrap_or_default();
        update.split_once("REMOVE ").is_some_and(|(_, rest)| rest.split([',', ' ']).any(|name| name == attribute))
    }
}

impl Wiretap {
    async fn before(url: &str) -> Result<Self> {
        let upstream: SocketAddr = authority(url)?.parse().with_context(|| format!("`{url}` names no address"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let serving = tokio::spawn(serve(listener, upstream, Arc::clone(&calls)));
        Ok(Self { address, calls, serving })
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Wiretaps {
    /// Starts one before the local cloud for each of these nodes.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn of(names: &[&str], url: &str) -> Result<Self> {
        let mut taps = BTreeMap::new();
        for name in names {
            taps.insert((*name).to_owned(), Wiretap::before(url).await?);
        }
        Ok(Self(taps))
    }

    /// Makes a node ask DynamoDB through its wiretap.
    ///
    /// # Errors
    /// When the node has none.
    pub fn tap(&self, name: &str, command: &mut Command) -> Result<()> {
        let tap = self.0.get(name).with_context(|| format!("{name} has no wiretap"))?;
        command.env("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{}", tap.address));
        Ok(())
    }

    /// What a node asked so far, in the order of the answers.
    #[must_use]
    pub fn calls(&self, name: &str) -> Vec<Call> {
        self.0.get(name).map(Wiretap::calls).unwrap_or_default()
    }

    /// What all nodes wrote into their leases.
    ///
    /// # Errors
    /// When a write cannot be understood.
    pub fn lease_log(&self) -> Result<LeaseLog> {
        LeaseLog::of(self.0.iter().map(|(name, tap)| (name.as_str(), tap.calls())))
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, calls: Arc<Mutex<Vec<Call>>>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let calls = Arc::clone(&calls);
        // Either side may go away at any time.
        connections.spawn(async move { relay(client, upstream, &calls).await.is_ok() });
        while connections.try_join_next().is_some() {}
    }
}

/// One call after the other, as HTTP/1.1 has it.
async fn relay(client: TcpStream, upstream: SocketAddr, calls: &Mutex<Vec<Call>>) -> Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    let (mut from_client, mut from_server) = (BufReader::new(from_client), BufReader::new(from_server));
    loop {
        let request = read(&mut from_client).await?;
        let (at, operation) = (SystemTime::now(), request.operation());
        let body = serde_json::from_slice(&request.bytes[request.body_at..]).unwrap_or_default();
        let answer = exchange(&request, &mut to_server, &mut from_server).await;
        let status = answer.as_ref().ok().and_then(Message::status);
        calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call { at, operation, body, status });
        to_client.write_all(&answer?.bytes).await?;
    }
}

async fn exchange(request: &Message, to: &mut OwnedWriteHalf, from: &mut BufReader<OwnedReadHalf>) -> Result<Message> {
    to.write_all(&request.bytes).await?;
    read(from).await
}

/// A whole message. DynamoDB's clients and the local cloud say how long each is.
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

impl Message {
    fn operation(&self) -> String {
        let target = header(&self.head, "x-amz-target").unwrap_or_default();
        // The head was put into lower case; operations are known by their own.
        let name = target.rsplit('.').next().unwrap_or_default();
        let known = ["UpdateItem", "PutItem", "DeleteItem", "GetItem", "BatchWriteItem", "TransactWriteItems", "Scan", "Query"];
        known.into_iter().find(|known| known.eq_ignore_ascii_case(name)).map_or_else(|| name.to_owned(), str::to_owned)
    }

    fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_update_sets_and_removes_is_read_from_its_expression() {
        let call = Call {
            at: SystemTime::UNIX_EPOCH,
            operation: "UpdateItem".to_owned(),
            body: serde_json::json!({
                "UpdateExpression": "SET leaseCounter = :next, #checkpoint = :checkpoint REMOVE leaseOwner, pending ADD n :one",
                "ExpressionAttributeNames": {"#checkpoint": "checkpoint"},
                "ExpressionAttributeValues": {":next": {"N": "7"}, ":checkpoint": {"S": "SHARD_END"}},
            }),
            status: Some(200),
        };
        assert_eq!((call.sets("leaseCounter"), call.sets("checkpoint")), (Some("7"), Some("SHARD_END")));
        assert_eq!((call.sets("leaseOwner"), call.sets("pending")), (None, None));
        assert!(call.removes("leaseOwner") && call.removes("pending") && !call.removes("leaseCounter"));
    }
}
