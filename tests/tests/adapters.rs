//! The adapters keep the contracts of their ports on the local cloud, and fail in time and without secrets where it is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use bytes::Bytes;
use speedtrap_actors::adapters::{
    CallLimits, DynamoAlertLedger, DynamoDeadLetters, DynamoLeaseTable, DynamoNodeTable, DynamoStreamSource,
    DynamoViolationStore, FirehoseArchive, KinesisSource, KinesisViolationStream, RedshiftDriverDirectory, SnsAlertSender,
    WarehouseOptions, violation_item, warehouse_pool,
};
use speedtrap_actors::domain::{PhoneNumber, PlateKey};
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::Calls;
use speedtrap_actors::ports::{
    AlertSender, Archive, DriverDirectory, FailureKind, LeaseError, LeaseTable, NodeTable, OutRecord, SendError, ShardSource,
    StartAt, ViolationStore,
};
use speedtrap_actors::testing::contracts::{
    alert_ledger_contract, alert_sender_contract, archive_contract, dead_letters_contract, driver_directory_contract,
    node_table_contract, shard_source_contract, violation_store_contract, violation_stream_contract,
};
use speedtrap_actors::testing::sample_event;
use speedtrap_tests::ports_cloud::{Cloud, LIMITS, unique};

const MONTH: Duration = Duration::from_secs(30 * 86_400);

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[tokio::test]
async fn a_kinesis_shard_keeps_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let stream = cloud.stream(1).await?;
    let expected: Vec<_> = (0..7).map(|n| format!("record {n}")).collect();
    for data in &expected {
        let data = Blob::new(data.as_bytes());
        cloud.kinesis.put_record().stream_name(&stream).partition_key("plate").data(data).send().await?;
    }
    let source = Arc::new(KinesisSource::new(&cloud.kinesis, &stream, LIMITS));
    shard_source_contract(source, &expected, |record| String::from_utf8_lossy(&record.data).into_owned()).await;
    Ok(())
}

#[tokio::test]
async fn kinesis_shards_are_listed_with_their_hash_ranges() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let stream = cloud.stream(3).await?;
    let shards = KinesisSource::new(&cloud.kinesis, &stream, LIMITS).shards().await?;
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| shard.hash_range.is_some()));
    Ok(())
}

#[tokio::test]
async fn a_dynamodb_stream_keeps_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let table = cloud.table(&["licensePlate", "eventId"]).await?;
    let mut expected = Vec::new();
    for n in 0..5 {
        let item = violation_item(&sample_event("P", &format!("event-{n}"), 80));
        cloud.dynamodb.put_item().table_name(&table).set_item(Some(item)).send().await?;
        expected.push(format!("INSERT {{\"S\":\"event-{n}\"}} {{\"N\":\"80\"}}"));
    }
    let gone = cloud.dynamodb.delete_item().table_name(&table).key("licensePlate", text("P")).key("eventId", text("event-0"));
    gone.send().await?;
    expected.push("REMOVE null null".to_owned());
    let source = Arc::new(DynamoStreamSource::new(&cloud.dynamodb, &cloud.dynamodb_streams, &table, LIMITS));
    shard_source_contract(source, &expected, |record| {
        let change: serde_json::Value = serde_json::from_slice(&record.data).expect("a change is JSON");
        let name = change["eventName"].as_str().unwrap_or_default();
        format!("{name} {} {}", change["newImage"]["eventId"], change["newImage"]["speed"])
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn nodes_keep_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let table = DynamoNodeTable::new(&cloud.dynamodb, &unique("nodes"), LIMITS);
    table.ensure().await?;
    table.ensure().await?;
    node_table_contract(Arc::new(table)).await;
    Ok(())
}

#[tokio::test]
async fn nodes_share_one_cookie_that_is_no_node() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let name = unique("nodes");
    let [one, two] = [0; 2].map(|_| DynamoNodeTable::new(&cloud.dynamodb, &name, LIMITS));
    let (first, second) = tokio::join!(one.ensure(), two.ensure());
    first?;
    second?;
    let (first, second) = tokio::join!(one.shared_cookie(), two.shared_cookie());
    let (first, second) = (first?, second?);
    ensure!(first == second && first.len() == 64, "`{first}` and `{second}`");
    assert_eq!(two.shared_cookie().await?, first);
    assert_eq!(two.list().await?, []);
    Ok(())
}

#[tokio::test]
async fn violations_keep_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let table = cloud.table(&["licensePlate", "eventId"]).await?;
    let store = DynamoViolationStore::new(&cloud.dynamodb, &table, LIMITS);
    // No key of DynamoDB may be empty.
    let expected = violation_store_contract(Arc::new(store), &sample_event("P", "", 80)).await;
    let items = cloud.items(&table).await?;
    assert_eq!(items.len(), expected.len());
    assert!(expected.iter().all(|event| items.contains(&violation_item(event))), "an item holds the event and nothing else");
    Ok(())
}

#[tokio::test]
async fn the_out_stream_keeps_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let name = cloud.stream(2).await?;
    let stream = Arc::new(KinesisViolationStream::new(&cloud.kinesis, &name, LIMITS));
    // A partition key has 256 characters at most.
    let poison = OutRecord { partition_key: "P".repeat(300), data: Bytes::from_static(b"{}") };
    let expected = violation_stream_contract(stream, &poison).await;
    let source = KinesisSource::new(&cloud.kinesis, &name, LIMITS);
    let mut by_shard = Vec::new();
    for shard in source.shards().await? {
        let mut iterator = source.iterator(&shard.id, &StartAt::TrimHorizon).await?;
        let mut n_empty = 0;
        while n_empty < 3 {
            let page = source.read(&iterator, 10_000).await?;
            n_empty = if page.records.is_empty() { n_empty + 1 } else { 0 };
            by_shard.extend(page.records.into_iter().map(|record| record.data));
            iterator = page.next.context("an open shard goes on")?;
        }
    }
    assert_eq!(by_shard.len(), expected.len());
    let keys: BTreeSet<_> = expected.iter().map(|record| &record.partition_key).collect();
    for key in keys {
        let of_key: Vec<_> = expected.iter().filter(|record| record.partition_key == *key).map(|record| &record.data).collect();
        let found: Vec<_> = by_shard.iter().filter(|data| of_key.contains(data)).collect();
        assert_eq!(found, of_key, "records of {key} are in order");
    }
    Ok(())
}

#[tokio::test]
async fn alerts_keep_the_contract_and_the_table_holds_nothing_personal() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let table = cloud.table(&["eventId"]).await?;
    alert_ledger_contract(Arc::new(DynamoAlertLedger::new(&cloud.dynamodb, &table, MONTH, LIMITS))).await;
    let items = cloud.items(&table).await?;
    let sent = items.iter().find(|item| item["eventId"] == text("event-1")).context("the claim is there")?;
    let names: BTreeSet<_> = sent.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["claimedAt", "eventId", "expiresAt", "messageId", "owner", "sentAt", "state"]));
    assert_eq!((&sent["state"], &sent["messageId"], &sent["owner"]), (&text("sent"), &text("m-2"), &text("node-2")));
    assert!(sent["expiresAt"].as_n().is_ok());
    let claimed_at = sent["claimedAt"].as_s().ok().context("claimedAt is text")?;
    assert!(claimed_at.len() == "2020-07-01T12:00:00.123Z".len() && claimed_at.ends_with('Z'), "{claimed_at}");
    Ok(())
}

#[tokio::test]
async fn texts_go_to_the_number_itself() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let to = PhoneNumber::parse("+12025550187")?;
    let (one, two) = (unique("text"), unique("text"));
    let ids = alert_sender_contract(Arc::new(SnsAlertSender::new(&cloud.sns, LIMITS)), &to, [&one, &two]).await;
    let url = cloud.endpoints.sms_messages_url.clone();
    let messages = tokio::task::spawn_blocking(move || ureq::get(url).call()?.body_mut().read_to_string()).await??;
    for expected in [&one, &two, &ids[0], &ids[1]] {
        assert!(messages.contains(expected.as_str()), "{expected} was sent");
    }
    Ok(())
}

#[tokio::test]
async fn the_archive_keeps_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let (bucket, name) = cloud.delivery_stream().await?;
    let expected = archive_contract(Arc::new(FirehoseArchive::new(&cloud.firehose, &name, LIMITS))).await;
    let expected: BTreeSet<&[u8]> = expected.iter().map(|line| line.strip_suffix(b"\n").expect("lines end")).collect();
    let started = Instant::now();
    loop {
        let found = cloud.objects(&bucket).await?;
        let lines: BTreeSet<&[u8]> = found.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        if lines == expected {
            return Ok(());
        }
        ensure!(started.elapsed() < Duration::from_secs(90), "{} of {} lines arrived", lines.len(), expected.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn dead_letters_keep_the_contract() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let table = cloud.table(&["letterId"]).await?;
    let bucket = unique("letters");
    cloud.s3.create_bucket().bucket(&bucket).send().await?;
    let letters = Arc::new(DynamoDeadLetters::new(&cloud.dynamodb, &cloud.s3, &table, &bucket, LIMITS));
    let expected = dead_letters_contract(letters).await;
    let items = cloud.items(&table).await?;
    assert_eq!(items.len(), expected.len());
    for (letter, tries) in expected {
        let item = items.iter().find(|item| item["letterId"] == text(&letter.id())).context("the letter is there")?;
        assert_eq!(item["tries"], AttributeValue::N(tries.to_string()));
        assert_eq!(
            (&item["state"], &item["stage"], &item["source"]),
            (&text("open"), &text(letter.stage), &text(&letter.source()))
        );
        assert_eq!(item["payloadBytes"], AttributeValue::N(letter.payload.len().to_string()));
        let kept = &letter.payload[..letter.payload.len().min(65_536)];
        assert_eq!(item["payload"].as_b().map(AsRef::as_ref), Ok(kept));
        assert!(item.contains_key("firstSeen") && item.contains_key("lastSeen"));
        let object = letter.payload.len() > 65_536;
        assert_eq!(item.contains_key("payloadObject"), object);
        if object {
            let key = format!("dead-letters/{}", letter.id());
            assert_eq!(item["payloadObject"], text(&key));
            let body = cloud.s3.get_object().bucket(&bucket).key(key).send().await?.body.collect().await?;
            assert_eq!(body.into_bytes(), letter.payload);
        }
    }
    Ok(())
}

fn warehouse() -> WarehouseOptions {
    WarehouseOptions {
        application_name: "adapter tests".to_owned(),
        max_connections: 2,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
        ca_file: None,
    }
}

#[tokio::test]
async fn drivers_keep_the_contract_whatever_the_rows_look_like() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let pool = warehouse_pool(&cloud.endpoints.warehouse_url, &warehouse())?;
    let client = pool.get().await?;
    client.batch_execute(include_str!("../../data/schema/warehouse.sql")).await?;
    let limit: String = client.query_one("SHOW statement_timeout", &[]).await?.get(0);
    assert_eq!(limit, "5s");
    let (plain, dirty, odd) = (unique("AD-1"), unique("ad-2"), unique("95B•140"));
    let insert = "INSERT INTO public.rtr_iot_driver_data (first_name, last_name, licenseplate, myphone, _load_id, _loaded_at) \
                  VALUES ($1, 'Example', $2, '2025550123', 'adapter-tests', $3::varchar::timestamp)";
    for (first_name, plate, loaded_at) in [
        ("Newest", format!(" \t{dirty}\r\n"), Some("2026-01-03 00:00:00")),
        ("Unknown", dirty.clone(), None),
        ("Older", dirty.clone(), Some("2026-01-02 00:00:00")),
        ("Ada", plain.clone(), Some("2026-01-01 00:00:00")),
        ("Grace", odd.clone(), Some("2026-01-01 00:00:00")),
    ] {
        client.execute(insert, &[&first_name, &plate, &loaded_at]).await?;
    }
    let known = [(PlateKey::of(&plain), "Ada"), (PlateKey::of(&dirty), "Newest"), (PlateKey::of(&odd), "Grace")];
    driver_directory_contract(Arc::new(RedshiftDriverDirectory::new(pool.clone(), LIMITS)), &known).await;
    client.execute("DELETE FROM public.rtr_iot_driver_data WHERE _load_id = 'adapter-tests'", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_warehouse_password_is_refused_and_not_shown() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let url = &cloud.endpoints.warehouse_url;
    let (user, host) = url.split_once('@').context("the URL names a user")?;
    let (user, _) = user.rsplit_once(':').context("the URL has a password")?;
    let pool = warehouse_pool(&format!("{user}:Wr0ngSecret@{host}"), &warehouse())?;
    let failure = RedshiftDriverDirectory::new(pool, LIMITS).drivers(&[PlateKey::of("A")]).await.expect_err("it is refused");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.detail.contains("password authentication failed"), "{failure}");
    assert!(!format!("{failure} {failure:?}").contains("Wr0ngSecret"));
    Ok(())
}

const SHORT: CallLimits = CallLimits {
    timeout: Duration::from_millis(500),
    budget: RetryBudget {
        backoff: Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100) },
        most_elapsed: Duration::from_secs(1),
    },
    calls: Calls::unwatched(),
};

/// Every adapter against an address that does not answer.
async fn assert_all_fail(cloud: &Cloud, kind: FailureKind) {
    let started = Instant::now();
    let event = sample_event("P", "event", 80);
    let to = PhoneNumber::parse("+12025550187").expect("a number");
    let store = DynamoViolationStore::new(&cloud.dynamodb, "table", SHORT);
    let source = KinesisSource::new(&cloud.kinesis, "stream", SHORT);
    let archive = FirehoseArchive::new(&cloud.firehose, "delivery", SHORT);
    let leases = DynamoLeaseTable::new(&cloud.dynamodb, "leases", SHORT);
    let sender = SnsAlertSender::new(&cloud.sns, SHORT);
    let lines = [Bytes::from_static(b"{}\n")];
    let events = [&event];
    let (put, shards, append, list, send) =
        tokio::join!(store.put(&events), source.shards(), archive.append(&lines), leases.list(), sender.send(&to, "text"));
    assert_eq!(put.expect_err("no answer").kind, kind);
    assert_eq!(append.expect_err("no answer").kind, kind);
    assert!(matches!(shards, Err(speedtrap_actors::ports::SourceError::Remote(failure)) if failure.kind == kind));
    assert!(matches!(list, Err(LeaseError::Remote(failure)) if failure.kind == kind));
    match (kind, send.expect_err("no answer")) {
        (FailureKind::Unreachable, SendError::NotSent(_)) | (FailureKind::TimedOut, SendError::Unknown(_)) => {}
        (_, other) => panic!("{other:?} for {kind}"),
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dead_address_fails_in_time_and_nothing_counts_as_sent() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    drop(listener);
    assert_all_fail(&Cloud::at(&address, cloud.endpoints), FailureKind::Unreachable).await;
    Ok(())
}

#[tokio::test]
async fn a_silent_address_fails_in_time_and_texts_may_have_been_sent() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    // Connections are accepted by the system and never answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    assert_all_fail(&Cloud::at(&format!("http://{address}"), cloud.endpoints), FailureKind::TimedOut).await;
    let options = WarehouseOptions { connect_timeout: Duration::from_millis(500), ..warehouse() };
    let pool = warehouse_pool(&format!("postgresql://user:secret@{address}/dev"), &options)?;
    let failure = RedshiftDriverDirectory::new(pool, SHORT).drivers(&[PlateKey::of("A")]).await.expect_err("no answer");
    assert_eq!(failure.kind, FailureKind::TimedOut);
    Ok(())
}

#[tokio::test]
async fn what_does_not_exist_is_refused_by_name() -> Result<()> {
    let cloud = Cloud::from_runner()?;
    let store = DynamoViolationStore::new(&cloud.dynamodb, "no-such-table", LIMITS);
    let failure = store.put(&[&sample_event("P", "event", 80)]).await.expect_err("there is no such table");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.detail.contains("no-such-table"), "{failure}");
    let archive = FirehoseArchive::new(&cloud.firehose, "no-such-delivery", LIMITS);
    let failure = archive.append(&[Bytes::from_static(b"{}\n")]).await.expect_err("there is no such stream");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.detail.contains("no-such-delivery"), "{failure}");
    Ok(())
}
