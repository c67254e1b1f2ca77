//! Calls in a form that tells whether the caller may make them and changes nothing.
//!
//! AWS decides whether a caller may before it looks at what the call asks of the service, so a call that is refused for its content
//! was permitted. Every function says what its content is and why nothing can come of it.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, DeleteRequest, KeySchemaElement, KeyType, ScalarAttributeType, WriteRequest,
};
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};

use super::aws::Told;
use crate::wiring::Clients;

/// An action as policies name it, and what came of its trial.
pub(super) type Trial = (&'static str, Told);

/// A key that no event, claim, letter, lease or node has.
const NOBODY: &str = "speedtrap-doctor: no such thing";
/// No item has its key and lacks it.
const NEVER: &str = "attribute_exists(#key) AND attribute_not_exists(#key)";
/// A wrongly keyed table is told of by its own check; whoever hears of it may write.
const PERMITTED: &[&str] = &["ConditionalCheckFailedException", "ValidationException"];
/// Beyond the last hash key, 2^128 - 1, so that no shard can take the record
/// (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html>).
const NO_SHARD: &str = "999999999999999999999999999999999999999";
/// One byte more than Firehose takes in a record (1,000 KiB).
const TOO_LONG: usize = (1_000 << 10) + 1;

/// Reads of a stream: the newest place of one shard, and one record from there, which moves nobody's position.
pub(super) async fn read_stream(clients: &Clients, stream: &str) -> Vec<Trial> {
    let kinesis = &clients.kinesis;
    let summary = Told::of(&kinesis.describe_stream_summary().stream_name(stream).send().await);
    let shards = kinesis.list_shards().stream_name(stream).max_results(1).send().await;
    let mut trials = vec![("kinesis:DescribeStreamSummary", summary), ("kinesis:ListShards", Told::of(&shards))];
    // A shard's name is needed, and the first one of a new stream is called so.
    let first = shards.ok().and_then(|answer| answer.shards().first().map(|shard| shard.shard_id().to_owned()));
    let shard = first.unwrap_or_else(|| "shardId-000000000000".to_owned());
    let place = kinesis.get_shard_iterator().stream_name(stream).shard_id(shard).shard_iterator_type(ShardIteratorType::Latest);
    let place = place.send().await;
    trials.push(("kinesis:GetShardIterator", Told::of(&place)));
    let records = match place.ok().and_then(|answer| answer.shard_iterator) {
        Some(iterator) => {
            let answer = kinesis.get_records().shard_iterator(iterator).limit(1).send().await;
            // A busy shard answers five reads a second; who hears that may read.
            Told::of(&answer).expecting(&["ProvisionedThroughputExceededException", "ExpiredIteratorException"])
        }
        None => Told::Untried("without an iterator"),
    };
    trials.push(("kinesis:GetRecords", records));
    trials
}

/// A record that no shard can take.
pub(super) async fn put_record(clients: &Clients, stream: &str) -> Trial {
    let put = clients.kinesis.put_record().stream_name(stream).partition_key(NOBODY).explicit_hash_key(NO_SHARD);
    let answer = put.data(Blob::new([])).send().await;
    ("kinesis:PutRecord", Told::of(&answer).expecting(&["InvalidArgumentException", "ValidationException"]))
}

/// The same, as one of a batch.
pub(super) async fn put_records(clients: &Clients, stream: &str) -> Trial {
    let entry = PutRecordsRequestEntry::builder().partition_key(NOBODY).explicit_hash_key(NO_SHARD).data(Blob::new([])).build();
    let Ok(entry) = entry else { return ("kinesis:PutRecords", Told::Untried("the call could not be made")) };
    let answer = clients.kinesis.put_records().stream_name(stream).records(entry).send().await;
    ("kinesis:PutRecords", Told::of(&answer).expecting(&["InvalidArgumentException", "ValidationException"]))
}

/// Describes a table.
pub(super) async fn describe_table(clients: &Clients, table: &str) -> Trial {
    ("dynamodb:DescribeTable", Told::of(&clients.dynamodb.describe_table().table_name(table).send().await))
}

/// Reads one item.
pub(super) async fn scan(clients: &Clients, table: &str) -> Trial {
    ("dynamodb:Scan", Told::of(&clients.dynamodb.scan().table_name(table).limit(1).send().await))
}

/// Reads an item that is not there.
pub(super) async fn get_item(clients: &Clients, table: &str, keys: &[&str]) -> Trial {
    let answer = clients.dynamodb.get_item().table_name(table).set_key(Some(nobody(keys))).send().await;
    ("dynamodb:GetItem", Told::of(&answer).expecting(PERMITTED))
}

/// Puts an item on a condition that nothing meets.
pub(super) async fn put_item(clients: &Clients, table: &str, keys: &[&str]) -> Trial {
    let put = clients.dynamodb.put_item().table_name(table).set_item(Some(nobody(keys)));
    let answer = put.condition_expression(NEVER).expression_attribute_names("#key", keys[0]).send().await;
    ("dynamodb:PutItem", Told::of(&answer).expecting(PERMITTED))
}

/// Changes an item on a condition that nothing meets.
pub(super) async fn update_item(clients: &Clients, table: &str, keys: &[&str]) -> Trial {
    let update = clients.dynamodb.update_item().table_name(table).set_key(Some(nobody(keys)));
    let answer = update.condition_expression(NEVER).expression_attribute_names("#key", keys[0]).send().await;
    ("dynamodb:UpdateItem", Told::of(&answer).expecting(PERMITTED))
}

/// Deletes an item on a condition that nothing meets.
pub(super) async fn delete_item(clients: &Clients, table: &str, keys: &[&str]) -> Trial {
    let delete = clients.dynamodb.delete_item().table_name(table).set_key(Some(nobody(keys)));
    let answer = delete.condition_expression(NEVER).expression_attribute_names("#key", keys[0]).send().await;
    ("dynamodb:DeleteItem", Told::of(&answer).expecting(PERMITTED))
}

/// A batch takes no conditions. This one deletes an item that is not there, and names it twice, for which the whole is refused.
pub(super) async fn batch_write(clients: &Clients, table: &str, keys: &[&str]) -> Trial {
    let action = "dynamodb:BatchWriteItem";
    let Ok(delete) = DeleteRequest::builder().set_key(Some(nobody(keys))).build() else {
        return (action, Told::Untried("the call could not be made"));
    };
    let write = WriteRequest::builder().delete_request(delete).build();
    let answer = clients.dynamodb.batch_write_item().request_items(table, vec![write.clone(), write]).send().await;
    (action, Told::of(&answer).expecting(PERMITTED))
}

/// Makes a table that is there, which is refused. One that is not there would be made, so that is not tried.
pub(super) async fn create_table(clients: &Clients, table: &str, key: &str) -> Trial {
    let action = "dynamodb:CreateTable";
    if describe_table(clients, table).await.1 != Told::Done {
        return (action, Told::Untried("the table would be made"));
    }
    let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build();
    let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
    let (Ok(schema), Ok(attribute)) = (schema, attribute) else {
        return (action, Told::Untried("the call could not be made"));
    };
    let create = clients.dynamodb.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    let answer = create.key_schema(schema).attribute_definitions(attribute).send().await;
    (action, Told::of(&answer).expecting(&["ResourceInUseException"]))
}

/// Reads of a table's stream, as of any other.
pub(super) async fn read_table_stream(clients: &Clients, table: &str) -> Vec<Trial> {
    let described = clients.dynamodb.describe_table().table_name(table).send().await;
    let mut trials = vec![("dynamodb:DescribeTable", Told::of(&described))];
    let arn = described.ok().and_then(|answer| answer.table()?.latest_stream_arn().map(str::to_owned));
    let Some(arn) = arn else { return trials };
    let streams = &clients.dynamodb_streams;
    let stream = streams.describe_stream().stream_arn(&arn).send().await;
    trials.push(("dynamodb:DescribeStream", Told::of(&stream)));
    let shard = stream.ok().and_then(|answer| answer.stream_description()?.shards().last()?.shard_id().map(str::to_owned));
    let Some(shard) = shard else { return trials };
    let latest = aws_sdk_dynamodbstreams::types::ShardIteratorType::Latest;
    let place = streams.get_shard_iterator().stream_arn(&arn).shard_id(shard).shard_iterator_type(latest).send().await;
    trials.push(("dynamodb:GetShardIterator", Told::of(&place)));
    if let Some(iterator) = place.ok().and_then(|answer| answer.shard_iterator) {
        let answer = streams.get_records().shard_iterator(iterator).limit(1).send().await;
        let busy = ["LimitExceededException", "ExpiredIteratorException", "TrimmedDataAccessException"];
        trials.push(("dynamodb:GetRecords", Told::of(&answer).expecting(&busy)));
    }
    trials
}

/// A record longer than a delivery stream takes.
pub(super) async fn deliver(clients: &Clients, stream: &str) -> Trial {
    let action = "firehose:PutRecord";
    let record = aws_sdk_firehose::types::Record::builder().data(Blob::new(vec![b' '; TOO_LONG])).build();
    let Ok(record) = record else { return (action, Told::Untried("the call could not be made")) };
    let answer = clients.firehose.put_record().delivery_stream_name(stream).record(record).send().await;
    (action, Told::of(&answer).expecting(&["InvalidArgumentException", "ValidationException"]))
}

/// A batch of no records, which Firehose refuses.
pub(super) async fn deliver_batch(clients: &Clients, stream: &str) -> Trial {
    let answer = clients.firehose.put_record_batch().delivery_stream_name(stream).set_records(Some(Vec::new())).send().await;
    ("firehose:PutRecordBatch", Told::of(&answer).expecting(&["InvalidArgumentException", "ValidationException"]))
}

/// An object whose digest is not the one that is told, which S3 refuses to keep.
pub(super) async fn put_object(clients: &Clients, bucket: &str) -> Trial {
    let put =
        clients.s3.put_object().bucket(bucket).key(format!("dead-letters/{NOBODY}")).content_md5("AAAAAAAAAAAAAAAAAAAAAA==");
    let answer = put.body(b"no such thing".to_vec().into()).send().await;
    ("s3:PutObject", Told::of(&answer).expecting(&["BadDigest", "InvalidDigest"]))
}

/// An object that is not there. Who may not list the bucket hears of a missing permission in any case.
pub(super) async fn get_object(clients: &Clients, bucket: &str) -> Trial {
    let answer = clients.s3.get_object().bucket(bucket).key(format!("dead-letters/{NOBODY}")).send().await;
    let told = match Told::of(&answer).expecting(&["NoSuchKey"]) {
        Told::Denied(_) => Told::Untried("S3 tells it only to who may list the bucket"),
        told => told,
    };
    ("s3:GetObject", told)
}

/// A text with no words, to a number that is none, which SNS refuses for either.
pub(super) async fn publish(clients: &Clients) -> Trial {
    let answer = clients.sns.publish().phone_number("+0").message("").send().await;
    (
        "sns:Publish",
        Told::of(&answer).expecting(&["InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid", "ValidationError"]),
    )
}

fn nobody(keys: &[&str]) -> std::collections::HashMap<String, AttributeValue> {
    keys.iter().map(|key| ((*key).to_owned(), AttributeValue::S(NOBODY.to_owned()))).collect()
}
