//! `speedtrap doctor` finds each planted fault, one at a time, and nothing where all is well; and it changes nothing.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;
use speedtrap_tests::certificates::certificates;
use speedtrap_tests::clinic::{Clinic, user};
use speedtrap_tests::commands;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::ports_cloud::{Cloud, unique};
use speedtrap_tests::streams::all_records;
use tokio::process::Command;

/// What a local cloud cannot tell: it knows no sandbox, no spend limit and no limit of shards, and nobody tells the rate of texts.
const NOT_KNOWN_HERE: [&str; 4] = ["quota.sms_sandbox", "quota.sms_spend", "quota.sms_rate", "quota.shards"];
const TOTAL: Duration = Duration::from_secs(15);

#[tokio::test]
async fn nothing_is_found_where_all_is_well() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let visit = clinic.visit().await?;
    assert_eq!(visit.ids("fail"), [""; 0], "{visit:?}");
    assert_eq!(visit.ids("warn"), [""; 0], "{visit:?}");
    assert_eq!(visit.ids("skip"), NOT_KNOWN_HERE, "{visit:?}");
    assert_eq!((visit.ended.code, &visit.report["healthy"]), (Some(0), &json!(true)));
    let shown = commands::run(clinic.command()?).await?;
    for part in ["\npermissions\n", "\nwarehouse\n", "aws.identity", "arn:aws:", " 0 warn, 0 fail, 4 skip in "] {
        ensure!(shown.out.contains(part), "`{part}` is not in\n{}", shown.out);
    }
    ensure!(!shown.out.contains("next:") && shown.code == Some(0), "{}", shown.out);
    Ok(())
}

#[tokio::test]
async fn looking_changes_nothing() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    clinic.visit().await?;
    for stream in ["kinesis.in_stream", "kinesis.out_stream", "kinesis.error_stream"] {
        assert_eq!(all_records(&clinic.cloud.kinesis, clinic.name(stream)?).await?.len(), 0, "{stream}");
    }
    for table in ["speeding_table", "alerts_table", "dead_letters_table", "enrich_leases"] {
        assert_eq!(clinic.cloud.items(clinic.name(&format!("dynamodb.{table}"))?).await?.len(), 0, "{table}");
    }
    for table in ["nodes_table", "notify_leases", "archive_leases", "errors_leases"] {
        let name = clinic.name(&format!("dynamodb.{table}"))?;
        let described = clinic.cloud.dynamodb.describe_table().table_name(name).send().await;
        ensure!(described.is_err(), "{table} was made");
    }
    let objects = clinic.cloud.s3.list_objects_v2().bucket(clinic.name("archive.bucket")?).send().await?;
    assert_eq!(objects.contents().len(), 0);
    let texts: serde_json::Value = get_json(format!("{}?phoneNumber=%2B0", clinic.endpoints.sms_messages_url)).await?;
    ensure!(!texts.to_string().contains("MessageId"), "{texts}");
    ensure!(!clinic.path("audit.ndjson").exists(), "an audit log was begun");
    Ok(())
}

#[tokio::test]
async fn the_permissions_of_the_template_are_enough_for_every_role() -> Result<()> {
    let clinic = Clinic::of_template(Cloud::from_runner()?)?.with("ingest.broker", "127.0.0.1:1883");
    let policies = ["NodePolicy", "EnrichPolicy", "NotifyPolicy", "ArchivePolicy", "ErrorsPolicy", "IngestPolicy"];
    // A shard iterator belongs to a stream, and so do the calls of a table's stream; the local cloud takes them for calls on nothing.
    let more = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Resource": "*",
        "Action": ["kinesis:GetRecords", "dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"],
    }]});
    let (id, secret) = user(&clinic.endpoints, &more, &policies).await?;
    let visit = clinic.visit_with(|command| as_user(command, &id, &secret)).await?;
    assert_eq!(visit.ids("fail"), [""; 0], "{visit:?}");
    let permissions = visit.ids("ok").into_iter().filter(|id| id.starts_with("permission.")).count();
    ensure!(permissions >= 20, "{visit:?}");
    Ok(())
}

#[tokio::test]
async fn a_denied_permission_is_named_with_its_statement() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    for (action, id, advice) in [
        ("kinesis:GetShardIterator", "permission.errors.read", "ErrorsPolicy, ReadErrorStream"),
        ("sns:Publish", "permission.notify.texts", "allow sns:Publish on phone numbers (NotifyPolicy, Texts"),
        ("dynamodb:BatchWriteItem", "permission.enrich.store", "EnrichPolicy, StoreViolations"),
        ("firehose:PutRecordBatch", "permission.archive.write", "ArchivePolicy, Deliver"),
        ("kinesis:PutRecords", "permission.enrich.write", "EnrichPolicy, WriteOutStream"),
        ("s3:PutObject", "permission.node.payloads", "NodePolicy, DeadLetterPayloads"),
    ] {
        let resource = match action {
            "kinesis:GetShardIterator" => format!("arn:aws:kinesis:*:*:stream/{}", clinic.name("kinesis.error_stream")?),
            _ => "*".to_owned(),
        };
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": action, "Resource": resource},
        ]});
        let (user_id, secret) = user(&clinic.endpoints, &policy, &[]).await?;
        let visit = clinic.visit_with(|command| as_user(command, &user_id, &secret)).await?;
        visit.found("fail", id, &format!("no permission for {action}"), advice).with_context(|| action.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_missing_is_named() -> Result<()> {
    let missing = unique("no-such-stream");
    let clinic = Clinic::healthy().await?.with("kinesis.out_stream", &missing);
    clinic.visit().await?.found("fail", "stream.out", &format!("no stream `{missing}`"), "deploy/aws/speedtrap.yaml")
}

#[tokio::test]
async fn a_table_with_other_keys_is_found_before_it_makes_dead_letters() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let wrong = clinic.cloud.table(&["eventId", "licensePlate"]).await?;
    let visit = clinic.with("dynamodb.speeding_table", &wrong).visit().await?;
    visit.found(
        "fail",
        "table.speeding",
        "keyed by eventId S and licensePlate S, not by licensePlate S and eventId S",
        "make it anew",
    )
}

#[tokio::test]
async fn a_speeding_table_without_new_images_is_found() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let name = clinic.name("dynamodb.speeding_table")?.to_owned();
    let off = aws_sdk_dynamodb::types::StreamSpecification::builder().stream_enabled(false).build()?;
    clinic.cloud.dynamodb.update_table().table_name(&name).stream_specification(off).send().await?;
    let visit = clinic.visit().await?;
    visit.found("fail", "table.speeding.stream", "has no stream, so nothing can be archived", "StreamViewType=NEW_IMAGE")
}

#[tokio::test]
async fn claims_that_are_kept_for_ever_are_a_warning() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let endless = clinic.cloud.table(&["eventId"]).await?;
    let visit = clinic.with("dynamodb.alerts_table", &endless).visit().await?;
    visit.found("warn", "table.alerts.ttl", "kept for ever", "aws dynamodb update-time-to-live")
}

#[tokio::test]
async fn a_lease_table_of_kcl_3_is_refused() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let leases = clinic.cloud.table(&["leaseKey"]).await?;
    clinic.cloud.table_named(&format!("{leases}-CoordinatorState"), &["key"]).await?;
    let visit = clinic.with("dynamodb.archive_leases", &leases).visit().await?;
    visit.found("fail", "leases.archive", "KCL 3.x", "take the application back to KCL 2.x")
}

#[tokio::test]
async fn a_warehouse_that_does_not_answer_is_found() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let visit = clinic
        .visit_with(|command| {
            command.env("SPEEDTRAP_WAREHOUSE__URL", "postgresql://u:hunter2@127.0.0.1:1/dev");
        })
        .await?;
    ensure!(!visit.ended.out.contains("hunter2") && !visit.ended.err.contains("hunter2"), "{visit:?}");
    visit.found("fail", "warehouse.reach", "no answer", "check host and port")
}

#[tokio::test]
async fn a_warehouse_without_the_table_of_drivers_is_found() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    // Another database of the same server.
    let (server, _database) = clinic.endpoints.warehouse_url.rsplit_once('/').context("a URL has a path")?;
    let url = format!("{server}/postgres");
    let visit = clinic
        .visit_with(|command| {
            command.env("SPEEDTRAP_WAREHOUSE__URL", url);
        })
        .await?;
    visit.found("fail", "warehouse.drivers", "no table public.rtr_iot_driver_data", "data/schema/warehouse.sql")
}

#[tokio::test]
async fn a_secret_that_everybody_may_read_is_found() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let cookie = clinic.path("cookie");
    fs::write(&cookie, "a secret of the cluster's nodes")?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o644))?;
    let visit = clinic.with("cluster.cookie_file", text(&cookie)?).visit().await?;
    visit.found("fail", "file.cluster.cookie_file", "open to everybody on this machine (mode 644)", "chmod 600")
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_found() -> Result<()> {
    let mut clinic = Clinic::healthy().await?;
    for (setting, file) in certificates(clinic.folder.path())? {
        let key = setting.trim_start_matches("SPEEDTRAP_CLUSTER__").to_lowercase();
        clinic = clinic.with(&format!("cluster.{key}"), text(&file)?);
    }
    assert_eq!(clinic.visit().await?.ids("fail"), [""; 0]);
    // An authority of long ago beside the one of today: the file is as old as its oldest.
    let mut old = CertificateParams::new(vec!["old".to_owned()])?;
    old.not_after = date_time_ymd(2021, 6, 1);
    let old = old.self_signed(&KeyPair::generate()?)?.pem();
    let authority = PathBuf::from(clinic.name("cluster.tls_ca")?);
    fs::write(&authority, fs::read_to_string(&authority)? + old.as_str())?;
    clinic.visit().await?.found("fail", "certificate.cluster.tls_ca", "ended at 2021-06-01T00:00:00Z", "have a new one signed")
}

#[tokio::test]
async fn a_clock_that_is_an_hour_ahead_is_found() -> Result<()> {
    let clinic = Clinic::healthy().await?;
    let (source, shim) = (clinic.path("wrong_clock.c"), clinic.path("wrong_clock.so"));
    fs::write(&source, include_str!("../src/wrong_clock.c"))?;
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).status().await;
    ensure!(built.context("there is no C compiler")?.success(), "the shifted clock was not built");
    let visit = clinic
        .visit_with(|command| {
            command.env("LD_PRELOAD", &shim);
        })
        .await?;
    // What else fails is that calls with such a time are refused; the clock is what has to be named.
    let (seen, next) = visit.line("aws.clock")?;
    ensure!(visit.ids("fail").contains(&"aws.clock"), "{visit:?}");
    ensure!(seen.contains("ahead of the clock of AWS") && seen.starts_with("36") || seen.starts_with("35"), "{seen}");
    ensure!(next.contains("let the machine keep time"), "{next}");
    Ok(())
}

#[tokio::test]
async fn a_port_that_another_program_has_is_found() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let clinic = Clinic::healthy().await?.with("dashboard.listen", &taken.local_addr()?.to_string());
    let visit = clinic.visit().await?;
    visit.found("fail", "port.dashboard", "in use by another program", "set dashboard.listen to another port")
}

#[tokio::test]
async fn where_nobody_answers_it_ends_in_time_and_says_so() -> Result<()> {
    // Whoever connects waits for ever, since nobody takes the connection.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let clinic = Clinic::healthy().await?;
    for (address, code) in [(silent.local_addr()?.to_string(), 69), ("127.0.0.1:1".to_owned(), 69)] {
        let begun = Instant::now();
        let visit = clinic
            .visit_with(|command| {
                command.env("AWS_ENDPOINT_URL", format!("http://{address}"));
                command.env("SPEEDTRAP_WAREHOUSE__URL", format!("postgresql://u:p@{address}/dev"));
            })
            .await?;
        ensure!(begun.elapsed() < TOTAL, "{:?}", begun.elapsed());
        assert_eq!(visit.ended.code, Some(code), "{visit:?}");
        let (seen, next) = visit.line("stream.in")?;
        ensure!(seen.contains("no answer") && next.contains("AWS_ENDPOINT_URL"), "{seen} {next}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_configuration_is_told_and_nothing_is_looked_at() -> Result<()> {
    let clinic = Clinic::healthy().await?.with("lane.no_such_key", "1");
    let ended = commands::run(clinic.command()?).await?;
    ensure!(ended.code == Some(78) && ended.out.is_empty() && ended.err.contains("no_such_key"), "{ended:?}");
    Ok(())
}

fn as_user(command: &mut Command, id: &str, secret: &str) {
    command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder has a name that is no UTF-8")
}
