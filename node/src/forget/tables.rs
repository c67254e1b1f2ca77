//! The items of one plate in DynamoDB.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use speedtrap_actors::domain::PlateKey;

use crate::exit::Stop;
use crate::wiring::refusal;

/// Deletions at a time; a table paid by request takes far more.
const AT_ONCE: usize = 8;

/// The key of an event in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventKey {
    /// As it was received.
    pub(super) plate: String,
    pub(super) event_id: String,
}

/// Reads the whole table: a plate stands there as it was received, in any case and with any blanks around it.
pub(super) async fn events_of(client: &Client, place: &str, table: &str, plate: &PlateKey) -> Result<Vec<EventKey>, Stop> {
    let mut pages = client
        .scan()
        .table_name(table)
        .projection_expression("licensePlate, eventId")
        .consistent_read(true)
        .into_paginator()
        .send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| refusal(&format!("cannot read table `{table}`"), &error, place))?;
        for item in page.items() {
            let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
            let (Some(as_received), Some(event_id)) = (text("licensePlate"), text("eventId")) else { continue };
            if PlateKey::of(&as_received) == *plate {
                found.push(EventKey { plate: as_received, event_id });
            }
        }
    }
    Ok(found)
}

/// Deletes events; one that is gone already is as good.
pub(super) async fn delete_events(client: &Client, place: &str, table: &str, keys: &[EventKey]) -> Result<(), Stop> {
    let delete = |key: EventKey| async move {
        client
            .delete_item()
            .table_name(table)
            .key("licensePlate", AttributeValue::S(key.plate))
            .key("eventId", AttributeValue::S(key.event_id))
            .send()
            .await
            .map_err(|error| refusal(&format!("cannot delete from table `{table}`"), &error, place))
    };
    stream::iter(keys.to_vec()).map(delete).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
}

/// What became of the claims of texts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) deleted: usize,
    /// Texts that are being sent at this moment: without its claim one could go out twice.
    pub(super) busy: usize,
}

/// Deletes the claims of events, but not those of texts that are under way.
pub(super) async fn delete_claims(client: &Client, place: &str, table: &str, event_ids: Vec<String>) -> Result<Claims, Stop> {
    let delete = |event_id: String| async move {
        let deleted = client
            .delete_item()
            .table_name(table)
            .key("eventId", AttributeValue::S(event_id))
            .condition_expression("attribute_not_exists(eventId) OR #state <> :claimed")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":claimed", AttributeValue::S("claimed".to_owned()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await;
        match deleted {
            Ok(answer) => Ok(Claims { deleted: usize::from(answer.attributes.is_some()), busy: 0 }),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(Claims { deleted: 0, busy: 1 }),
            Err(error) => Err(refusal(&format!("cannot delete from table `{table}`"), &error, place)),
        }
    };
    let sum =
        |sum: Claims, one: Claims| async move { Ok(Claims { deleted: sum.deleted + one.deleted, busy: sum.busy + one.busy }) };
    stream::iter(event_ids).map(delete).buffer_unordered(AT_ONCE).try_fold(Claims::default(), sum).await
}
