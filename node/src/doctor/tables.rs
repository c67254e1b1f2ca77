//! Tables: whether they are there, keyed as the nodes write them, with their stream and their time to live.

use std::sync::Arc;

use aws_sdk_dynamodb::types::{ScalarAttributeType, StreamViewType, TableDescription, TableStatus, TimeToLiveStatus};

use super::aws::Told;
use super::report::Finding;
use super::{Check, Group, Place};
use crate::config::RoleName;

/// Set on each claim, and read by DynamoDB alone.
const EXPIRES_AT: &str = "expiresAt";
const TEMPLATE: &str = "create it from deploy/aws/speedtrap.yaml, or correct the name, the region or the endpoint";

/// The keys of an event.
pub(super) const EVENT: &[&str] = &["licensePlate", "eventId"];
/// The key of a claim.
pub(super) const CLAIM: &[&str] = &["eventId"];
/// The key of a dead letter.
pub(super) const LETTER: &[&str] = &["letterId"];
/// The key of a node.
pub(super) const NODE: &[&str] = &["name"];

/// A table that nodes write.
struct Wanted {
    id: &'static str,
    name: String,
    keys: &'static [&'static str],
    /// The node makes it when it is absent.
    is_own: bool,
}

/// What the roles read and write.
pub(super) fn checks(place: &Arc<Place>) -> Vec<Check> {
    let tables = &place.config.dynamodb;
    let (enriches, archives) = (place.has(RoleName::Enrich), place.has(RoleName::Archive));
    let raw = &place.config.persist.raw_table;
    let wanted = [
        ("table.speeding", &tables.speeding_table, EVENT, enriches || archives),
        ("table.raw", raw, EVENT, enriches && !raw.is_empty()),
        ("table.alerts", &tables.alerts_table, CLAIM, place.has(RoleName::Notify)),
        ("table.dead_letters", &tables.dead_letters_table, LETTER, true),
        ("table.nodes", &tables.nodes_table, NODE, !tables.nodes_table.is_empty()),
    ];
    let mut all = Vec::new();
    for (id, name, keys, _) in wanted.into_iter().filter(|(_, _, _, is_used)| *is_used) {
        let wanted = Wanted { id, name: name.clone(), keys, is_own: id == "table.nodes" };
        let place = Arc::clone(place);
        all.push(Check::remote(Group::Tables, wanted.id, async move { table(&place, &wanted).await }));
    }
    if archives {
        let place = Arc::clone(place);
        all.push(Check::remote(Group::Tables, "table.speeding.stream", async move { table_stream(&place).await }));
    }
    if place.has(RoleName::Notify) {
        let place = Arc::clone(place);
        all.push(Check::remote(Group::Tables, "table.alerts.ttl", async move { time_to_live(&place).await }));
    }
    all
}

async fn table(place: &Place, wanted: &Wanted) -> Finding {
    let name = &wanted.name;
    let answer = place.clients.dynamodb.describe_table().table_name(name).send().await;
    let missing = || match wanted.is_own {
        true => Finding::ok(format!("`{name}` is not there yet; the first node makes it")),
        false => Finding::fail(format!("there is no table `{name}`"), TEMPLATE),
    };
    let Some(found) = answer.as_ref().ok().and_then(|answer| answer.table()) else {
        return Told::of(&answer).finding("dynamodb:DescribeTable", missing);
    };
    let keys = keys_of(found);
    let expected: Vec<_> = wanted.keys.iter().map(|key| format!("{key} S")).collect();
    if keys != expected {
        return Finding::fail(
            format!("`{name}` is keyed by {}, not by {}", keys.join(" and "), expected.join(" and ")),
            "make it anew from deploy/aws/speedtrap.yaml (keys cannot be changed); with these every record would become a dead letter",
        );
    }
    match found.table_status() {
        Some(TableStatus::Active) => Finding::ok(format!("`{name}` is ACTIVE, keyed by {}", wanted.keys.join(" and "))),
        Some(TableStatus::Updating) => {
            Finding::warn(format!("`{name}` is being updated"), "wait until it is done; it can be used meanwhile")
        }
        status => Finding::fail(
            format!("the state of `{name}` is {}", status.map_or("unknown", TableStatus::as_str)),
            "wait until it is ACTIVE, or make it anew",
        ),
    }
}

/// Its keys with their types, the partition key first.
fn keys_of(table: &TableDescription) -> Vec<String> {
    let kind = |name: &str| {
        let defined = table.attribute_definitions().iter().find(|attribute| attribute.attribute_name() == name);
        defined.map_or("?", |attribute| ScalarAttributeType::as_str(attribute.attribute_type()))
    };
    table.key_schema().iter().map(|key| format!("{} {}", key.attribute_name(), kind(key.attribute_name()))).collect()
}

async fn table_stream(place: &Place) -> Finding {
    let name = &place.config.dynamodb.speeding_table;
    let answer = place.clients.dynamodb.describe_table().table_name(name).send().await;
    let missing = || Finding::skip(format!("there is no table `{name}`"));
    let Some(found) = answer.as_ref().ok().and_then(|answer| answer.table()) else {
        return Told::of(&answer).finding("dynamodb:DescribeTable", missing);
    };
    let next = format!(
        "aws dynamodb update-table --table-name {name} --stream-specification StreamEnabled=true,StreamViewType=NEW_IMAGE (a stream \
         of another view has to be disabled first)"
    );
    let stream = found.stream_specification().filter(|stream| stream.stream_enabled() && found.latest_stream_arn().is_some());
    match stream.and_then(|stream| stream.stream_view_type()) {
        Some(StreamViewType::NewImage | StreamViewType::NewAndOldImages) => {
            Finding::ok(format!("`{name}` has a stream of new images"))
        }
        Some(view) => Finding::fail(format!("the stream of `{name}` has view {view}, so the archive lane sees no items"), next),
        None => Finding::fail(format!("`{name}` has no stream, so nothing can be archived"), next),
    }
}

async fn time_to_live(place: &Place) -> Finding {
    let name = &place.config.dynamodb.alerts_table;
    let answer = place.clients.dynamodb.describe_time_to_live().table_name(name).send().await;
    let Ok(found) = &answer else {
        let missing = || Finding::skip(format!("there is no table `{name}`"));
        return Told::of(&answer).finding("dynamodb:DescribeTimeToLive", missing);
    };
    let seen = found.time_to_live_description();
    let on = seen.and_then(|seen| seen.time_to_live_status());
    let attribute = seen.and_then(|seen| seen.attribute_name()).unwrap_or_default();
    match on {
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling) if attribute == EXPIRES_AT => {
            Finding::ok(format!("rows of `{name}` go away at their {EXPIRES_AT}"))
        }
        _ => Finding::warn(
            format!("rows of `{name}` are kept for ever: time to live is not on for {EXPIRES_AT}"),
            format!(
                "aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification \
                 Enabled=true,AttributeName={EXPIRES_AT}"
            ),
        ),
    }
}
