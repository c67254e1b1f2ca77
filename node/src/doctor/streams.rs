//! Streams, the delivery stream and the archive bucket: whether they are there, and as they should be.

use std::sync::Arc;

use aws_sdk_firehose::types::DeliveryStreamStatus;
use aws_sdk_kinesis::types::StreamStatus;

use super::aws::Told;
use super::identity::Caller;
use super::report::Finding;
use super::{Check, Group, Place};
use crate::config::RoleName;

const TEMPLATE: &str = "create it from deploy/aws/speedtrap.yaml, or correct the name, the region or the endpoint";

/// What the roles read and write.
pub(super) fn checks(place: &Arc<Place>, caller: &Caller) -> Vec<Check> {
    let kinesis = &place.config.kinesis;
    let ingests = place.config.ingest.is_on();
    let streams = [
        ("stream.in", &kinesis.in_stream, place.has(RoleName::Enrich) || ingests),
        ("stream.out", &kinesis.out_stream, place.has(RoleName::Enrich) || place.has(RoleName::Notify)),
        ("stream.errors", &kinesis.error_stream, place.has(RoleName::Errors)),
    ];
    let mut all = Vec::new();
    for (id, name, _) in streams.into_iter().filter(|(_, _, is_used)| *is_used) {
        let (place, name) = (Arc::clone(place), name.clone());
        all.push(Check::remote(Group::Streams, id, async move { stream(&place, &name).await }));
    }
    if place.has(RoleName::Archive) {
        let at = Arc::clone(place);
        all.push(Check::remote(Group::Streams, "delivery.archive", async move { delivery_stream(&at).await }));
    }
    let (place, caller) = (Arc::clone(place), caller.clone());
    all.push(Check::remote(Group::Streams, "bucket.archive", async move { bucket(&place, caller).await }));
    all
}

async fn stream(place: &Place, name: &str) -> Finding {
    let answer = place.clients.kinesis.describe_stream_summary().stream_name(name).send().await;
    let missing = || Finding::fail(format!("there is no stream `{name}`"), TEMPLATE);
    let Some(found) = answer.as_ref().ok().and_then(|answer| answer.stream_description_summary()) else {
        return Told::of(&answer).finding("kinesis:DescribeStreamSummary", missing);
    };
    let (shards, hours) = (found.open_shard_count(), found.retention_period_hours());
    let seen = format!("`{name}`: open shards {shards}, keeps records for {hours} h");
    match found.stream_status() {
        StreamStatus::Active => Finding::ok(seen),
        StreamStatus::Updating => {
            Finding::warn(format!("{seen}; it is being updated"), "wait until it is done; nodes read on meanwhile")
        }
        status => Finding::fail(format!("{seen}; its state is {status}"), "wait until it is ACTIVE, or make it anew"),
    }
}

async fn delivery_stream(place: &Place) -> Finding {
    let name = &place.config.archive.delivery_stream;
    let answer = place.clients.firehose.describe_delivery_stream().delivery_stream_name(name).send().await;
    let missing = || Finding::fail(format!("there is no delivery stream `{name}`"), TEMPLATE);
    let Some(found) = answer.as_ref().ok().and_then(|answer| answer.delivery_stream_description()) else {
        return Told::of(&answer).finding("firehose:DescribeDeliveryStream", missing);
    };
    match found.delivery_stream_status() {
        DeliveryStreamStatus::Active => Finding::ok(format!("`{name}` is ACTIVE")),
        status => Finding::fail(
            format!("the state of `{name}` is {status}"),
            "wait until it is ACTIVE, or see its failure in the console",
        ),
    }
}

async fn bucket(place: &Place, caller: Caller) -> Finding {
    let name = match bucket_name(place, caller).await {
        Ok(name) => name,
        Err(why) => return Finding::skip(why),
    };
    let answer = place.clients.s3.head_bucket().bucket(&name).send().await;
    // HEAD has no words for a refusal, so the status has to do.
    let status = answer.as_ref().err().and_then(|error| error.raw_response()).map(|raw| raw.status().as_u16());
    match status {
        Some(403) => Finding::skip(format!("not known here: the caller has no permission for s3:ListBucket of `{name}`")),
        Some(404) => Finding::fail(
            format!("there is no bucket `{name}`"),
            "create it, or correct archive.bucket; long dead letters go there",
        ),
        _ if answer.is_ok() => Finding::ok(format!("`{name}` is there")),
        _ => Told::of(&answer).finding("s3:HeadBucket", || Finding::fail(format!("there is no bucket `{name}`"), TEMPLATE)),
    }
}

/// The bucket's name, which may have the account in it.
pub(super) async fn bucket_name(place: &Place, caller: Caller) -> Result<String, &'static str> {
    match place.config.archive.bucket.as_str() {
        "" => match &caller.await.account {
            Some(account) => Ok(format!("rtr-iot-archive-{account}")),
            None => Err("not known here: archive.bucket is not set, and the account in its name is not known"),
        },
        named => Ok(named.to_owned()),
    }
}
