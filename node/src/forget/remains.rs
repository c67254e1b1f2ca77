//! What nobody can take out of streams, backups and the archive, and until when it lies there.

use std::time::Duration;

use aws_sdk_dynamodb::types::PointInTimeRecoveryStatus;
use aws_sdk_s3::types::ExpirationStatus;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;
use speedtrap_actors::domain::PlateKey;

use super::matching::{About, about};
use crate::config::NodeConfig;
use crate::exit::{Exit, Stop};
use crate::wiring::{Clients, refusal};

/// Records of a table's change stream live for a day
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>).
const CHANGE_STREAM_HOURS: u32 = 24;
/// Days that a table can be set back to unless it says otherwise
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/PointInTimeRecovery_Howitworks.html>).
const BACKUP_DAYS: i32 = 35;
const HOUR: Duration = Duration::from_secs(3_600);
/// Objects of the archive read at a time.
const AT_ONCE: usize = 8;

/// One place where something of the driver may lie.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Remains {
    pub(crate) place: String,
    pub(crate) what: String,
    /// When the last of it is gone by itself; null if it stays, or if that is not known.
    pub(crate) until: Option<String>,
    pub(crate) next: Option<String>,
}

/// Looks at everything that keeps records for a time.
pub(super) async fn find(config: &NodeConfig, clients: &Clients, bucket: &str, plate: &PlateKey) -> Result<Vec<Remains>, Stop> {
    let mut found = Vec::new();
    for (stream, what) in [
        (&config.kinesis.in_stream, "readings"),
        (&config.kinesis.out_stream, "violations with name and number"),
        (&config.kinesis.error_stream, "readings that the IoT rule could not carry"),
    ] {
        found.push(stream_remains(clients, stream, what).await?);
    }
    let table = &config.dynamodb.speeding_table;
    found.push(Remains {
        place: format!("change stream of table {table}"),
        what: "items as they were stored".to_owned(),
        until: Some(after(HOUR * CHANGE_STREAM_HOURS)),
        next: None,
    });
    for table in [table, &config.dynamodb.dead_letters_table] {
        found.extend(backups(clients, table).await?);
    }
    found.extend(archive(clients, bucket, plate).await?);
    Ok(found)
}

async fn stream_remains(clients: &Clients, stream: &str, what: &str) -> Result<Remains, Stop> {
    let answer = clients.kinesis.describe_stream_summary().stream_name(stream).send().await;
    let answer = answer.map_err(|error| refusal(&format!("cannot look at stream `{stream}`"), &error, &clients.place))?;
    let hours = answer.stream_description_summary().map(|summary| summary.retention_period_hours());
    let until = hours.and_then(|hours| u32::try_from(hours).ok()).map(|hours| after(HOUR * hours));
    Ok(Remains { place: format!("stream {stream}"), what: what.to_owned(), until, next: None })
}

async fn backups(clients: &Clients, table: &str) -> Result<Option<Remains>, Stop> {
    let answer = clients.dynamodb.describe_continuous_backups().table_name(table).send().await;
    let place = format!("backups of table {table}");
    let Ok(answer) = answer else {
        let (what, next) =
            ("whether there are any is not known".to_owned(), "look with aws dynamodb describe-continuous-backups");
        return Ok(Some(Remains { place, what, until: None, next: Some(next.to_owned()) }));
    };
    let recovery = answer.continuous_backups_description.and_then(|backups| backups.point_in_time_recovery_description);
    let is_on = |status: &Option<_>| *status == Some(PointInTimeRecoveryStatus::Enabled);
    Ok(recovery.filter(|recovery| is_on(&recovery.point_in_time_recovery_status)).map(|recovery| {
        let days = u32::try_from(recovery.recovery_period_in_days.unwrap_or(BACKUP_DAYS)).unwrap_or_default();
        Remains { place, what: "rows as they were".to_owned(), until: Some(after(HOUR * 24 * days)), next: None }
    }))
}

/// Reads the whole archive: its objects are named by the time they were written, and hold the lines of all plates.
async fn archive(clients: &Clients, bucket: &str, plate: &PlateKey) -> Result<Option<Remains>, Stop> {
    let refused = |error: &_| refusal(&format!("cannot list bucket `{bucket}`"), error, &clients.place);
    let mut pages = clients.s3.list_objects_v2().bucket(bucket).prefix("speeding/").into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| refused(&error))?;
        keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    let lines_of = |key: String| async move {
        let n = lines_of(clients, bucket, &key, plate).await?;
        Ok::<_, Stop>((key, n))
    };
    let holding: Vec<(String, usize)> = stream::iter(keys)
        .map(lines_of)
        .buffer_unordered(AT_ONCE)
        .try_filter(|(_, n)| std::future::ready(*n > 0))
        .try_collect()
        .await?;
    let lines: usize = holding.iter().map(|(_, n)| n).sum();
    if lines == 0 {
        return Ok(None);
    }
    let mut keys: Vec<String> = holding.into_iter().map(|(key, _)| key).collect();
    keys.sort();
    let days = expiration_days(clients, bucket).await;
    Ok(Some(Remains {
        place: format!("archive s3://{bucket}/speeding/"),
        what: format!("{lines} lines in {} objects: {}", keys.len(), keys.join(" ")),
        until: days.map(|days| after(HOUR * 24 * days)),
        next: Some(match days {
            Some(_) => "they go by the bucket's lifecycle rule; rewrite these objects to have them gone sooner".to_owned(),
            None => "no lifecycle rule ends them: rewrite these objects without the lines, and their older versions".to_owned(),
        }),
    }))
}

async fn lines_of(clients: &Clients, bucket: &str, key: &str, plate: &PlateKey) -> Result<usize, Stop> {
    let object = clients.s3.get_object().bucket(bucket).key(key).send().await;
    let object = object.map_err(|error| refusal(&format!("cannot read `{key}`"), &error, &clients.place))?;
    let bytes =
        object.body.collect().await.map_err(|error| Stop::new(Exit::Unreachable, format!("`{key}` broke off")).why(error))?;
    let bytes = bytes.into_bytes();
    Ok(bytes.split(|byte| *byte == b'\n').filter(|line| about(line, plate) != About::Another).count())
}

/// Days after which a rule takes the archive's objects away, if one does.
async fn expiration_days(clients: &Clients, bucket: &str) -> Option<u32> {
    let answer = clients.s3.get_bucket_lifecycle_configuration().bucket(bucket).send().await.ok()?;
    let on = answer.rules().iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled);
    let of_archive = on.filter(|rule| {
        let prefix = rule.filter().and_then(|filter| filter.prefix()).unwrap_or_default();
        "speeding/".starts_with(prefix)
    });
    of_archive.filter_map(|rule| rule.expiration()?.days()).filter_map(|days| u32::try_from(days).ok()).min()
}

/// The time so long from now, to the second.
fn after(span: Duration) -> String {
    format!("{:.0}", Timestamp::now() + span)
}
