//! A node takes over the lease table of a stopped KCL application, such as a Spark job: exactly where it stopped or, if asked, from
//! earlier on; and leaves alone what it must not write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableStatus,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{Record, Shard};
use speedtrap_actors::testing::{aggregated_record, dumped_kcl_2_5_8, golden_kcl_1_12, golden_kcl_2_5, item_json};
use speedtrap_tests::commands::{self, Ended};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::evidence::{SPEEDING_TABLE, items};
use speedtrap_tests::node::Node;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM};
use tokio::process::Command;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);
/// Records of the two batches arrive so far apart that a node may take its time to start between them.
const GAP: Duration = Duration::from_secs(20);
const N_RECORDS: usize = 60;

type Row = HashMap<String, AttributeValue>;
type ByShard = BTreeMap<String, Vec<Record>>;

#[tokio::test]
async fn a_stopped_application_is_continued_at_its_checkpoints_and_a_running_one_is_left_alone() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    publish(&sandbox, "a").await?;
    sleep(Duration::from_secs(2)).await;
    let between = Instant::now();
    let first = streams::records_by_shard(&sandbox.clients.kinesis, IN_STREAM).await?;
    ensure!(first.values().all(|records| records.len() >= 3), "a shard has too few records to stop in the middle");

    tables_of_kcl_3_are_refused(&sandbox).await?;
    a_running_application_is_refused(&sandbox, &first).await?;
    an_adopted_one_goes_on_exactly_after_its_checkpoints(&sandbox, &first).await?;

    sleep(GAP.saturating_sub(between.elapsed())).await;
    publish(&sandbox, "b").await?;
    a_rewind_processes_again_what_arrived_since(&sandbox, &first, between).await?;
    sandbox.end().await
}

/// Attributes that KCL 1.12 does not write yet.
const SINCE_1_12: [&str; 4] = ["childShardIds", "startingHashKey", "endingHashKey", "pendingCheckpointState"];

/// The table is what running workers left behind. Their stream is made anew, and each checkpoint is put at the record of the same
/// number, since sequence numbers are the service's to give.
#[tokio::test]
async fn a_table_that_kcl_2_5_8_left_is_continued_exactly_where_its_workers_stopped() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(3).await?;
    let stream = stream_of_the_dump(&sandbox).await?;
    continued_exactly(&sandbox, &stream, "kcl-2.5.8", &[]).await?;
    forget_processed(&sandbox).await?;
    continued_exactly(&sandbox, &stream, "kcl-1.12", &SINCE_1_12).await?;
    sandbox.end().await
}

async fn continued_exactly(sandbox: &Sandbox, stream: &ByShardId, table: &str, lacking: &[&str]) -> Result<()> {
    let ranges = hash_ranges(sandbox).await?;
    make_table(sandbox, table).await?;
    let (mut expected, mut left) = (BTreeSet::new(), BTreeMap::new());
    for golden in dumped_kcl_2_5_8() {
        let (mut row, shard) = (golden.row, golden.lease["shard"].as_str().context("golden text")?.to_owned());
        let range = (&row["startingHashKey"], &row["endingHashKey"]);
        ensure!(range == (&ranges[&shard].0, &ranges[&shard].1), "{shard} is another one in the dump: {}", item_json(&row));
        let user_records = &stream[&shard];
        let mut move_to = |n: usize, sequence: &str, sub: &str| {
            if let Some(at) = row.get_mut(sequence) {
                *at = text(&user_records[n].sequence);
                ensure!(row[sub] == number(user_records[n].sub), "user record {n} of {shard} stands elsewhere in the dump");
            }
            Ok(())
        };
        if let Some(done) = golden.done {
            move_to(done - 1, "checkpoint", "checkpointSubSequenceNumber")?;
            move_to(done, "pendingCheckpoint", "pendingCheckpointSubSequenceNumber")?;
        }
        row.retain(|attribute, _| !lacking.contains(&attribute.as_str()));
        if row["checkpoint"] != text("SHARD_END") {
            expected.extend(user_records[golden.done.unwrap_or(0)..].iter().map(|record| record.event_id.clone()));
        }
        put(sandbox, table, row.clone()).await?;
        left.insert(shard, row);
    }
    ensure!(expected.len() == 53, "{} events are left to do, but KCL itself, when it went on, did 53", expected.len());
    let node = adopting(sandbox, table, &["--adopt"]).await?;
    processed_exactly(sandbox, &node, &expected).await?;
    node.stop().await?;
    for now in items(&sandbox.clients.dynamodb, table).await? {
        let shard = now["leaseKey"].as_s().ok().context("a lease key is text")?;
        let mut expected = left[shard].clone();
        expected.insert("startingHashKey".to_owned(), ranges[shard].0.clone());
        expected.insert("endingHashKey".to_owned(), ranges[shard].1.clone());
        if expected["checkpoint"] != text("SHARD_END") {
            // A checkpoint ends the one that was pending, and a worker that stops for good releases its leases.
            expected.retain(|attribute, _| attribute != "leaseOwner" && !attribute.starts_with("pendingCheckpoint"));
            let last = stream[shard].last().context("an open shard has records")?;
            expected.extend([
                ("checkpoint".to_owned(), text(&last.sequence)),
                ("checkpointSubSequenceNumber".to_owned(), number(last.sub)),
                ("ownerSwitchesSinceCheckpoint".to_owned(), number(0)),
                ("leaseCounter".to_owned(), now["leaseCounter"].clone()),
            ]);
        }
        ensure!(item_json(&now) == item_json(&expected), "{} was left as {}", item_json(&left[shard]), item_json(&now));
    }
    Ok(())
}

async fn tables_of_kcl_3_are_refused(sandbox: &Sandbox) -> Result<()> {
    make_table(sandbox, "kcl-3").await?;
    let mut row = golden_kcl_2_5().remove(1).row;
    row.insert("checkpointOwner".to_owned(), text("worker-1"));
    put(sandbox, "kcl-3", row).await?;
    let before = items(&sandbox.clients.dynamodb, "kcl-3").await?;
    for arguments in [&[][..], &["--adopt"], &["--adopt", "--rewind", "2m"]] {
        let ended = commands::run(node(sandbox, "kcl-3", arguments)?).await?;
        ensure!(ended.code == Some(5) && ended.err.contains("KCL 3.x") && ended.err.contains("kcl-3"), "{ended:?}");
    }
    ensure!(items(&sandbox.clients.dynamodb, "kcl-3").await? == before, "a table of KCL 3.x was written");
    let ended = commands::run(node(sandbox, "kcl-3", &["--rewind", "2m"])?).await?;
    ensure!(ended.code == Some(2) && ended.err.contains("--adopt"), "{ended:?}");
    Ok(())
}

async fn a_running_application_is_refused(sandbox: &Sandbox, records: &ByShard) -> Result<()> {
    let table = "running";
    make_table(sandbox, table).await?;
    let mut owners = Vec::new();
    for (shard, records) in records {
        let row = stopped_at(shard, records.first());
        owners.push(row["leaseOwner"].as_s().cloned().unwrap_or_default());
        put(sandbox, table, row).await?;
    }
    let shard = records.keys().last().context("the stream has a shard")?;
    let renewing = async {
        loop {
            let renew = sandbox.clients.dynamodb.update_item().table_name(table).key("leaseKey", text(shard));
            let renew = renew.update_expression("ADD leaseCounter :one").expression_attribute_values(":one", number(1));
            renew.send().await?;
            sleep(Duration::from_millis(300)).await;
        }
    };
    let ended: Ended = tokio::select! {
        ended = commands::run(node(sandbox, table, &["--adopt"])?) => ended?,
        failed = renewing => return failed,
    };
    let named = ended.err.contains(shard.as_str()) && ended.err.contains(&owners[0]);
    ensure!(ended.code == Some(5) && named && ended.err.contains("stop it first"), "{ended:?}");
    let after = items(&sandbox.clients.dynamodb, table).await?;
    ensure!(after.iter().all(|row| row["leaseOwner"] == text(&owners[0])), "a lease was taken");
    Ok(())
}

async fn an_adopted_one_goes_on_exactly_after_its_checkpoints(sandbox: &Sandbox, records: &ByShard) -> Result<()> {
    let table = "exact";
    make_table(sandbox, table).await?;
    let mut expected = BTreeSet::new();
    for (shard, records) in records {
        let middle = records.len() / 2;
        let mut row = stopped_at(shard, records.get(middle));
        row.insert("somethingNew".to_owned(), text("theirs"));
        put(sandbox, table, row).await?;
        expected.extend(event_ids(&records[middle + 1..])?);
    }
    let node = adopting(sandbox, table, &["--adopt"]).await?;
    processed_exactly(sandbox, &node, &expected).await?;
    node.stop().await?;
    for (shard, records) in records {
        let rows = items(&sandbox.clients.dynamodb, table).await?;
        let row = rows.iter().find(|row| row["leaseKey"] == text(shard)).context("the row is there")?;
        let last = records.last().context("a shard has records")?;
        ensure!(row["checkpoint"] == text(&last.sequence_number), "not done to the end: {}", item_json(row));
        ensure!(row["somethingNew"] == text("theirs") && !row.contains_key("pendingCheckpoint"), "{}", item_json(row));
    }
    Ok(())
}

async fn a_rewind_processes_again_what_arrived_since(sandbox: &Sandbox, first: &ByShard, between: Instant) -> Result<()> {
    let table = "rewound";
    make_table(sandbox, table).await?;
    let all = streams::records_by_shard(&sandbox.clients.kinesis, IN_STREAM).await?;
    let mut expected = BTreeSet::new();
    for (n, (shard, records)) in all.iter().enumerate() {
        let n_first = first[shard].len();
        // The first shard stopped in the middle of the first batch, before the time to go back to; the others at their end.
        let (stopped, from) = if n == 0 && all.len() > 1 { (n_first / 2, n_first / 2 + 1) } else { (records.len() - 1, n_first) };
        put(sandbox, table, stopped_at(shard, records.get(stopped))).await?;
        expected.extend(event_ids(&records[from..])?);
    }
    forget_processed(sandbox).await?;
    let rewind = format!("{}s", between.elapsed().as_secs());
    let node = adopting(sandbox, table, &["--adopt", "--rewind", &rewind]).await?;
    processed_exactly(sandbox, &node, &expected).await?;
    node.stop().await
}

/// One reading, alone in its record or with others.
struct UserRecord {
    sequence: String,
    sub: u64,
    event_id: String,
}

type ByShardId = BTreeMap<String, Vec<UserRecord>>;

/// The stream of the dump: of three shards the first was split and the others merged, then the merged one was split; a shard got a
/// record of the Kinesis Producer Library among plain ones.
async fn stream_of_the_dump(sandbox: &Sandbox) -> Result<ByShardId> {
    let kinesis = &sandbox.clients.kinesis;
    let mut stream = ByShardId::new();
    publish_to(sandbox, "a", 5, &[0, 1, 2], &mut stream).await?;
    split(sandbox, 0).await?;
    let merge = kinesis.merge_shards().stream_name(IN_STREAM);
    merge.shard_to_merge(shard_id(1)).adjacent_shard_to_merge(shard_id(2)).send().await?;
    publish_to(sandbox, "b", 20, &[3, 4, 5], &mut stream).await?;
    let (record, readings) = aggregated_record();
    let sequence = put_at(sandbox, 4, record).await?;
    for (sub, reading) in (0..).zip(readings) {
        let reading: serde_json::Value = serde_json::from_str(&reading)?;
        let event_id = reading["eventId"].as_str().context("a reading has an eventId")?.to_owned();
        stream.entry(shard_id(4)).or_default().push(UserRecord { sequence: sequence.clone(), sub, event_id });
    }
    publish_to(sandbox, "c", 10, &[4], &mut stream).await?;
    split(sandbox, 5).await?;
    publish_to(sandbox, "d", 20, &[6, 7], &mut stream).await?;
    Ok(stream)
}

fn shard_id(n: usize) -> String {
    format!("shardId-{n:012}")
}

async fn publish_to(sandbox: &Sandbox, batch: &str, count: usize, shards: &[usize], stream: &mut ByShardId) -> Result<()> {
    for shard in shards {
        for n in 0..count {
            let event_id = format!("{batch}-{shard}-{n}");
            let sequence = put_at(sandbox, *shard, reading(&event_id, &format!("PLATE-{}", n % 5))).await?;
            stream.entry(shard_id(*shard)).or_default().push(UserRecord { sequence, sub: 0, event_id });
        }
    }
    Ok(())
}

/// Puts a record onto a shard and gives its sequence number.
async fn put_at(sandbox: &Sandbox, shard: usize, data: Vec<u8>) -> Result<String> {
    let request = sandbox.clients.kinesis.put_record().stream_name(IN_STREAM).partition_key("plate").data(Blob::new(data));
    let put = request.explicit_hash_key(middle(sandbox, shard).await?.to_string()).send().await?;
    ensure!(put.shard_id() == shard_id(shard), "the record went to {}", put.shard_id());
    Ok(put.sequence_number)
}

async fn split(sandbox: &Sandbox, shard: usize) -> Result<()> {
    let request = sandbox.clients.kinesis.split_shard().stream_name(IN_STREAM).shard_to_split(shard_id(shard));
    request.new_starting_hash_key((middle(sandbox, shard).await? + 1).to_string()).send().await?;
    Ok(())
}

/// The hash key in the middle of a shard.
async fn middle(sandbox: &Sandbox, shard: usize) -> Result<u128> {
    let (first, last) = hash_ranges(sandbox).await?.remove(&shard_id(shard)).context("there is no such shard")?;
    let key = |key: AttributeValue| anyhow::Ok(key.as_s().map_or("", String::as_str).parse::<u128>()?);
    let (first, last) = (key(first)?, key(last)?);
    Ok(first + (last - first) / 2)
}

/// First and last hash key of each shard, as lease rows have them.
async fn hash_ranges(sandbox: &Sandbox) -> Result<BTreeMap<String, (AttributeValue, AttributeValue)>> {
    let shards = sandbox.clients.kinesis.list_shards().stream_name(IN_STREAM).send().await?.shards.unwrap_or_default();
    let range = |shard: &Shard| {
        let range = shard.hash_key_range().context("a shard has a range")?;
        Ok((shard.shard_id().to_owned(), (text(range.starting_hash_key()), text(range.ending_hash_key()))))
    };
    shards.iter().map(range).collect()
}

/// A batch of readings, all above the limit, with ids `<batch>-<n>`.
async fn publish(sandbox: &Sandbox, batch: &str) -> Result<()> {
    let record = |n: usize| {
        let plate = format!("PLATE-{}", n % 20);
        let reading = reading(&format!("{batch}-{n}"), &plate);
        (plate, reading)
    };
    let records: Vec<_> = (0..N_RECORDS).map(record).collect();
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await
}

fn reading(event_id: &str, plate: &str) -> Vec<u8> {
    let reading = serde_json::json!({
        "eventId": event_id, "iottimestamp": "2026-11-22 12:00:00.000000", "licensePlate": plate,
        "longitude": "1.5", "latitude": "2.5", "city": "Weston", "state": "Iowa", "speed": "90",
    });
    reading.to_string().into_bytes()
}

/// A node that only enriches, with leases that expire soon.
fn settings(command: &mut Command, table: &str, arguments: &[&str]) {
    command.env("SPEEDTRAP_DYNAMODB__ENRICH_LEASES", table);
    command.env("SPEEDTRAP_LEASE__EXPIRES_AFTER", "2s").env("SPEEDTRAP_LEASE__RENEW_EVERY", "500ms");
    command.env("SPEEDTRAP_LEASE__SYNC_EVERY", "1s");
    command.args(["--roles", "enrich"]).args(arguments);
}

fn node(sandbox: &Sandbox, table: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.env("SPEEDTRAP_WAREHOUSE__URL", &sandbox.endpoints.warehouse_url);
    command.args(["run", "--name", "node-1", "--listen", "127.0.0.1:0"]);
    settings(&mut command, table, arguments);
    Ok(command)
}

async fn adopting(sandbox: &Sandbox, table: &str, arguments: &[&str]) -> Result<Node> {
    Node::start_with(&sandbox.endpoints, sandbox.folder(), table, |command| settings(command, table, arguments)).await
}

async fn forget_processed(sandbox: &Sandbox) -> Result<()> {
    for item in items(&sandbox.clients.dynamodb, SPEEDING_TABLE).await? {
        let gone = sandbox.clients.dynamodb.delete_item().table_name(SPEEDING_TABLE);
        let gone = gone.key("licensePlate", item["licensePlate"].clone()).key("eventId", item["eventId"].clone());
        gone.send().await?;
    }
    Ok(())
}

/// Every violation is stored, so what stands in the table is what was processed since it was empty.
async fn processed_exactly(sandbox: &Sandbox, node: &Node, expected: &BTreeSet<String>) -> Result<()> {
    eventually("the rest is processed", LIMIT, || async {
        let status = node.status().await?;
        ensure!(status.is_idle() && status.all_ended("enrich") >= expected.len() as u64, "{}", status.json());
        Ok(())
    })
    .await?;
    let stored = items(&sandbox.clients.dynamodb, SPEEDING_TABLE).await?;
    let stored: BTreeSet<_> = stored.iter().filter_map(|item| item["eventId"].as_s().ok().cloned()).collect();
    let (missing, beyond): (Vec<_>, Vec<_>) = (expected.difference(&stored).collect(), stored.difference(expected).collect());
    ensure!(missing.is_empty() && beyond.is_empty(), "not processed: {missing:?}; processed, but done before: {beyond:?}");
    let ended = node.status().await?.all_ended("enrich");
    ensure!(ended == expected.len() as u64, "{ended} events ended for {} records", expected.len());
    Ok(())
}

fn event_ids(records: &[Record]) -> Result<Vec<String>> {
    let id = |record: &Record| {
        let reading: serde_json::Value = serde_json::from_slice(record.data.as_ref())?;
        reading["eventId"].as_str().map(str::to_owned).context("a record has no eventId")
    };
    records.iter().map(id).collect()
}

/// The row that a stopped worker of KCL 1.12 leaves: it still owns the lease, and a pending checkpoint may stand there.
fn stopped_at(shard: &str, record: Option<&Record>) -> Row {
    let mut row = golden_kcl_1_12().remove(2).row;
    let checkpoint = record.map_or("TRIM_HORIZON", |record| &record.sequence_number);
    row.extend([
        ("leaseKey".to_owned(), text(shard)),
        ("checkpoint".to_owned(), text(checkpoint)),
        ("checkpointSubSequenceNumber".to_owned(), number(0)),
    ]);
    row.remove("parentShardId");
    row
}

/// As KCL 1.x makes it, but for the billing.
async fn make_table(sandbox: &Sandbox, name: &str) -> Result<()> {
    let dynamodb = &sandbox.clients.dynamodb;
    let table = dynamodb.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build()?;
    let attribute = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S).build()?;
    table.key_schema(key).attribute_definitions(attribute).send().await?;
    eventually("the table is active", LIMIT, || async {
        let described = dynamodb.describe_table().table_name(name).send().await?;
        let is_active = described.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active);
        ensure!(is_active, "{described:?}");
        Ok(())
    })
    .await
}

async fn put(sandbox: &Sandbox, table: &str, row: Row) -> Result<()> {
    sandbox.clients.dynamodb.put_item().table_name(table).set_item(Some(row)).send().await?;
    Ok(())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}
