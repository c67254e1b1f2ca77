//! Dead letters as they stand in their table, and the id each must have.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use sha2::{Digest, Sha256};

pub const TABLE: &str = "rtr-iot-dead-letters";

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Letter {
    pub id: String,
    pub stage: String,
    pub reason: String,
    pub state: String,
    pub source: String,
    /// The first 64 KiB.
    pub payload: Vec<u8>,
    pub payload_bytes: usize,
    pub payload_object: Option<String>,
    pub tries: u64,
}

impl Letter {
    /// Reads a row.
    ///
    /// # Errors
    /// When an attribute is missing or has another type.
    pub fn read(item: &HashMap<String, AttributeValue>) -> Result<Self> {
        let text = |name: &str| -> Result<String> {
            let value = item.get(name).with_context(|| format!("a dead letter has no `{name}`"))?;
            value.as_s().cloned().map_err(|_| anyhow::anyhow!("`{name}` of a dead letter is no string"))
        };
        let number = |name: &str| -> Result<u64> {
            let value = item.get(name).and_then(|value| value.as_n().ok()).with_context(|| format!("no number `{name}`"))?;
            Ok(value.parse()?)
        };
        let payload = item.get("payload").and_then(|value| value.as_b().ok()).context("a dead letter has no payload")?;
        text("firstSeen")?;
        text("lastSeen")?;
        Ok(Self {
            id: text("letterId")?,
            stage: text("stage")?,
            reason: text("reason")?,
            state: text("state")?,
            source: text("source")?,
            payload: payload.as_ref().to_vec(),
            payload_bytes: usize::try_from(number("payloadBytes")?)?,
            payload_object: text("payloadObject").ok(),
            tries: number("tries")?,
        })
    }
}

/// The id of the letter that a stage must make of a payload: hex of the first 16 bytes of SHA-256 over stage, `|`, payload.
#[must_use]
pub fn id_of(stage: &str, payload: &[u8]) -> String {
    let digest = Sha256::new().chain_update(stage).chain_update("|").chain_update(payload).finalize();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a letter into the table, as a lane would.
///
/// # Errors
/// When the cloud refuses.
pub async fn store(dynamodb: &aws_sdk_dynamodb::Client, id: &str, stage: &str, stream: &str, payload: &[u8]) -> Result<()> {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: usize| AttributeValue::N(value.to_string());
    let request = dynamodb
        .put_item()
        .table_name(TABLE)
        .item("letterId", text(id))
        .item("stage", text(stage))
        .item("reason", text("a test put it here"))
        .item("payload", AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(payload)))
        .item("payloadBytes", number(payload.len()))
        .item("source", text(&format!("{stream}/shardId-000000000000/1/0")))
        .item("firstSeen", text("2026-01-01T00:00:00.000Z"))
        .item("lastSeen", text("2026-01-01T00:00:00.000Z"))
        .item("tries", number(1))
        .item("state", text("open"));
    request.send().await.context("failed to store a letter")?;
    Ok(())
}
