//! What the pipeline has left behind, read by nothing but clients of AWS and SQL.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::SystemTime;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;
use serde_json::Value;

use crate::endpoints::{Clients, Endpoints, get_json};
use crate::letters::{self, Letter};
use crate::oracle::Violation;
use crate::streams::{self, OUT_STREAM};

pub const SPEEDING_TABLE: &str = "rtr-iot-speeding";
pub const ALERTS_TABLE: &str = "rtr-iot-alerts";
const ARCHIVE_BUCKET: &str = "rtr-iot-archive-000000000000";

const NAMES: [&str; 6] = ["licensePlate", "longitude", "latitude", "city", "state", "speed"];

/// An event as it stands in the table, on the out-stream or in the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    pub iottimestamp: String,
    pub violation: Violation,
}

/// A record of the out-stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub event: Stored,
    pub first_name: String,
    pub last_name: String,
    pub myphone: String,
}

/// When something came onto the out-stream.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub event_id: String,
    pub plate: String,
    /// By the stream's clock, which is this machine's.
    pub at: SystemTime,
}

/// Everything, by event id where there is one.
#[derive(Debug, Default)]
pub struct Evidence {
    pub stored: BTreeMap<String, Stored>,
    pub published: BTreeMap<String, Published>,
    /// Records on the out-stream whose event was there before.
    pub published_again: usize,
    /// All records of the out-stream, shard by shard in their order.
    pub arrivals: Vec<Arrival>,
    /// How often each text went to each number.
    pub texts: BTreeMap<(String, String), usize>,
    pub archived: BTreeMap<String, Stored>,
    /// Archived events of which two lines differ.
    pub archived_unlike: BTreeSet<String>,
    pub letters: Vec<Letter>,
    /// Plates in the warehouse, trimmed and upper-cased.
    pub plates: BTreeSet<String>,
    pub driver_rows: usize,
}

impl Evidence {
    /// Looks everywhere.
    ///
    /// # Errors
    /// When something cannot be read, or has another form than it must have.
    pub async fn gather(endpoints: &Endpoints, clients: &Clients) -> Result<Self> {
        let mut evidence = Self::default();
        for item in items(&clients.dynamodb, SPEEDING_TABLE).await? {
            let (id, stored) = stored_item(&item)?;
            evidence.stored.insert(id, stored);
        }
        for record in streams::all_records(&clients.kinesis, OUT_STREAM).await? {
            let value: Value =
                serde_json::from_slice(record.data.as_ref()).context("the out-stream holds something else than JSON")?;
            let (id, event) = stored_json(&value)?;
            let at = record.approximate_arrival_timestamp.context("a record that arrived at no time")?;
            let plate = event.violation[0].clone();
            evidence.arrivals.push(Arrival { event_id: id.clone(), plate, at: SystemTime::try_from(at)? });
            let text =
                |name: &str| value[name].as_str().map(str::to_owned).with_context(|| format!("no `{name}` on the out-stream"));
            let published =
                Published { event, first_name: text("first_name")?, last_name: text("last_name")?, myphone: text("myphone")? };
            evidence.published_again += usize::from(evidence.published.insert(id, published).is_some());
        }
        for (number, texts) in texts(endpoints).await? {
            for text in texts {
                *evidence.texts.entry((number.clone(), text)).or_default() += 1;
            }
        }
        for line in archive_lines(clients).await? {
            let (id, event) = stored_json(&line)?;
            if evidence.archived.insert(id.clone(), event.clone()).is_some_and(|before| before != event) {
                evidence.archived_unlike.insert(id);
            }
        }
        evidence.letters = all_letters(clients).await?;
        evidence.look_into_warehouse(endpoints).await?;
        Ok(evidence)
    }

    /// Texts beyond the first of each.
    #[must_use]
    pub fn repeated_texts(&self) -> usize {
        self.texts.values().map(|n| n - 1).sum()
    }

    /// Dead letters of one stage.
    pub fn letters_of(&self, stage: &str) -> impl Iterator<Item = &Letter> {
        self.letters.iter().filter(move |letter| letter.stage == stage)
    }

    async fn look_into_warehouse(&mut self, endpoints: &Endpoints) -> Result<()> {
        let (client, connection) = tokio_postgres::connect(&endpoints.warehouse_url, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let rows = client.query("SELECT licenseplate FROM public.rtr_iot_driver_data", &[]).await?;
        self.driver_rows = rows.len();
        self.plates = rows.iter().map(|row| row.get::<_, String>(0).trim().to_uppercase()).collect();
        drop(client);
        connection.await??;
        Ok(())
    }
}

/// The dead letters alone.
///
/// # Errors
/// When they cannot be read.
pub async fn all_letters(clients: &Clients) -> Result<Vec<Letter>> {
    items(&clients.dynamodb, letters::TABLE).await?.iter().map(Letter::read).collect()
}

/// All items of a table.
///
/// # Errors
/// When it cannot be scanned.
pub async fn items(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Result<Vec<HashMap<String, AttributeValue>>> {
    let mut items = Vec::new();
    let mut from = None;
    loop {
        let scan = dynamodb.scan().table_name(table).consistent_read(true).set_exclusive_start_key(from);
        let page = scan.send().await.with_context(|| format!("failed to scan {table}"))?;
        items.extend(page.items.unwrap_or_default());
        from = page.last_evaluated_key;
        if from.is_none() {
            return Ok(items);
        }
    }
}

/// What was texted, by number.
///
/// # Errors
/// When the local cloud does not tell.
pub async fn texts(endpoints: &Endpoints) -> Result<BTreeMap<String, Vec<String>>> {
    #[derive(Deserialize)]
    struct Sent {
        sms_messages: BTreeMap<String, Vec<Message>>,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(rename = "Message")]
        text: String,
    }
    let sent: Sent = get_json(endpoints.sms_messages_url.clone()).await?;
    let texts = |messages: Vec<Message>| messages.into_iter().map(|message| message.text).collect();
    Ok(sent.sms_messages.into_iter().map(|(number, messages)| (number, texts(messages))).collect())
}

/// The bytes of an object in the archive's bucket.
///
/// # Errors
/// When it cannot be read.
pub async fn archive_object(clients: &Clients, key: &str) -> Result<Vec<u8>> {
    let object = clients.s3.get_object().bucket(ARCHIVE_BUCKET).key(key).send().await;
    let object = object.with_context(|| format!("failed to get `{key}`"))?;
    Ok(object.body.collect().await?.to_vec())
}

async fn archive_lines(clients: &Clients) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    let mut from = None;
    loop {
        let list = clients.s3.list_objects_v2().bucket(ARCHIVE_BUCKET).prefix("speeding/").set_continuation_token(from);
        let page = list.send().await.context("failed to list the archive")?;
        for key in page.contents().iter().filter_map(|object| object.key()) {
            let bytes = archive_object(clients, key).await?;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                lines
                    .push(serde_json::from_slice(line).with_context(|| format!("`{key}` holds something else than JSON lines"))?);
            }
        }
        from = page.next_continuation_token;
        if from.is_none() {
            return Ok(lines);
        }
    }
}

fn stored_item(item: &HashMap<String, AttributeValue>) -> Result<(String, Stored)> {
    let text = |name: &str| -> Result<String> {
        let value = item.get(name).with_context(|| format!("an item has no `{name}`"))?;
        let text = if name == "speed" { value.as_n() } else { value.as_s() };
        text.cloned().map_err(|_| anyhow::anyhow!("`{name}` of an item has the wrong type"))
    };
    anyhow::ensure!(item.len() == 8, "an item has other attributes than the seven members and eventId: {:?}", item.keys());
    stored(text)
}

fn stored_json(value: &Value) -> Result<(String, Stored)> {
    let text = |name: &str| -> Result<String> {
        let member = &value[name];
        let text =
            if name == "speed" { member.as_u64().map(|speed| speed.to_string()) } else { member.as_str().map(str::to_owned) };
        text.with_context(|| format!("`{name}` is missing or has the wrong type in {value}"))
    };
    stored(text)
}

fn stored(text: impl Fn(&str) -> Result<String>) -> Result<(String, Stored)> {
    let values = NAMES.map(&text).into_iter().collect::<Result<Vec<_>>>()?;
    let violation = Violation::try_from(values).map_err(|_| anyhow::anyhow!("not six values"))?;
    Ok((text("eventId")?, Stored { iottimestamp: text("iottimestamp")?, violation }))
}
