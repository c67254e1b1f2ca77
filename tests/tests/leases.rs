//! Lease rows on the local cloud: read and written as the Kinesis Client Library does, beside whatever else stands in the table.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use speedtrap_actors::adapters::DynamoLeaseTable;
use speedtrap_actors::domain::{Position, SequenceNumber, ShardId};
use speedtrap_actors::ports::{Checkpoint, LeaseError, LeaseTable, NewLease};
use speedtrap_actors::testing::contracts::lease_table_contract;
use speedtrap_actors::testing::{
    GoldenLease, dumped_kcl_2_5_8, golden_kcl_1_12, golden_kcl_2_5, golden_writes, item_json, lease_json,
};
use speedtrap_tests::ports_cloud::{Cloud, LIMITS, unique};

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[tokio::test]
async fn leases_keep_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let table = unique("leases");
    lease_table_contract(Arc::new(DynamoLeaseTable::new(&cloud.dynamodb, &table, LIMITS))).await;
    Ok(())
}

#[tokio::test]
async fn lease_rows_look_as_golden_after_each_write() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let name = unique("leases");
    let leases = DynamoLeaseTable::new(&cloud.dynamodb, &name, LIMITS);
    leases.ensure().await?;
    let shard = ShardId::new("shardId-000000000009");
    let ids = |ids: &[&str]| ids.iter().map(|id| ShardId::new(id)).collect::<Vec<_>>();
    for (n, golden) in golden_writes().into_iter().enumerate() {
        let held = leases.get(&shard).await?;
        let held = || held.clone().context("the row is there");
        match golden.write.as_str() {
            "create" => {
                let parents = ids(&["shardId-000000000003", "shardId-000000000004"]);
                let new = NewLease { shard: shard.clone(), checkpoint: Checkpoint::TrimHorizon, parents, hash_range: None };
                ensure!(leases.create(&new).await?);
            }
            "note_hash_range" => leases.note_hash_range(&shard, &("0".to_owned(), u128::MAX.to_string())).await?,
            "note_children" => leases.note_children(&shard, &ids(&["shardId-000000000010", "shardId-000000000011"])).await?,
            "take" => drop(leases.take(&held()?, "node-1#1795399200000").await?),
            "renew" => drop(leases.renew(&held()?).await?),
            "checkpoint" => {
                let sequence = golden.row["checkpoint"]["S"].as_str().context("golden text")?;
                let position = Position { sequence: SequenceNumber::parse(sequence)?, sub: 3 };
                leases.checkpoint(&held()?, &Checkpoint::At(position)).await?;
            }
            "assign" => drop(leases.assign(&held()?, "node-2#1795399201000").await?),
            "release" => leases.release(&held()?).await?,
            "shard_end" => drop(leases.checkpoint(&held()?, &Checkpoint::ShardEnd).await?),
            other => anyhow::bail!("no such write: {other}"),
        }
        let row = cloud.items(&name).await?.remove(0);
        assert_eq!(item_json(&row), golden.row, "golden write {n}: {}", golden.write);
    }
    Ok(())
}

#[tokio::test]
async fn rows_of_kcl_1_12_and_2_5_are_read_and_written_over_exactly() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    for golden in [golden_kcl_1_12(), golden_kcl_2_5(), dumped_kcl_2_5_8()] {
        let name = unique("leases");
        let leases = DynamoLeaseTable::new(&cloud.dynamodb, &name, LIMITS);
        leases.ensure().await?;
        // Neither a row of another kind nor an attribute of another version is touched.
        let other = HashMap::from([("leaseKey".to_owned(), text("not-a-lease")), ("note".to_owned(), text("theirs"))]);
        cloud.dynamodb.put_item().table_name(&name).set_item(Some(other.clone())).send().await?;
        for GoldenLease { row, .. } in &golden {
            let mut row = row.clone();
            row.insert("somethingNew".to_owned(), text("theirs"));
            cloud.dynamodb.put_item().table_name(&name).set_item(Some(row)).send().await?;
        }
        let seen = leases.list().await?;
        assert_eq!(seen.len(), golden.len());
        for GoldenLease { row, lease, .. } in golden {
            let shard = ShardId::new(lease["shard"].as_str().context("golden text")?);
            let held = seen.iter().find(|lease| lease.shard == shard).context("the row is listed")?;
            assert_eq!(lease_json(held), lease);
            let taken = leases.take(held, "node-1#1").await?;
            leases.checkpoint(&taken, &taken.checkpoint).await?;
            let mut expected = item_json(&row);
            for (attribute, value) in [
                ("leaseOwner", serde_json::json!({"S": "node-1#1"})),
                ("leaseCounter", serde_json::json!({"N": (held.counter + 2).to_string()})),
                ("ownerSwitchesSinceCheckpoint", serde_json::json!({"N": "0"})),
                ("somethingNew", serde_json::json!({"S": "theirs"})),
            ] {
                expected[attribute] = value;
            }
            let attributes = expected.as_object_mut().context("a row is an object")?;
            attributes.retain(|attribute, _| !attribute.starts_with("pending"));
            let items = cloud.items(&name).await?;
            let found = items.iter().find(|item| item["leaseKey"] == text(shard.as_str())).context("the row is there")?;
            assert_eq!(item_json(found), expected);
        }
        ensure!(cloud.items(&name).await?.contains(&other), "a row that is no lease was touched");
    }
    Ok(())
}

/// Each way a table tells that workers of KCL 3.x use it, or another consumer that we must not disturb.
#[tokio::test]
async fn tables_in_the_mode_of_kcl_3_are_refused_and_never_written() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let row = |key: &str, more: &[(&str, &str)]| {
        let mut row = golden_kcl_2_5().remove(1).row;
        row.insert("leaseKey".to_owned(), text(key));
        row.extend(more.iter().map(|(name, value)| ((*name).to_owned(), text(value))));
        row
    };
    for foreign in [
        row("shardId-000000000001", &[("checkpointOwner", "worker-1")]),
        row("leader", &[("entityType", "LEADER")]),
        row("Migration3.0", &[]),
        row("1:stream:2:shardId-000000000001", &[("streamName", "1:stream:2")]),
    ] {
        let name = unique("leases");
        let leases = DynamoLeaseTable::new(&cloud.dynamodb, &name, LIMITS);
        leases.ensure().await?;
        cloud.dynamodb.put_item().table_name(&name).set_item(Some(row("shardId-000000000000", &[]))).send().await?;
        cloud.dynamodb.put_item().table_name(&name).set_item(Some(foreign)).send().await?;
        let before = cloud.items(&name).await?;
        assert_unusable(&leases.list().await.map(drop));
        assert_unusable(&leases.ensure().await);
        assert_eq!(cloud.items(&name).await?, before, "nothing was written");
    }

    // A hand-over that begins while we hold the lease.
    let name = unique("leases");
    let leases = DynamoLeaseTable::new(&cloud.dynamodb, &name, LIMITS);
    leases.ensure().await?;
    let key = "shardId-000000000001";
    cloud.dynamodb.put_item().table_name(&name).set_item(Some(row(key, &[]))).send().await?;
    let mine = leases.take(&leases.list().await?[0], "node-1").await?;
    let theirs = cloud.dynamodb.update_item().table_name(&name).key("leaseKey", text(key));
    let theirs = theirs.update_expression("SET checkpointOwner = :v").expression_attribute_values(":v", text("worker-1"));
    theirs.send().await?;
    let before = cloud.items(&name).await?;
    assert_unusable(&leases.renew(&mine).await.map(drop));
    assert_unusable(&leases.checkpoint(&mine, &Checkpoint::ShardEnd).await.map(drop));
    assert_unusable(&leases.take(&mine, "node-2").await.map(drop));
    assert_unusable(&leases.release(&mine).await);
    assert_unusable(&leases.note_children(&mine.shard, &[ShardId::new("child")]).await);
    assert_unusable(&leases.delete(&mine).await);
    assert_eq!(cloud.items(&name).await?, before, "nothing was written");

    // Made by workers of KCL 3.0 to 3.4 while they still follow the older rules.
    for suffix in ["-CoordinatorState", "-WorkerMetricStats"] {
        let application = unique("leases");
        cloud.table_named(&format!("{application}{suffix}"), &["key"]).await?;
        let leases = DynamoLeaseTable::new(&cloud.dynamodb, &application, LIMITS);
        assert_unusable(&leases.ensure().await);
        ensure!(cloud.items(&application).await.is_err(), "a lease table was made");
    }
    Ok(())
}

#[tokio::test]
async fn a_lease_table_with_the_index_of_kcl_3_is_refused() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let name = unique("leases");
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let attribute =
        |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let index = GlobalSecondaryIndex::builder()
        .index_name("LeaseOwnerToLeaseKeyIndex")
        .key_schema(key("leaseOwner", KeyType::Hash)?)
        .key_schema(key("leaseKey", KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()?;
    let table = cloud.dynamodb.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
    let table = table.key_schema(key("leaseKey", KeyType::Hash)?).global_secondary_indexes(index);
    table.attribute_definitions(attribute("leaseKey")?).attribute_definitions(attribute("leaseOwner")?).send().await?;
    assert_unusable(&DynamoLeaseTable::new(&cloud.dynamodb, &name, LIMITS).ensure().await);
    Ok(())
}

/// One answer of a scan holds 1 MB.
#[tokio::test]
async fn leases_are_listed_over_all_pages() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let name = unique("leases");
    let leases = DynamoLeaseTable::new(&cloud.dynamodb, &name, LIMITS);
    leases.ensure().await?;
    for n in 0..12 {
        let mut row = golden_kcl_1_12().remove(1).row;
        row.insert("leaseKey".to_owned(), text(&format!("shardId-{n:012}")));
        row.insert("somethingNew".to_owned(), text(&"x".repeat(300 * 1024)));
        cloud.dynamodb.put_item().table_name(&name).set_item(Some(row)).send().await?;
    }
    let first = cloud.dynamodb.scan().table_name(&name).send().await?;
    ensure!(first.last_evaluated_key.is_some(), "all rows came in one page, so this shows nothing");
    assert_eq!(leases.list().await?.len(), 12);
    Ok(())
}

fn assert_unusable(answer: &Result<(), LeaseError>) {
    assert!(matches!(answer, Err(LeaseError::Unusable(_))), "{answer:?}");
}
