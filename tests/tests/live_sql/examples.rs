//! The examples of the README against what plain clients count, over readings of every kind; and what is masked, refused and written.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use serde_json::{Value, json};
use speedtrap_actors::testing::aggregated_record;
use speedtrap_tests::commands::run;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::drivers_file::DriversFile;
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, ERROR_STREAM, IN_STREAM};

use super::seen::Seen;
use super::{LIMIT, asked, audit_file, reading, rows, sql};

const DRIVERS: usize = 40;
const READINGS: usize = 2_000;
const BAD: usize = 7;
pub(super) const UNDELIVERED: usize = 5;

/// Readings of known and unknown plates, records that are no readings, and what the rule could not deliver.
async fn fill(sandbox: &Sandbox) -> Result<()> {
    let reading = |n: usize| {
        // Every eleventh plate is nobody's.
        let plate = if n.is_multiple_of(11) { format!("NOBODY-{}", n % 5) } else { format!("SQL-{}", n % DRIVERS) };
        reading(&format!("sql-{n}"), &plate, n, 50 + n * 7 % 60)
    };
    let mut records: Vec<_> = (0..READINGS).map(reading).collect();
    records.extend((0..BAD).map(|n| (format!("bad-{n}"), format!("{{\"speed\":\"{n}\"}}").into_bytes())));
    records.push(("a producer's own key".to_owned(), aggregated_record().0));
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await?;
    let undelivered = |n: usize| {
        let payload = base64::engine::general_purpose::STANDARD.encode(format!("no reading {n}"));
        let failures = [json!({"failedAction": "KinesisAction", "errorMessage": if n == 0 { "no plate" } else { "too long" }})];
        let record = json!({"ruleName": "rtr_iot_trafficdata", "base64OriginalPayload": payload, "failures": failures});
        (format!("error-{n}"), record.to_string().into_bytes())
    };
    streams::put(&sandbox.clients.kinesis, ERROR_STREAM, &(0..UNDELIVERED).map(undelivered).collect::<Vec<_>>()).await
}

/// The statements of the README, by the comment before each.
fn examples() -> Result<BTreeMap<String, String>> {
    let readme = std::fs::read_to_string(programs::workspace().join("README.md"))?;
    let mut examples = BTreeMap::new();
    for block in readme.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for statement in block.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let (title, text) = statement.split_once('\n').context("a title and a statement")?;
            let title = title.strip_prefix("-- ").with_context(|| format!("`{title}` is no title"))?;
            ensure!(examples.insert(title.to_owned(), text.to_owned()).is_none(), "{title} stands there twice");
        }
    }
    Ok(examples)
}

fn sorted(mut rows: Vec<Value>) -> Vec<String> {
    rows.sort_by_key(ToString::to_string);
    rows.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_readme_tell_what_plain_clients_count() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let drivers = DriversFile::write(sandbox.folder(), "SQL", DRIVERS)?;
    sandbox.load(&drivers.path).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    fill(&sandbox).await?;
    eventually("everything is archived", LIMIT, || async {
        let status = node.status().await?;
        let found = sandbox.evidence().await?;
        ensure!(status.is_idle() && found.letters.len() == BAD + UNDELIVERED, "{} letters", found.letters.len());
        ensure!(!found.stored.is_empty() && found.archived.len() == found.stored.len(), "{} lines", found.archived.len());
        Ok(())
    })
    .await?;
    let seen = Seen::look(&sandbox).await?;
    let examples = examples()?;
    ensure!(examples.len() >= 7, "the README has only {} examples: {examples:#?}", examples.len());
    for (title, statement) in &examples {
        let (found, expected) = (rows(&sandbox, &[statement]).await?, seen.expected(title)?);
        ensure!(
            !expected.is_empty() && sorted(found.clone()) == sorted(expected.clone()),
            "{title}: {found:#?}, not {expected:#?}"
        );
    }
    say("live_sql", &format!("{} examples of the README tell what plain clients count", examples.len()));
    persons_are_masked(&sandbox).await?;
    nothing_but_reading_is_done(&sandbox).await?;
    outputs_hold_the_same(&sandbox, &seen).await?;
    node.stop().await?;
    sandbox.end().await
}

async fn persons_are_masked(sandbox: &Sandbox) -> Result<()> {
    for statement in ["SELECT * FROM violations", "SELECT * FROM drivers", "SELECT * FROM readings", "SELECT * FROM errors"] {
        let ended = asked(sandbox, &["--csv", statement]).await?;
        ensure!(ended.code == Some(0) && ended.out.lines().count() > UNDELIVERED, "{ended:?}");
        for secret in ["5155550100", "SQL-1", "Name1", "a@example.com", "Mill Row", "no reading"] {
            ensure!(!ended.out.contains(secret), "{statement} shows {secret}");
        }
    }
    ensure!(!audit_file(sandbox).exists(), "nobody was shown");
    // No expression gets behind the mask, and a known plate can be asked for all the same.
    let statement = "SELECT count(*) AS n FROM drivers WHERE first_name = 'Name1' OR license_plate = 'SQL-1'";
    ensure!(rows(sandbox, &[statement]).await? == [json!({"n": 0})], "a masked value can be asked for");
    let statement = "SELECT count(*) AS n FROM drivers WHERE plate_id = plate_id(' sql-1')";
    ensure!(rows(sandbox, &[statement]).await? == [json!({"n": 1})], "a plate has one stand-in");

    let statement = "SELECT first_name, myphone, license_plate FROM drivers WHERE license_plate = 'SQL-1'";
    let shown = rows(sandbox, &["--reveal", "--reason", "case 17", statement]).await?;
    ensure!(shown == [json!({"first_name": "Name1", "myphone": "5155550100", "license_plate": "SQL-1"})], "{shown:?}");
    let audit = std::fs::read_to_string(audit_file(sandbox))?;
    let lines: Vec<Value> = audit.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let phases: Vec<_> = lines.iter().map(|line| (line["phase"].as_str(), line["action"].as_str())).collect();
    ensure!(phases == [(Some("intent"), Some("reveal")), (Some("done"), Some("reveal"))], "{audit}");
    ensure!(lines[0]["reason"] == "case 17" && !audit.contains("SQL-1") && audit.contains("FROM drivers"), "{audit}");

    let mut command = sql(sandbox, &["--reveal", "--reason", "case 18", statement])?;
    command.env("SPEEDTRAP_DASHBOARD__AUDIT_FILE", "/proc/no/such/file");
    let ended = run(command).await?;
    ensure!(ended.code == Some(5) && ended.out.is_empty() && ended.err.contains("nothing was shown"), "{ended:?}");
    Ok(())
}

async fn nothing_but_reading_is_done(sandbox: &Sandbox) -> Result<()> {
    for statement in
        ["INSERT INTO readings (city) VALUES ('x')", "DROP TABLE readings", "SELECT nothing FROM readings", "SET x = 1"]
    {
        let ended = asked(sandbox, &[statement]).await?;
        ensure!(ended.code == Some(2) && ended.out.is_empty(), "{statement}: {ended:?}");
        ensure!(ended.err.contains("why:") && ended.err.contains("next:"), "{ended:?}");
    }
    for arguments in [&["--every", "5s", "SELECT * FROM drivers"][..], &["--reveal", "SELECT 1"], &["--windows", "1", "SELECT 1"]]
    {
        ensure!(asked(sandbox, arguments).await?.code == Some(2), "{arguments:?}");
    }
    let mut command = sql(sandbox, &["SELECT count(*) FROM readings"])?;
    command.env("SPEEDTRAP_KINESIS__IN_STREAM", "no-such-stream");
    let ended = run(command).await?;
    ensure!(ended.code == Some(4) && ended.err.contains("no-such-stream"), "{ended:?}");
    let mut command = sql(sandbox, &["SELECT count(*) FROM readings"])?;
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let ended = run(command).await?;
    ensure!(ended.code == Some(69) && ended.err.contains("127.0.0.1:9"), "{ended:?}");
    let mut command = sql(sandbox, &["SELECT count(*) FROM readings"])?;
    command.env("SPEEDTRAP_KINESIS__IN_STREAM", "no stream's name");
    ensure!(run(command).await?.code == Some(78), "a bad configuration");
    Ok(())
}

async fn outputs_hold_the_same(sandbox: &Sandbox, seen: &Seen) -> Result<()> {
    let file = sandbox.folder().join("q.sql");
    std::fs::write(&file, "SELECT count(*) AS records, count(problem) AS bad\nFROM readings")?;
    let file = file.to_str().context("a name in UTF-8")?;
    let (records, bad) = (seen.readings.len(), BAD);
    ensure!(rows(sandbox, &["--file", file]).await? == [json!({"records": records, "bad": bad})]);
    let ended = asked(sandbox, &["--csv", "--file", file]).await?;
    ensure!(ended.out == format!("records,bad\n{records},{bad}\n"), "{ended:?}");
    ensure!(ended.err.contains("nothing limits `arrived`") && ended.err.contains(&format!("{bad} records are not")), "{ended:?}");
    let ended = asked(sandbox, &["--file", file]).await?;
    ensure!(
        ended.out.split_whitespace().collect::<Vec<_>>() == ["records", "bad", &records.to_string(), &bad.to_string()],
        "{ended:?}"
    );
    let shown = asked(sandbox, &["SHOW TABLES"]).await?;
    let listed = asked(sandbox, &["--tables"]).await?;
    for table in ["readings", "violations", "errors", "speeding", "archive", "drivers"] {
        ensure!(shown.out.contains(table) && listed.out.contains(&format!("{table}: ")), "{table}: {shown:?} {listed:?}");
    }
    // What is limited to the future is not there, and what is limited to the past ends there.
    let limited = "SELECT count(*) AS n FROM readings WHERE arrived > now() + interval '1 minute'";
    ensure!(rows(sandbox, &[limited]).await? == [json!({"n": 0})]);
    Ok(())
}
