//! Events as items of a DynamoDB table.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use futures::{StreamExt, TryStreamExt, stream};

use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::domain::SpeedEvent;
use crate::ports::{FailureKind, Refused, RemoteFailure, ViolationStore};

/// Most items of one call (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>).
const MOST_ITEMS: usize = 25;
/// Calls at a time for one batch: its 500 events are 20 calls, and a table that just woke up serves about 1,000 writes a second.
const MOST_CALLS: usize = 8;

/// A table of events.
pub struct DynamoViolationStore {
    client: Client,
    table: String,
    caller: Caller,
}

/// The item of an event; the same at every delivery.
#[must_use]
pub fn violation_item(event: &SpeedEvent) -> HashMap<String, AttributeValue> {
    let text = |name: &str, value: &str| (name.to_owned(), AttributeValue::S(value.to_owned()));
    HashMap::from([
        text("iottimestamp", event.iottimestamp()),
        text("licensePlate", event.license_plate()),
        text("longitude", event.longitude()),
        text("latitude", event.latitude()),
        text("city", event.city()),
        text("state", event.state()),
        text("eventId", event.event_id()),
        ("speed".to_owned(), AttributeValue::N(event.speed().to_string())),
    ])
}

/// One item, and the events that it stands for.
struct Put<'a> {
    event: &'a SpeedEvent,
    indices: Vec<usize>,
}

impl DynamoViolationStore {
    /// Writes into the table of this name.
    #[must_use]
    pub fn new(client: &Client, table: &str, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_dynamodb, client);
        Self { client, table: table.to_owned(), caller: Caller::new(table.to_owned(), limits) }
    }

    async fn put_chunk(&self, puts: &[Put<'_>]) -> Result<Vec<Refused>, RemoteFailure> {
        let call = "dynamodb BatchWriteItem";
        let mut pending: Vec<WriteRequest> = puts.iter().map(|put| write_request(put.event)).collect();
        let mut retries = self.caller.retries();
        loop {
            let requests = HashMap::from([(self.table.clone(), pending.clone())]);
            let answer = self.caller.once(call, self.client.batch_write_item().set_request_items(Some(requests)).send()).await;
            let failure = match answer {
                Ok(answer) => {
                    pending = unprocessed(answer);
                    if pending.is_empty() {
                        return Ok(Vec::new());
                    }
                    self.caller.left_out(call, "")
                }
                Err(failed) if failed.blames_content() => return self.put_one_by_one(puts).await,
                Err(failed) => failed.failure,
            };
            if failure.kind == FailureKind::Refused || !retries.wait().await {
                return Err(failure);
            }
        }
    }

    /// Finds the items that spoilt a batch.
    async fn put_one_by_one(&self, puts: &[Put<'_>]) -> Result<Vec<Refused>, RemoteFailure> {
        let mut refused = Vec::new();
        for put in puts {
            let item = violation_item(put.event);
            let answer = self
                .caller
                .retried("dynamodb PutItem", || {
                    self.client.put_item().table_name(&self.table).set_item(Some(item.clone())).send()
                })
                .await;
            match answer {
                Ok(_) => {}
                Err(failed) if failed.blames_content() => {
                    let reason = failed.failure.detail;
                    refused.extend(put.indices.iter().map(|&index| Refused { index, reason: reason.clone() }));
                }
                Err(failed) => return Err(failed.failure),
            }
        }
        Ok(refused)
    }
}

fn write_request(event: &SpeedEvent) -> WriteRequest {
    let put = PutRequest::builder().set_item(Some(violation_item(event))).build().expect("the item is given");
    WriteRequest::builder().put_request(put).build()
}

fn unprocessed(answer: BatchWriteItemOutput) -> Vec<WriteRequest> {
    answer.unprocessed_items.unwrap_or_default().into_values().flatten().collect()
}

/// One put a key: a BatchWriteItem call with two equal keys is refused whole.
fn distinct<'a>(events: &[&'a SpeedEvent]) -> Vec<Put<'a>> {
    let mut puts: Vec<Put<'_>> = Vec::with_capacity(events.len());
    let mut by_key = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        let place = *by_key.entry((event.license_plate(), event.event_id())).or_insert(puts.len());
        match puts.get_mut(place) {
            Some(put) => put.indices.push(index),
            None => puts.push(Put { event, indices: vec![index] }),
        }
    }
    puts
}

#[async_trait]
impl ViolationStore for DynamoViolationStore {
    async fn put(&self, events: &[&SpeedEvent]) -> Result<Vec<Refused>, RemoteFailure> {
        let puts = distinct(events);
        let calls: Vec<_> = puts.chunks(MOST_ITEMS).map(|chunk| self.put_chunk(chunk)).collect();
        let refused: Vec<Vec<Refused>> = stream::iter(calls).buffer_unordered(MOST_CALLS).try_collect().await?;
        let mut refused: Vec<_> = refused.into_iter().flatten().collect();
        refused.sort_by_key(|refused| refused.index);
        Ok(refused)
    }
}
