//! Dead letters in DynamoDB, with long payloads in S3.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::Client as ObjectClient;
use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;

use super::dynamo_alerts::rfc3339;
use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::ports::{DeadLetter, DeadLetters, RemoteFailure};

/// How much of a payload stands in its row. An item holds 400 KB at most, and operators list many rows at once.
const MOST_ROW_PAYLOAD: usize = 64 * 1024;
const MOST_REASON_CHARS: usize = 1000;

/// The dead letter table, and the bucket that keeps what is too long for it.
pub struct DynamoDeadLetters {
    client: Client,
    objects: ObjectClient,
    table: String,
    bucket: String,
    caller: Caller,
    bucket_caller: Caller,
}

impl DynamoDeadLetters {
    /// Keeps letters in `table`, whole payloads over 64 KiB in `bucket` under `dead-letters/`.
    #[must_use]
    pub fn new(client: &Client, objects: &ObjectClient, table: &str, bucket: &str, limits: CallLimits) -> Self {
        Self {
            client: without_sdk_retries!(aws_sdk_dynamodb, client),
            objects: without_sdk_retries!(aws_sdk_s3, objects),
            table: table.to_owned(),
            bucket: bucket.to_owned(),
            caller: Caller::new(table.to_owned(), limits.clone()),
            bucket_caller: Caller::new(bucket.to_owned(), limits),
        }
    }
}

#[async_trait]
impl DeadLetters for DynamoDeadLetters {
    async fn put(&self, letter: &DeadLetter) -> Result<(), RemoteFailure> {
        let id = letter.id();
        let object = (letter.payload.len() > MOST_ROW_PAYLOAD).then(|| format!("dead-letters/{id}"));
        // The object goes first: a row must not point at an object that is not there.
        if let Some(key) = &object {
            self.bucket_caller
                .retried("s3 PutObject", || {
                    let body = ByteStream::from(letter.payload.clone());
                    self.objects.put_object().bucket(&self.bucket).key(key).body(body).send()
                })
                .await
                .map_err(|failed| failed.failure)?;
        }
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let now = rfc3339(Timestamp::now());
        let start = &letter.payload[..letter.payload.len().min(MOST_ROW_PAYLOAD)];
        let reason: String = letter.reason.chars().take(MOST_REASON_CHARS).collect();
        let mut set = "SET #stage = :stage, #reason = :reason, #payload = :payload, #bytes = :bytes, #source = :source, \
                       #first = if_not_exists(#first, :now), #last = :now, #state = :open"
            .to_owned();
        if object.is_some() {
            set.push_str(", #object = :object");
        }
        set.push_str(" ADD #tries :one");
        self.caller
            .retried("dynamodb UpdateItem", || {
                let mut request = self
                    .client
                    .update_item()
                    .table_name(&self.table)
                    .key("letterId", text(&id))
                    .update_expression(&set)
                    .expression_attribute_values(":stage", text(letter.stage))
                    .expression_attribute_values(":reason", text(&reason))
                    .expression_attribute_values(":payload", AttributeValue::B(Blob::new(start)))
                    .expression_attribute_values(":bytes", AttributeValue::N(letter.payload.len().to_string()))
                    .expression_attribute_values(":source", text(&letter.source()))
                    .expression_attribute_values(":now", text(&now))
                    .expression_attribute_values(":open", text("open"))
                    .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
                // Several of the names are reserved words of DynamoDB.
                for (placeholder, name) in [
                    ("#stage", "stage"),
                    ("#reason", "reason"),
                    ("#payload", "payload"),
                    ("#bytes", "payloadBytes"),
                    ("#source", "source"),
                    ("#first", "firstSeen"),
                    ("#last", "lastSeen"),
                    ("#state", "state"),
                    ("#tries", "tries"),
                ] {
                    request = request.expression_attribute_names(placeholder, name);
                }
                if let Some(key) = &object {
                    request = request
                        .expression_attribute_names("#object", "payloadObject")
                        .expression_attribute_values(":object", text(key));
                }
                request.send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok(())
    }
}
