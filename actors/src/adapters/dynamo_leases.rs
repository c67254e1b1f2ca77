//! The lease table in DynamoDB, shared with workers of the Kinesis Client Library 1.x and 2.x.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, TableDescription, TableStatus};
use tokio::time::Instant;

use super::dynamo_table::{CREATION_POLL, MOST_CREATION, create_table};
use super::failure::{CallLimits, Caller, Failed, without_sdk_retries};
use super::lease_rows::{LEASE_KEY, Row, checkpoint_values, lease as lease_of, new_row, refuse_foreign};
use crate::domain::ShardId;
use crate::ports::{Checkpoint, FailureKind, Lease, LeaseError, LeaseTable, LeaseWrite, NewLease, Refusal, RemoteFailure};

/// Made by KCL 3.x in tables that it uses or is about to use.
const V3_INDEX: &str = "LeaseOwnerToLeaseKeyIndex";
/// Added to the lease table's name.
const V3_SIDE_TABLES: [&str; 2] = ["-CoordinatorState", "-WorkerMetricStats"];
/// The row shows no hand-over of KCL 3.x.
const NOT_V3: &str = "attribute_not_exists(checkpointOwner)";

/// One lease table. It is only ever written row by row with conditions, so attributes of other workers stay.
pub struct DynamoLeaseTable {
    client: Client,
    table: String,
    caller: Caller,
}

impl DynamoLeaseTable {
    /// The lease table of this name, which is the application's name.
    #[must_use]
    pub fn new(client: &Client, table: &str, limits: CallLimits) -> Self {
        let client = without_sdk_retries!(aws_sdk_dynamodb, client);
        Self { client, table: table.to_owned(), caller: Caller::new(table.to_owned(), limits) }
    }

    async fn describe(&self) -> Result<Option<TableDescription>, LeaseError> {
        let answer =
            self.caller.retried("dynamodb DescribeTable", || self.client.describe_table().table_name(&self.table).send()).await;
        match answer {
            Ok(answer) => Ok(answer.table),
            Err(failed) if failed.code == "ResourceNotFoundException" => Ok(None),
            Err(failed) => Err(failed.failure.into()),
        }
    }

    async fn row(&self, shard: &ShardId) -> Result<Option<Row>, LeaseError> {
        let key = AttributeValue::S(shard.as_str().to_owned());
        let answer = self
            .caller
            .retried("dynamodb GetItem", || {
                self.client.get_item().table_name(&self.table).key(LEASE_KEY, key.clone()).consistent_read(true).send()
            })
            .await
            .map_err(|failed| failed.failure)?;
        Ok(answer.item)
    }

    fn update(&self, lease: &Lease, write: &LeaseWrite) -> UpdateItemFluentBuilder {
        let mut set = "SET leaseCounter = :next".to_owned();
        let mut rest = "";
        let mut condition = format!("leaseCounter = :counter AND {NOT_V3}");
        let mut request = self
            .update_item(&lease.shard)
            .expression_attribute_values(":counter", number(lease.counter))
            .expression_attribute_values(":next", number(lease.counter + 1))
            .return_values(ReturnValue::AllNew);
        match &lease.owner {
            Some(owner) => {
                condition.push_str(" AND leaseOwner = :owner");
                request = request.expression_attribute_values(":owner", AttributeValue::S(owner.clone()));
            }
            None => condition.push_str(" AND attribute_not_exists(leaseOwner)"),
        }
        match write {
            LeaseWrite::Take(owner) | LeaseWrite::Assign(owner) => {
                set.push_str(", leaseOwner = :new");
                request = request.expression_attribute_values(":new", AttributeValue::S(owner.clone()));
                if write.switches_owner(lease) {
                    rest = " ADD ownerSwitchesSinceCheckpoint :one";
                    request = request.expression_attribute_values(":one", number(1));
                }
            }
            LeaseWrite::Renew => {}
            LeaseWrite::Checkpoint(checkpoint) => {
                let (checkpoint, sub) = checkpoint_values(checkpoint);
                set.push_str(
                    ", #checkpoint = :checkpoint, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero",
                );
                rest = " REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState";
                request = request
                    .expression_attribute_names("#checkpoint", "checkpoint")
                    .expression_attribute_values(":checkpoint", checkpoint)
                    .expression_attribute_values(":sub", sub)
                    .expression_attribute_values(":zero", number(0));
            }
            LeaseWrite::Release => rest = " REMOVE leaseOwner",
        }
        request.update_expression(set + rest).condition_expression(condition)
    }

    fn update_item(&self, shard: &ShardId) -> UpdateItemFluentBuilder {
        let key = AttributeValue::S(shard.as_str().to_owned());
        self.client.update_item().table_name(&self.table).key(LEASE_KEY, key)
    }

    /// Compare-and-set on the counter. A refused write may be the repeat of one that took effect while its answer got lost, so
    /// the row is read again before the lease counts as lost.
    async fn write(&self, held: &Lease, write: &LeaseWrite) -> Result<Lease, LeaseError> {
        let mut tried = held.clone();
        loop {
            let answer = self.caller.retried("dynamodb UpdateItem", || self.update(&tried, write).send()).await;
            let row = match answer {
                Ok(answer) => answer.attributes,
                Err(failed) if refused_by_condition(&failed) => {
                    let now = self.get(&held.shard).await?.ok_or_else(|| LeaseError::Lost(held.shard.clone()))?;
                    match write.refusal(held, &tried, &now) {
                        Refusal::TookEffect => return Ok(now),
                        Refusal::OneBehind => tried = now,
                        Refusal::Lost => return Err(LeaseError::Lost(held.shard.clone())),
                    }
                    continue;
                }
                Err(failed) => return Err(failed.failure.into()),
            };
            let row = row.ok_or_else(|| RemoteFailure {
                call: "dynamodb UpdateItem",
                kind: FailureKind::ServerError,
                detail: format!("`{}`: no row in the answer", self.table),
            })?;
            return lease_of(&row)?.ok_or_else(|| LeaseError::Unusable(format!("row `{}` has no leaseCounter", held.shard)));
        }
    }

    /// Writes what a shard is, which is the same whoever writes it, so no counter guards it.
    async fn note(&self, shard: &ShardId, request: UpdateItemFluentBuilder) -> Result<(), LeaseError> {
        match self.caller.retried("dynamodb UpdateItem", || request.clone().send()).await {
            Ok(_) => Ok(()),
            // The row is absent, has it already, or is one of KCL 3.x, which reading it tells.
            Err(failed) if refused_by_condition(&failed) => match self.get(shard).await? {
                Some(_) => Ok(()),
                None => Err(LeaseError::Lost(shard.clone())),
            },
            Err(failed) => Err(failed.failure.into()),
        }
    }

    /// Workers of KCL 3.0 to 3.4 keep two more tables for each application, even while they still follow the older rules.
    async fn refuse_side_tables(&self) -> Result<(), LeaseError> {
        for suffix in V3_SIDE_TABLES {
            let name = format!("{}{suffix}", self.table);
            let answer =
                self.caller.retried("dynamodb DescribeTable", || self.client.describe_table().table_name(&name).send()).await;
            match answer {
                Ok(_) => {
                    return Err(LeaseError::Unusable(format!(
                        "`{}` is used by KCL 3.x, which made the table `{name}`",
                        self.table
                    )));
                }
                // Who may not look has not seen it. Its rows and its index tell as well once workers of KCL 3.x are at work.
                Err(failed) if matches!(failed.code.as_str(), "ResourceNotFoundException" | "AccessDeniedException") => {}
                Err(failed) => return Err(failed.failure.into()),
            }
        }
        Ok(())
    }
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn refused_by_condition<E>(failed: &Failed<E>) -> bool {
    failed.code == "ConditionalCheckFailedException"
}

#[async_trait]
impl LeaseTable for DynamoLeaseTable {
    async fn ensure(&self) -> Result<(), LeaseError> {
        self.refuse_side_tables().await?;
        let started = Instant::now();
        loop {
            match self.describe().await? {
                None => create_table(&self.client, &self.caller, &self.table, LEASE_KEY).await?,
                Some(table) => {
                    if table.global_secondary_indexes().iter().any(|index| index.index_name() == Some(V3_INDEX)) {
                        return Err(LeaseError::Unusable(format!("`{}` has the index {V3_INDEX} of KCL 3.x", self.table)));
                    }
                    if table.key_schema().len() != 1 || table.key_schema()[0].attribute_name() != LEASE_KEY {
                        return Err(LeaseError::Unusable(format!("`{}` is not keyed by {LEASE_KEY} alone", self.table)));
                    }
                    if table.table_status() == Some(&TableStatus::Active) {
                        // Refuses a table whose rows show KCL 3.x before anything is written to it.
                        return self.list().await.map(|_| ());
                    }
                }
            }
            if started.elapsed() > MOST_CREATION {
                let detail = format!("table `{}` is not active after {MOST_CREATION:?}", self.table);
                return Err(RemoteFailure { call: "dynamodb CreateTable", kind: FailureKind::TimedOut, detail }.into());
            }
            tokio::time::sleep(CREATION_POLL).await;
        }
    }

    async fn list(&self) -> Result<Vec<Lease>, LeaseError> {
        let mut leases = Vec::new();
        let mut after: Option<Row> = None;
        loop {
            let page = self
                .caller
                .retried("dynamodb Scan", || {
                    self.client.scan().table_name(&self.table).consistent_read(true).set_exclusive_start_key(after.clone()).send()
                })
                .await
                .map_err(|failed| failed.failure)?;
            for row in page.items.unwrap_or_default() {
                leases.extend(lease_of(&row)?);
            }
            after = page.last_evaluated_key.filter(|key| !key.is_empty());
            if after.is_none() {
                return Ok(leases);
            }
        }
    }

    async fn get(&self, shard: &ShardId) -> Result<Option<Lease>, LeaseError> {
        Ok(self.row(shard).await?.map(|row| lease_of(&row)).transpose()?.flatten())
    }

    async fn create(&self, lease: &NewLease) -> Result<bool, LeaseError> {
        let row = new_row(lease);
        let answer = self
            .caller
            .retried("dynamodb PutItem", || {
                self.client
                    .put_item()
                    .table_name(&self.table)
                    .set_item(Some(row.clone()))
                    .condition_expression("attribute_not_exists(leaseKey)")
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(failed) if refused_by_condition(&failed) => {
                if let Some(row) = self.row(&lease.shard).await? {
                    refuse_foreign(&row)?;
                }
                Ok(false)
            }
            Err(failed) => Err(failed.failure.into()),
        }
    }

    async fn take(&self, lease: &Lease, owner: &str) -> Result<Lease, LeaseError> {
        self.write(lease, &LeaseWrite::Take(owner.to_owned())).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.write(lease, &LeaseWrite::Renew).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<Lease, LeaseError> {
        self.write(lease, &LeaseWrite::Checkpoint(checkpoint.clone())).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.write(lease, &LeaseWrite::Release).await.map(|_| ())
    }

    async fn assign(&self, lease: &Lease, to: &str) -> Result<Lease, LeaseError> {
        self.write(lease, &LeaseWrite::Assign(to.to_owned())).await
    }

    async fn note_children(&self, shard: &ShardId, children: &[ShardId]) -> Result<(), LeaseError> {
        if children.is_empty() {
            // An empty set cannot be stored.
            return Ok(());
        }
        let children = AttributeValue::Ss(children.iter().map(|id| id.as_str().to_owned()).collect());
        let request = self
            .update_item(shard)
            .update_expression("SET childShardIds = :children")
            .condition_expression(format!("attribute_exists(leaseKey) AND {NOT_V3}"))
            .expression_attribute_values(":children", children);
        self.note(shard, request).await
    }

    async fn note_hash_range(&self, shard: &ShardId, (start, end): &(String, String)) -> Result<(), LeaseError> {
        let lacking = "(attribute_not_exists(startingHashKey) OR attribute_not_exists(endingHashKey))";
        let request = self
            .update_item(shard)
            .update_expression("SET startingHashKey = :start, endingHashKey = :end")
            .condition_expression(format!("attribute_exists(leaseKey) AND {NOT_V3} AND {lacking}"))
            .expression_attribute_values(":start", AttributeValue::S(start.clone()))
            .expression_attribute_values(":end", AttributeValue::S(end.clone()));
        self.note(shard, request).await
    }

    async fn delete(&self, lease: &Lease) -> Result<(), LeaseError> {
        let key = AttributeValue::S(lease.shard.as_str().to_owned());
        let counter = number(lease.counter);
        let condition = format!("attribute_not_exists(leaseKey) OR (leaseCounter = :counter AND {NOT_V3})");
        let answer = self
            .caller
            .retried("dynamodb DeleteItem", || {
                self.client
                    .delete_item()
                    .table_name(&self.table)
                    .key(LEASE_KEY, key.clone())
                    .condition_expression(condition.clone())
                    .expression_attribute_values(":counter", counter.clone())
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(failed) if refused_by_condition(&failed) => {
                // Reading it tells a row of KCL 3.x.
                self.get(&lease.shard).await?;
                Err(LeaseError::Lost(lease.shard.clone()))
            }
            Err(failed) => Err(failed.failure.into()),
        }
    }
}
