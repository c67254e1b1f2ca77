//! Dead letters as an operator works with them: look, put back on their stream, or give up.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use bytes::Bytes;
use jiff::Timestamp;

use super::dynamo_alerts::rfc3339;
use super::failure::{CallLimits, Caller, Failed, without_sdk_retries};
use crate::ports::{FailureKind, RemoteFailure};
use crate::wire::{StreamImage, read_stream_image, write_archive_line};

/// Rows read for one list. A page of DynamoDB holds 1 MB
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html>).
const MOST_ROWS: usize = 20_000;
/// A redrive that got no further for this long has died with its node, and may be begun again.
const REDRIVE_DIES_AFTER: Duration = Duration::from_secs(60);
/// Longest record of Kinesis and of Firehose.
const MOST_RECORD_BYTES: usize = 1000 * 1024;

/// Where letters are, and the streams that their records go back to.
#[derive(Debug, Clone)]
pub struct LetterPlaces {
    /// The dead letter table.
    pub table: String,
    /// The bucket of the payloads that are too long for a row.
    pub bucket: String,
    /// Where readings go in; what devices sent and no lane could take goes back there.
    pub in_stream: String,
    /// The Firehose delivery stream of the archive.
    pub archive: String,
}

/// The dead letter table for operators. Most nodes are never asked about it, so its clients are made when one is.
pub struct LetterDesk {
    given: Clients,
    own: OnceLock<Clients>,
    places: LetterPlaces,
    caller: Caller,
}

struct Clients {
    dynamodb: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
    kinesis: aws_sdk_kinesis::Client,
    firehose: aws_sdk_firehose::Client,
}

/// A letter as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLetter {
    /// Its key.
    pub id: String,
    /// The lane that gave it up.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// `open`, `redriven` or `discarded`.
    pub state: String,
    /// `stream/shard/sequence/sub`.
    pub source: String,
    /// When it came first, in RFC 3339.
    pub first_seen: String,
    /// When it came last.
    pub last_seen: String,
    /// How often it came.
    pub tries: u64,
    /// The first 64 KiB of the record.
    pub payload: Bytes,
    /// Length of the whole record.
    pub payload_bytes: u64,
    /// Where the whole record is, if it is longer than what the row holds.
    pub payload_object: Option<String>,
}

/// What became of an order about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was done.
    Done,
    /// There is no such letter.
    Unknown,
    /// It is redriven or discarded already.
    NotOpen,
    /// Somebody else redrives it at this moment.
    Busy,
    /// It went back to its stream and came here again before that was noted, so it is open again.
    CameBack,
}

impl LetterDesk {
    /// Works with what these clients reach.
    #[must_use]
    pub fn new(
        dynamodb: &aws_sdk_dynamodb::Client,
        s3: &aws_sdk_s3::Client,
        kinesis: &aws_sdk_kinesis::Client,
        firehose: &aws_sdk_firehose::Client,
        places: LetterPlaces,
        limits: CallLimits,
    ) -> Self {
        let given = Clients { dynamodb: dynamodb.clone(), s3: s3.clone(), kinesis: kinesis.clone(), firehose: firehose.clone() };
        Self { given, own: OnceLock::new(), caller: Caller::new(places.table.clone(), limits), places }
    }

    fn clients(&self) -> &Clients {
        self.own.get_or_init(|| Clients {
            dynamodb: without_sdk_retries!(aws_sdk_dynamodb, self.given.dynamodb),
            s3: without_sdk_retries!(aws_sdk_s3, self.given.s3),
            kinesis: without_sdk_retries!(aws_sdk_kinesis, self.given.kinesis),
            firehose: without_sdk_retries!(aws_sdk_firehose, self.given.firehose),
        })
    }

    /// All letters, the latest first, and whether that is all of them.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn list(&self) -> Result<(Vec<StoredLetter>, bool), RemoteFailure> {
        let mut letters = Vec::new();
        let mut from = None;
        loop {
            let page = self
                .caller
                .retried("dynamodb Scan", || {
                    self.clients().dynamodb.scan().table_name(&self.places.table).set_exclusive_start_key(from.clone()).send()
                })
                .await
                .map_err(|failed| failed.failure)?;
            letters.extend(page.items().iter().filter_map(letter));
            from = page.last_evaluated_key;
            if from.is_none() || letters.len() >= MOST_ROWS {
                letters.sort_by(|one, other| other.last_seen.cmp(&one.last_seen));
                return Ok((letters, from.is_none()));
            }
        }
    }

    /// One letter.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn get(&self, id: &str) -> Result<Option<StoredLetter>, RemoteFailure> {
        let answer = self
            .caller
            .retried("dynamodb GetItem", || {
                let key = AttributeValue::S(id.to_owned());
                self.clients()
                    .dynamodb
                    .get_item()
                    .table_name(&self.places.table)
                    .key("letterId", key)
                    .consistent_read(true)
                    .send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok(answer.item().and_then(letter))
    }

    /// Puts the record of an open letter back on the stream it came from, and notes that. A node that dies in between leaves the
    /// letter open, so the record may go there twice, which repeats no effect; it never gets lost.
    ///
    /// # Errors
    /// When the table or the stream cannot be reached, or refuses the record.
    pub async fn redrive(&self, id: &str) -> Result<Settled, RemoteFailure> {
        let Some(letter) = self.get(id).await? else { return Ok(Settled::Unknown) };
        let now = Timestamp::now();
        let token = rfc3339(now);
        let dead = rfc3339(now - REDRIVE_DIES_AFTER);
        let begun = self
            .update(
                id,
                "SET #redrive = :token",
                "#state = :open AND (attribute_not_exists(#redrive) OR #redrive < :dead)",
                &[("#state", "state"), ("#redrive", "redriveBegun")],
                &[(":token", &token), (":open", "open"), (":dead", &dead)],
            )
            .await?;
        if !begun {
            return Ok(if letter.state == "open" { Settled::Busy } else { Settled::NotOpen });
        }
        if let Err(failure) = self.put_back(&letter).await {
            // It stays open, and need not wait for the begun redrive to die.
            let _better_than_nothing = self.give_up(id, &token).await;
            return Err(failure);
        }
        let noted = self
            .update(
                id,
                "SET #state = :redriven, #at = :token REMOVE #redrive",
                "#redrive = :token AND #last = :last",
                &[("#state", "state"), ("#at", "redrivenAt"), ("#redrive", "redriveBegun"), ("#last", "lastSeen")],
                &[(":redriven", "redriven"), (":token", &token), (":last", &letter.last_seen)],
            )
            .await?;
        if noted {
            return Ok(Settled::Done);
        }
        self.give_up(id, &token).await?;
        Ok(Settled::CameBack)
    }

    /// Notes that nobody will do anything about an open letter; its row and payload stay.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn discard(&self, id: &str) -> Result<Settled, RemoteFailure> {
        let now = rfc3339(Timestamp::now());
        let done = self
            .update(
                id,
                "SET #state = :discarded, #at = :now",
                "#state = :open",
                &[("#state", "state"), ("#at", "discardedAt")],
                &[(":discarded", "discarded"), (":open", "open"), (":now", &now)],
            )
            .await?;
        match done {
            true => Ok(Settled::Done),
            false => Ok(if self.get(id).await?.is_some() { Settled::NotOpen } else { Settled::Unknown }),
        }
    }

    async fn give_up(&self, id: &str, token: &str) -> Result<bool, RemoteFailure> {
        self.update(id, "REMOVE #redrive", "#redrive = :token", &[("#redrive", "redriveBegun")], &[(":token", token)]).await
    }

    /// Changes a row if it is as expected; false if it is not.
    async fn update(
        &self,
        id: &str,
        change: &str,
        condition: &str,
        names: &[(&str, &str)],
        values: &[(&str, &str)],
    ) -> Result<bool, RemoteFailure> {
        let changed = self
            .caller
            .retried("dynamodb UpdateItem", || {
                let mut request = self
                    .clients()
                    .dynamodb
                    .update_item()
                    .table_name(&self.places.table)
                    .key("letterId", AttributeValue::S(id.to_owned()))
                    .update_expression(change)
                    .condition_expression(condition);
                for (placeholder, name) in names {
                    request = request.expression_attribute_names(*placeholder, *name);
                }
                for (placeholder, value) in values {
                    request = request.expression_attribute_values(*placeholder, AttributeValue::S((*value).to_owned()));
                }
                request.send()
            })
            .await;
        match changed {
            Ok(_) => Ok(true),
            Err(Failed { code, .. }) if code == "ConditionalCheckFailedException" => Ok(false),
            Err(failed) => Err(failed.failure),
        }
    }

    async fn put_back(&self, letter: &StoredLetter) -> Result<(), RemoteFailure> {
        let payload = self.whole_payload(letter).await?;
        if payload.len() > MOST_RECORD_BYTES {
            return Err(refused(&self.places.table, "the record is longer than a stream takes"));
        }
        match target(letter, &self.places.in_stream) {
            Target::Archive => {
                let Ok(StreamImage::Put(stored)) = read_stream_image(&payload) else {
                    return Err(refused(
                        &self.places.archive,
                        "the letter holds no stored violation, so there is no line to archive",
                    ));
                };
                let line = write_archive_line(&stored);
                let record = aws_sdk_firehose::types::Record::builder().data(Blob::new(line)).build();
                let record = record.map_err(|_| refused(&self.places.archive, "it has no data"))?;
                self.caller
                    .retried("firehose PutRecord", || {
                        self.clients()
                            .firehose
                            .put_record()
                            .delivery_stream_name(&self.places.archive)
                            .record(record.clone())
                            .send()
                    })
                    .await
                    .map_err(|failed| failed.failure)?;
            }
            Target::Stream(stream) => {
                let key = partition_key(&payload).unwrap_or_else(|| letter.id.clone());
                self.caller
                    .retried("kinesis PutRecord", || {
                        let data = Blob::new(payload.to_vec());
                        self.clients().kinesis.put_record().stream_name(stream).partition_key(&key).data(data).send()
                    })
                    .await
                    .map_err(|failed| failed.failure)?;
            }
        }
        Ok(())
    }

    async fn whole_payload(&self, letter: &StoredLetter) -> Result<Bytes, RemoteFailure> {
        let Some(key) = &letter.payload_object else { return Ok(letter.payload.clone()) };
        let bucket = &self.places.bucket;
        let object = self
            .caller
            .retried("s3 GetObject", || self.clients().s3.get_object().bucket(bucket).key(key).send())
            .await
            .map_err(|failed| failed.failure)?;
        let body = object.body.collect().await.map_err(|error| RemoteFailure {
            call: "s3 GetObject",
            kind: FailureKind::Unreachable,
            detail: format!("`{bucket}`: {error}"),
        })?;
        Ok(body.into_bytes())
    }
}

fn refused(resource: &str, why: &str) -> RemoteFailure {
    RemoteFailure { call: "redrive", kind: FailureKind::Refused, detail: format!("`{resource}`: {why}") }
}

#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Stream(&'a str),
    Archive,
}

/// Letters of the archive hold changes of a table, to whose stream nobody can write. Those of the IoT rule's errors and of the ingest lane hold
/// what a device sent, which never was on the in-stream.
fn target<'a>(letter: &'a StoredLetter, in_stream: &'a str) -> Target<'a> {
    match letter.stage.as_str() {
        "archive" => Target::Archive,
        "enrich" | "notify" => Target::Stream(letter.source.split('/').next().unwrap_or(in_stream)),
        _ => Target::Stream(in_stream),
    }
}

/// The plate, so that the record comes to the shard of its like; what has none may go anywhere.
fn partition_key(payload: &[u8]) -> Option<String> {
    let record: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let plate = record.get("licensePlate")?.as_str()?;
    (1..=256).contains(&plate.chars().count()).then(|| plate.to_owned())
}

fn letter(item: &HashMap<String, AttributeValue>) -> Option<StoredLetter> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
    let number = |name: &str| item.get(name).and_then(|value| value.as_n().ok()).and_then(|n| n.parse().ok());
    Some(StoredLetter {
        id: text("letterId")?,
        stage: text("stage").unwrap_or_default(),
        reason: text("reason").unwrap_or_default(),
        state: text("state").unwrap_or_default(),
        source: text("source").unwrap_or_default(),
        first_seen: text("firstSeen").unwrap_or_default(),
        last_seen: text("lastSeen").unwrap_or_default(),
        tries: number("tries").unwrap_or_default(),
        payload: item.get("payload").and_then(|value| value.as_b().ok()).map(|blob| Bytes::copy_from_slice(blob.as_ref()))?,
        payload_bytes: number("payloadBytes").unwrap_or_default(),
        payload_object: text("payloadObject"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter_of(stage: &str) -> StoredLetter {
        StoredLetter {
            id: "id".into(),
            stage: stage.into(),
            reason: String::new(),
            state: "open".into(),
            source: "some-stream/shardId-000000000000/7/0".into(),
            first_seen: String::new(),
            last_seen: String::new(),
            tries: 1,
            payload: Bytes::new(),
            payload_bytes: 0,
            payload_object: None,
        }
    }

    #[test]
    fn a_letter_goes_back_to_where_its_record_was_read() {
        for (stage, expected) in [
            ("enrich", Target::Stream("some-stream")),
            ("notify", Target::Stream("some-stream")),
            ("errors", Target::Stream("in")),
            ("ingest", Target::Stream("in")),
            ("archive", Target::Archive),
        ] {
            assert_eq!(target(&letter_of(stage), "in"), expected, "{stage}");
        }
    }

    #[test]
    fn only_a_plate_that_a_stream_takes_as_a_key_is_one() {
        assert_eq!(partition_key(br#"{"licensePlate":"4-2288B"}"#), Some("4-2288B".to_owned()));
        for payload in [&b"no JSON"[..], br#"{"licensePlate":""}"#, br#"{"licensePlate":7}"#, br#"{"speed":1}"#] {
            assert_eq!(partition_key(payload), None);
        }
    }
}
