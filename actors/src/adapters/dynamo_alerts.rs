//! The alert ledger in DynamoDB.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;

use super::dynamo_leases::refused_by_condition;
use super::failure::{CallLimits, Caller, without_sdk_retries};
use crate::ports::{AlertLedger, Claim, ClaimLost, FailureKind, MarkError, RemoteFailure};

type Item = HashMap<String, AttributeValue>;

/// The table of claims. An item holds `eventId`, `state`, `owner`, `claimedAt`, `expiresAt`, and once sent `sentAt` and
/// `messageId`; nothing personal.
pub struct DynamoAlertLedger {
    client: Client,
    table: String,
    ttl: Duration,
    caller: Caller,
}

impl DynamoAlertLedger {
    /// Claims in the table of this name, whose items expire after `ttl`.
    #[must_use]
    pub fn new(client: &Client, table: &str, ttl: Duration, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_dynamodb, client);
        Self { client, table: table.to_owned(), ttl, caller: Caller::new(table.to_owned(), limits) }
    }

    fn expires_at(&self, now: Timestamp) -> AttributeValue {
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        AttributeValue::N(now.as_second().saturating_add(ttl).to_string())
    }

    async fn read(&self, event_id: &str) -> Result<Option<Item>, RemoteFailure> {
        let key = text(event_id);
        let answer = self
            .caller
            .retried("dynamodb GetItem", || {
                self.client.get_item().table_name(&self.table).key("eventId", key.clone()).consistent_read(true).send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok(answer.item)
    }

    /// Changes a claim held by `owner`. A refused change may be the repeat of one whose answer got lost, so `done` judges the
    /// item as it stands.
    async fn change(
        &self,
        event_id: &str,
        owner: &str,
        set: &str,
        values: &[(&str, AttributeValue)],
        done: impl Fn(&Item) -> bool + Send,
    ) -> Result<(), MarkError> {
        let answer = self
            .caller
            .retried("dynamodb UpdateItem", || {
                let mut request = self
                    .client
                    .update_item()
                    .table_name(&self.table)
                    .key("eventId", text(event_id))
                    .update_expression(set)
                    .condition_expression("#owner = :holder AND #state = :claimed")
                    .expression_attribute_names("#owner", "owner")
                    .expression_attribute_names("#state", "state")
                    .expression_attribute_values(":holder", text(owner))
                    .expression_attribute_values(":claimed", text("claimed"));
                for (name, value) in values {
                    request = request.expression_attribute_values(*name, value.clone());
                }
                request.send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(failed) if refused_by_condition(&failed) => match self.read(event_id).await? {
                Some(item) if done(&item) => Ok(()),
                _ => Err(ClaimLost.into()),
            },
            Err(failed) => Err(failed.failure.into()),
        }
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn is(item: &Item, name: &str, value: &str) -> bool {
    item.get(name).and_then(|found| found.as_s().ok()).is_some_and(|found| found == value)
}

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// How long a claim is held by the wall clocks of two nodes; never negative.
fn age(item: &Item, now: Timestamp) -> Duration {
    let claimed_at = item.get("claimedAt").and_then(|value| value.as_s().ok()).and_then(|text| text.parse::<Timestamp>().ok());
    claimed_at.map_or(Duration::ZERO, |claimed_at| Duration::try_from(now.duration_since(claimed_at)).unwrap_or_default())
}

fn judged(item: &Item, owner: &str, now: Timestamp) -> Option<Claim> {
    if is(item, "state", "sent") {
        return Some(Claim::AlreadySent);
    }
    if !is(item, "state", "claimed") {
        return None;
    }
    if is(item, "owner", owner) {
        return Some(Claim::Granted);
    }
    let holder = item.get("owner").and_then(|value| value.as_s().ok()).cloned().unwrap_or_default();
    Some(Claim::Held { owner: holder, age: age(item, now) })
}

#[async_trait]
impl AlertLedger for DynamoAlertLedger {
    async fn claim(&self, event_id: &str, owner: &str) -> Result<Claim, RemoteFailure> {
        let mut retries = self.caller.retries();
        loop {
            let now = Timestamp::now();
            let answer = self
                .caller
                .retried("dynamodb PutItem", || {
                    self.client
                        .put_item()
                        .table_name(&self.table)
                        .item("eventId", text(event_id))
                        .item("state", text("claimed"))
                        .item("owner", text(owner))
                        .item("claimedAt", text(&rfc3339(now)))
                        .item("expiresAt", self.expires_at(now))
                        .condition_expression("attribute_not_exists(eventId) OR #state = :failed")
                        .expression_attribute_names("#state", "state")
                        .expression_attribute_values(":failed", text("failed"))
                        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                        .send()
                })
                .await;
            let failed = match answer {
                Ok(_) => return Ok(Claim::Granted),
                Err(failed) if !refused_by_condition(&failed) => return Err(failed.failure),
                Err(failed) => failed,
            };
            let old = match failed.service.as_deref() {
                Some(aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(refusal)) => {
                    refusal.item.clone().filter(|item| !item.is_empty())
                }
                _ => None,
            };
            let old = match old {
                Some(item) => Some(item),
                None => self.read(event_id).await?,
            };
            if let Some(claim) = old.and_then(|item| judged(&item, owner, now)) {
                return Ok(claim);
            }
            // It expired or was marked failed between the two calls, so it can be claimed now.
            if !retries.wait().await {
                let detail = format!("`{}`: the claim kept changing", self.table);
                return Err(RemoteFailure { call: "dynamodb PutItem", kind: FailureKind::ServerError, detail });
            }
        }
    }

    async fn take_over(&self, event_id: &str, from: &str, to: &str) -> Result<(), MarkError> {
        let now = Timestamp::now();
        let values = [(":to", text(to)), (":now", text(&rfc3339(now))), (":expires", self.expires_at(now))];
        let done = |item: &Item| is(item, "owner", to) && is(item, "state", "claimed");
        self.change(event_id, from, "SET #owner = :to, claimedAt = :now, expiresAt = :expires", &values, done).await
    }

    async fn mark_sent(&self, event_id: &str, owner: &str, message_id: &str) -> Result<(), MarkError> {
        let values = [(":sent", text("sent")), (":now", text(&rfc3339(Timestamp::now()))), (":message", text(message_id))];
        let done = |item: &Item| is(item, "owner", owner) && is(item, "state", "sent") && is(item, "messageId", message_id);
        self.change(event_id, owner, "SET #state = :sent, sentAt = :now, messageId = :message", &values, done).await
    }

    async fn mark_failed(&self, event_id: &str, owner: &str) -> Result<(), MarkError> {
        let done = |item: &Item| is(item, "owner", owner) && is(item, "state", "failed");
        self.change(event_id, owner, "SET #state = :failed", &[(":failed", text("failed"))], done).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_millisecond_and_read_back_as_an_age() {
        let claimed: Timestamp = "2020-07-01T12:00:00.123456Z".parse().expect("a time");
        assert_eq!(rfc3339(claimed), "2020-07-01T12:00:00.123Z");
        assert_eq!(rfc3339("2020-07-01T12:00:00Z".parse().expect("a time")), "2020-07-01T12:00:00.000Z");
        let item = Item::from([("claimedAt".to_owned(), text("2020-07-01T12:00:00.000Z"))]);
        assert_eq!(age(&item, "2020-07-01T12:00:10Z".parse().expect("a time")), Duration::from_secs(10));
        assert_eq!(age(&item, "2020-07-01T11:59:59Z".parse().expect("a time")), Duration::ZERO);
    }
}
