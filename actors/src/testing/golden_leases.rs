//! Golden lease rows, and items as DynamoDB's own JSON writes them.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::ports::{Checkpoint, Lease};

type Item = HashMap<String, AttributeValue>;

/// A row of another worker, and the lease that it is.
pub struct GoldenLease {
    /// As it stands in the table.
    pub row: Item,
    /// As [`lease_json`] writes it.
    pub lease: Value,
    /// How many user records of the shard its checkpoint covers, where that is known.
    pub done: Option<usize>,
}

/// A row after one of our writes.
pub struct GoldenWrite {
    /// The operation.
    pub write: String,
    /// As [`item_json`] writes it.
    pub row: Value,
}

/// The table of an application on KCL 1.12, such as a Spark job's.
#[must_use]
pub fn golden_kcl_1_12() -> Vec<GoldenLease> {
    leases(include_str!("../../../data/golden/leases-kcl-1.12.ndjson"))
}

/// The table of an application on KCL 2.5.
#[must_use]
pub fn golden_kcl_2_5() -> Vec<GoldenLease> {
    leases(include_str!("../../../data/golden/leases-kcl-2.5.ndjson"))
}

/// The table that two workers of KCL 2.5.8 left behind.
#[must_use]
pub fn dumped_kcl_2_5_8() -> Vec<GoldenLease> {
    leases(include_str!("../../../data/golden/leases-kcl-2.5.8-dump.ndjson"))
}

/// A record of the Kinesis Producer Library, and the readings in it.
///
/// # Panics
/// When the file is no such record.
#[must_use]
pub fn aggregated_record() -> (Vec<u8>, Vec<String>) {
    let golden: Value = lines(include_str!("../../../data/golden/aggregated-record.json")).next().expect("a record");
    let text = |value: &Value| value.as_str().expect("golden text").to_owned();
    let readings = golden["userRecords"].as_array().expect("a list").iter().map(text).collect();
    (STANDARD.decode(text(&golden["record"])).expect("base64"), readings)
}

/// The life of one row under our own writes, in order.
#[must_use]
pub fn golden_writes() -> Vec<GoldenWrite> {
    let text = |value: &Value| value.as_str().expect("golden text").to_owned();
    lines(include_str!("../../../data/golden/lease-writes.ndjson"))
        .map(|line| GoldenWrite { write: text(&line["write"]), row: line["row"].clone() })
        .collect()
}

fn leases(text: &'static str) -> Vec<GoldenLease> {
    let done = |line: &Value| line["done"].as_u64().and_then(|done| usize::try_from(done).ok());
    lines(text).map(|line| GoldenLease { row: item(&line["row"]), lease: line["lease"].clone(), done: done(&line) }).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("golden JSON"))
}

/// What was read from a row.
#[must_use]
pub fn lease_json(lease: &Lease) -> Value {
    let sub = if let Checkpoint::At(position) = &lease.checkpoint { position.sub } else { 0 };
    let ids = |shards: &[crate::domain::ShardId]| sorted(shards.iter().map(|shard| shard.as_str().to_owned()).collect());
    json!({
        "shard": lease.shard.as_str(),
        "owner": lease.owner,
        "counter": lease.counter,
        "checkpoint": lease.checkpoint.to_string(),
        "sub": sub,
        "parents": ids(&lease.parents),
        "children": ids(&lease.children),
        "hasHashRange": lease.has_hash_range,
    })
}

/// An item from DynamoDB's JSON; only the types that lease rows have.
///
/// # Panics
/// When the JSON is no such item.
#[must_use]
pub fn item(json: &Value) -> Item {
    let value = |value: &Value| {
        let (kind, value) = value.as_object().and_then(|value| value.iter().next()).expect("an attribute has a type");
        let text = |value: &Value| value.as_str().expect("an attribute is text").to_owned();
        match kind.as_str() {
            "S" => AttributeValue::S(text(value)),
            "N" => AttributeValue::N(text(value)),
            "B" => AttributeValue::B(Blob::new(STANDARD.decode(text(value)).expect("base64"))),
            "SS" => AttributeValue::Ss(value.as_array().expect("a set is an array").iter().map(text).collect()),
            kind => panic!("no lease row has the type {kind}"),
        }
    };
    json.as_object().expect("an item is an object").iter().map(|(name, json)| (name.clone(), value(json))).collect()
}

/// An item as DynamoDB's JSON, with the members of sets in order.
///
/// # Panics
/// When the item holds a type that no lease row has.
#[must_use]
pub fn item_json(item: &Item) -> Value {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes.as_ref()) }),
        AttributeValue::Ss(set) => json!({ "SS": sorted(set.clone()) }),
        other => panic!("no lease row has {other:?}"),
    };
    item.iter().map(|(name, attribute)| (name.clone(), value(attribute))).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
