//! The node table in DynamoDB.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use tokio::time::Instant;

use super::dynamo_leases::refused_by_condition;
use super::dynamo_table::{CREATION_POLL, MOST_CREATION, create_table};
use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::ports::{FailureKind, NodeRow, NodeTable, NodeTableError, RemoteFailure};

const KEY: &str = "name";
/// The key of the row that holds what all nodes share; no node may have a `#` in its name.
const SHARED: &str = "#cluster";
const COOKIE: &str = "cookie";
/// As many as the hash has that is made of it.
const COOKIE_BYTES: usize = 32;

/// The table of nodes. Calls of its port are tried once: each is repeated soon by whoever makes it, with what is true by then.
pub struct DynamoNodeTable {
    client: Client,
    table: String,
    caller: Caller,
}

impl DynamoNodeTable {
    /// The node table of this name. The timeout must be shorter than the time between two heartbeats.
    #[must_use]
    pub fn new(client: &Client, table: &str, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_dynamodb, client);
        Self { client, table: table.to_owned(), caller: Caller::new(table.to_owned(), limits) }
    }

    /// The secret that the nodes of this table share; the first one to ask makes it. Whoever may read the table knows it.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn shared_cookie(&self) -> Result<String, RemoteFailure> {
        let fresh: String = rand::random::<[u8; COOKIE_BYTES]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let answer = self
            .caller
            .retried("dynamodb UpdateItem", || {
                self.client
                    .update_item()
                    .table_name(&self.table)
                    .key(KEY, AttributeValue::S(SHARED.to_owned()))
                    .update_expression("SET #cookie = if_not_exists(#cookie, :fresh)")
                    .expression_attribute_names("#cookie", COOKIE)
                    .expression_attribute_values(":fresh", AttributeValue::S(fresh.clone()))
                    .return_values(ReturnValue::AllNew)
                    .send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        let cookie = answer.attributes().and_then(|row| text(row, COOKIE));
        cookie.ok_or_else(|| RemoteFailure {
            call: "dynamodb UpdateItem",
            kind: FailureKind::ServerError,
            detail: format!("`{}`: no cookie in the answer", self.table),
        })
    }

    async fn put(&self, row: &NodeRow, condition: &str) -> Result<(), NodeTableError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item(row))).condition_expression(condition);
        let put = put
            .expression_attribute_names("#boot", "boot")
            .expression_attribute_values(":boot", AttributeValue::N(row.boot.to_string()));
        match self.caller.once("dynamodb PutItem", put.send()).await {
            Ok(_) => Ok(()),
            Err(failed) if refused_by_condition(&failed) => Err(NodeTableError::Superseded(row.name.clone())),
            Err(failed) => Err(failed.failure.into()),
        }
    }
}

#[async_trait]
impl NodeTable for DynamoNodeTable {
    /// A table that is there is only read.
    async fn ensure(&self) -> Result<(), RemoteFailure> {
        let started = Instant::now();
        loop {
            let scan = || self.client.scan().table_name(&self.table).limit(1).send();
            match self.caller.retried("dynamodb Scan", scan).await {
                Ok(_) => return Ok(()),
                // A table that is still being made is not found, either.
                Err(failed) if failed.code == "ResourceNotFoundException" => {
                    create_table(&self.client, &self.caller, &self.table, KEY).await?
                }
                Err(failed) => return Err(failed.failure),
            }
            if started.elapsed() > MOST_CREATION {
                let detail = format!("table `{}` cannot be used after {MOST_CREATION:?}", self.table);
                return Err(RemoteFailure { call: "dynamodb CreateTable", kind: FailureKind::TimedOut, detail });
            }
            tokio::time::sleep(CREATION_POLL).await;
        }
    }

    async fn list(&self) -> Result<Vec<NodeRow>, RemoteFailure> {
        let mut rows = Vec::new();
        let mut after: Option<HashMap<String, AttributeValue>> = None;
        loop {
            let scan =
                self.client.scan().table_name(&self.table).consistent_read(true).set_exclusive_start_key(after.clone()).send();
            let page = self.caller.once("dynamodb Scan", scan).await.map_err(|failed| failed.failure)?;
            rows.extend(page.items().iter().filter_map(row));
            after = page.last_evaluated_key.filter(|key| !key.is_empty());
            if after.is_none() {
                return Ok(rows);
            }
        }
    }

    async fn register(&self, row: &NodeRow) -> Result<(), NodeTableError> {
        self.put(row, "attribute_not_exists(#boot) OR #boot <= :boot").await
    }

    async fn beat(&self, row: &NodeRow) -> Result<(), NodeTableError> {
        self.put(row, "#boot = :boot").await
    }

    async fn remove(&self, name: &str, boot: u64) -> Result<(), RemoteFailure> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(KEY, AttributeValue::S(name.to_owned()))
            .condition_expression("#boot = :boot")
            .expression_attribute_names("#boot", "boot")
            .expression_attribute_values(":boot", AttributeValue::N(boot.to_string()));
        match self.caller.once("dynamodb DeleteItem", delete.send()).await {
            Ok(_) => Ok(()),
            Err(failed) if refused_by_condition(&failed) => Ok(()),
            Err(failed) => Err(failed.failure),
        }
    }
}

fn item(row: &NodeRow) -> HashMap<String, AttributeValue> {
    let mut item = HashMap::from([
        (KEY.to_owned(), AttributeValue::S(row.name.clone())),
        ("boot".to_owned(), AttributeValue::N(row.boot.to_string())),
        ("heartbeat".to_owned(), AttributeValue::N(row.heartbeat.to_string())),
        ("draining".to_owned(), AttributeValue::Bool(row.draining)),
    ]);
    let texts = [("address", &row.address), ("dashboard", &row.dashboard)];
    for (name, value) in texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))) {
        item.insert(name.to_owned(), AttributeValue::S(value));
    }
    // An empty set cannot be stored.
    if !row.roles.is_empty() {
        item.insert("roles".to_owned(), AttributeValue::Ss(row.roles.clone()));
    }
    item
}

/// `None` for what is no node's row, such as the shared one.
fn row(item: &HashMap<String, AttributeValue>) -> Option<NodeRow> {
    let number = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
    let mut roles = item.get("roles").and_then(|roles| roles.as_ss().ok()).cloned().unwrap_or_default();
    // A set has no order of its own.
    roles.sort_unstable();
    Some(NodeRow {
        name: text(item, KEY).filter(|name| !name.contains('#'))?,
        boot: number("boot")?,
        address: text(item, "address"),
        dashboard: text(item, "dashboard"),
        roles,
        heartbeat: number("heartbeat")?,
        draining: item.get("draining").and_then(|draining| draining.as_bool().ok()).copied().unwrap_or_default(),
    })
}

fn text(item: &HashMap<String, AttributeValue>, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}
