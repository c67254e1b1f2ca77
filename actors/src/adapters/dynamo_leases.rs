//! The lease table in DynamoDB, shared with workers of the Kinesis Client Library 1.x and 2.x.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ReturnValue, ScalarAttributeType,
    TableDescription, TableStatus,
};
use tokio::time::Instant;

use super::failure::{CallLimits, Caller, Failed, without_sdk_retries};
use super::lease_rows::{LEASE_KEY, Row, checkpoint_values, lease as lease_of, new_row, refuse_v3};
use crate::domain::ShardId;
use crate::ports::{Checkpoint, FailureKind, Lease, LeaseError, LeaseTable, NewLease, RemoteFailure};

/// Made by KCL 3.x in tables that it uses or is about to use.
const V3_INDEX: &str = "LeaseOwnerToLeaseKeyIndex";
/// DynamoDB makes a small table in a few seconds; a minute means that something is wrong.
const MOST_CREATION: Duration = Duration::from_secs(60);
const CREATION_POLL: Duration = Duration::from_millis(250);

/// One lease table. It is only ever written row by row with conditions, so attributes of other workers stay.
pub struct DynamoLeaseTable {
    client: Client,
    table: String,
    caller: Caller,
}

/// What a write does to a row besides the counter.
#[derive(Clone, Copy)]
enum Change<'a> {
    Take(&'a str),
    Renew,
    Checkpoint(&'a Checkpoint),
    Release,
    Assign(&'a str),
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

    async fn create_table(&self) -> Result<(), LeaseError> {
        let key = KeySchemaElement::builder().attribute_name(LEASE_KEY).key_type(KeyType::Hash);
        let attribute = AttributeDefinition::builder().attribute_name(LEASE_KEY).attribute_type(ScalarAttributeType::S);
        let (key, attribute) =
            (key.build().expect("name and type are given"), attribute.build().expect("name and type are given"));
        let answer = self
            .caller
            .retried("dynamodb CreateTable", || {
                self.client
                    .create_table()
                    .table_name(&self.table)
                    .key_schema(key.clone())
                    .attribute_definitions(attribute.clone())
                    .billing_mode(BillingMode::PayPerRequest)
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            // Another node is making it at the same time.
            Err(failed) if failed.code == "ResourceInUseException" => Ok(()),
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

    fn update(&self, lease: &Lease, change: Change<'_>) -> UpdateItemFluentBuilder {
        let mut set = "SET leaseCounter = :next".to_owned();
        let mut rest = "";
        let mut condition = "leaseCounter = :counter AND attribute_not_exists(checkpointOwner)".to_owned();
        let mut request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(LEASE_KEY, AttributeValue::S(lease.shard.as_str().to_owned()))
            .expression_attribute_values(":counter", AttributeValue::N(lease.counter.to_string()))
            .expression_attribute_values(":next", AttributeValue::N((lease.counter + 1).to_string()))
            .return_values(ReturnValue::AllNew);
        match &lease.owner {
            Some(owner) => {
                condition.push_str(" AND leaseOwner = :owner");
                request = request.expression_attribute_values(":owner", AttributeValue::S(owner.clone()));
            }
            None => condition.push_str(" AND attribute_not_exists(leaseOwner)"),
        }
        match change {
            Change::Take(owner) | Change::Assign(owner) => {
                set.push_str(", leaseOwner = :new");
                request = request.expression_attribute_values(":new", AttributeValue::S(owner.to_owned()));
                if lease.owner.as_deref() != Some(owner) {
                    rest = " ADD ownerSwitchesSinceCheckpoint :one";
                    request = request.expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
                }
            }
            Change::Renew => {}
            Change::Checkpoint(checkpoint) => {
                let (checkpoint, sub) = checkpoint_values(checkpoint);
                set.push_str(
                    ", #checkpoint = :checkpoint, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero",
                );
                rest = " REMOVE pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState";
                request = request
                    .expression_attribute_names("#checkpoint", "checkpoint")
                    .expression_attribute_values(":checkpoint", checkpoint)
                    .expression_attribute_values(":sub", sub)
                    .expression_attribute_values(":zero", AttributeValue::N("0".to_owned()));
            }
            Change::Release => rest = " REMOVE leaseOwner",
        }
        request.update_expression(set + rest).condition_expression(condition)
    }

    /// Compare-and-set on the counter. A refused write may be the repeat of one that took effect while its answer got lost, so
    /// the row is read again before the lease counts as lost.
    async fn write(&self, lease: &Lease, change: Change<'_>) -> Result<Lease, LeaseError> {
        let mut as_read = lease.clone();
        loop {
            let answer = self.caller.retried("dynamodb UpdateItem", || self.update(&as_read, change).send()).await;
            let row = match answer {
                Ok(answer) => answer.attributes,
                Err(failed) if refused_by_condition(&failed) => {
                    let now = self.row(&lease.shard).await?.map(|row| lease_of(&row)).transpose()?.flatten();
                    let now = now.ok_or_else(|| LeaseError::Lost(lease.shard.clone()))?;
                    if was_ours(&as_read, change, &now) {
                        return Ok(now);
                    }
                    // An earlier renewal took effect with its answer lost: the lease is still ours, one count ahead.
                    let renewed_unseen = now.owner.is_some() && now.owner == lease.owner && now.counter == lease.counter + 1;
                    if as_read.counter == lease.counter && renewed_unseen && !matches!(change, Change::Take(_)) {
                        as_read = now;
                        continue;
                    }
                    return Err(LeaseError::Lost(lease.shard.clone()));
                }
                Err(failed) => return Err(failed.failure.into()),
            };
            let row = row.ok_or_else(|| RemoteFailure {
                call: "dynamodb UpdateItem",
                kind: FailureKind::ServerError,
                detail: format!("`{}`: no row in the answer", self.table),
            })?;
            return lease_of(&row)?.ok_or_else(|| LeaseError::Unusable(format!("row `{}` has no leaseCounter", lease.shard)));
        }
    }
}

/// Whether the row is what this change makes of the lease as it was read.
fn was_ours(as_read: &Lease, change: Change<'_>, now: &Lease) -> bool {
    let effect = match change {
        Change::Take(owner) | Change::Assign(owner) => now.owner.as_deref() == Some(owner),
        Change::Renew => now.owner.is_some() && now.owner == as_read.owner,
        Change::Checkpoint(checkpoint) => now.owner.is_some() && now.owner == as_read.owner && now.checkpoint == *checkpoint,
        Change::Release => now.owner.is_none(),
    };
    effect && now.counter == as_read.counter + 1
}

pub(super) fn refused_by_condition<E>(failed: &Failed<E>) -> bool {
    failed.code == "ConditionalCheckFailedException"
}

#[async_trait]
impl LeaseTable for DynamoLeaseTable {
    async fn ensure(&self) -> Result<(), LeaseError> {
        let started = Instant::now();
        loop {
            match self.describe().await? {
                None => self.create_table().await?,
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
                    refuse_v3(&row)?;
                }
                Ok(false)
            }
            Err(failed) => Err(failed.failure.into()),
        }
    }

    async fn take(&self, lease: &Lease, owner: &str) -> Result<Lease, LeaseError> {
        self.write(lease, Change::Take(owner)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.write(lease, Change::Renew).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<Lease, LeaseError> {
        self.write(lease, Change::Checkpoint(checkpoint)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.write(lease, Change::Release).await.map(|_| ())
    }

    async fn assign(&self, lease: &Lease, to: &str) -> Result<Lease, LeaseError> {
        self.write(lease, Change::Assign(to)).await
    }

    async fn note_children(&self, shard: &ShardId, children: &[ShardId]) -> Result<(), LeaseError> {
        let key = AttributeValue::S(shard.as_str().to_owned());
        let children = AttributeValue::Ss(children.iter().map(|id| id.as_str().to_owned()).collect());
        let answer = self
            .caller
            .retried("dynamodb UpdateItem", || {
                self.client
                    .update_item()
                    .table_name(&self.table)
                    .key(LEASE_KEY, key.clone())
                    .update_expression("SET childShardIds = :children")
                    .condition_expression("attribute_exists(leaseKey)")
                    .expression_attribute_values(":children", children.clone())
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(failed) if refused_by_condition(&failed) => Err(LeaseError::Lost(shard.clone())),
            Err(failed) => Err(failed.failure.into()),
        }
    }

    async fn delete(&self, lease: &Lease) -> Result<(), LeaseError> {
        let key = AttributeValue::S(lease.shard.as_str().to_owned());
        let counter = AttributeValue::N(lease.counter.to_string());
        let answer = self
            .caller
            .retried("dynamodb DeleteItem", || {
                self.client
                    .delete_item()
                    .table_name(&self.table)
                    .key(LEASE_KEY, key.clone())
                    .condition_expression("attribute_not_exists(leaseKey) OR leaseCounter = :counter")
                    .expression_attribute_values(":counter", counter.clone())
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(failed) if refused_by_condition(&failed) => Err(LeaseError::Lost(lease.shard.clone())),
            Err(failed) => Err(failed.failure.into()),
        }
    }
}
