//! A proxy before DynamoDB that keeps what one node asked for and what it was answered: the proof of what a node did not write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::lease_log::LeaseLog;
use crate::relay::{Between, Message, Relay};

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
    relay: Relay,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard(Mutex<Vec<Call>>);

/// One wiretap a node.
pub struct Wiretaps(BTreeMap<String, Wiretap>);

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
        let heard = Arc::<Heard>::default();
        let relay = Relay::before(url, heard.clone()).await?;
        Ok(Self { relay, heard })
    }

    fn calls(&self) -> Vec<Call> {
        self.heard.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Between for Heard {
    fn passed(&self, at: SystemTime, call: &Message, answer: Option<&Message>) {
        let (body, status) = (call.json(), answer.and_then(Message::status));
        let call = Call { at, operation: operation(call), body, status };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// A relay knows it in lower case.
fn operation(call: &Message) -> String {
    let name = call.operation();
    let known = ["UpdateItem", "PutItem", "DeleteItem", "GetItem", "BatchWriteItem", "TransactWriteItems", "Scan", "Query"];
    known.into_iter().find(|known| known.eq_ignore_ascii_case(name)).map_or_else(|| name.to_owned(), str::to_owned)
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
        command.env("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{}", tap.relay.address));
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
