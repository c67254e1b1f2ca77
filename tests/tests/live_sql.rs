//! `speedtrap-sql` over the live streams, while nodes consume them: the examples of the README tell what plain clients count, persons
//! are masked, nothing is written, and a long query in windows needs little memory and holds no lane up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};
use aws_sdk_kinesis::types::Record;
use base64::Engine as _;
use serde_json::{Value, json};
use speedtrap_actors::testing::aggregated_record;
use speedtrap_tests::commands::{Ended, run};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::drivers_file::DriversFile;
use speedtrap_tests::evidence::{Evidence, SPEEDING_TABLE, items};
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, ERROR_STREAM, IN_STREAM, OUT_STREAM};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(120);
const DRIVERS: usize = 40;
const READINGS: usize = 2_000;
const BAD: usize = 7;
const UNDELIVERED: usize = 5;
/// Records of the query in windows; more may be asked for by the environment.
const RECORDS: usize = 40_000;
const WINDOW: Duration = Duration::from_secs(1);
/// Readings that go on coming while lags are measured, in each half of a second.
const FLOW: usize = 50;
/// The engine's own bound is 256 MiB; the rest is code, most of it of a debug build, and the pages that are read.
const MOST_RSS_KIB: u64 = 400 * 1024;
/// How much further a lane may be behind for a moment, on a machine that does other things, too.
const LAG_MARGIN_MS: u64 = 5_000;

fn sql(sandbox: &Sandbox, arguments: &[&str]) -> Result<Command> {
    let mut command = programs::command("speedtrap-sql")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.env("SPEEDTRAP_WAREHOUSE__URL", &sandbox.endpoints.warehouse_url);
    command.env("SPEEDTRAP_DASHBOARD__AUDIT_FILE", audit_file(sandbox));
    command.args(arguments);
    Ok(command)
}

fn audit_file(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.folder().join("audit-sql.ndjson")
}

async fn asked(sandbox: &Sandbox, arguments: &[&str]) -> Result<Ended> {
    run(sql(sandbox, arguments)?).await
}

/// The rows of a statement.
async fn rows(sandbox: &Sandbox, arguments: &[&str]) -> Result<Vec<Value>> {
    let ended = asked(sandbox, &[&["--json"], arguments].concat()).await?;
    ensure!(ended.code == Some(0), "{arguments:?}: {ended:?}");
    let rows: Value = serde_json::from_str(&ended.out).with_context(|| format!("no JSON: {ended:?}"))?;
    rows.as_array().cloned().context("an array")
}

fn reading(id: &str, plate: &str, city: usize, speed: usize) -> (String, Vec<u8>) {
    let cities = [("Ames", "Iowa"), ("Boone", "Iowa"), ("Foxgallow", "Ohio"), ("Pebblestow", "Utah"), ("Mill, \"Old\"", "Ohio")];
    let (city, state) = cities[city % cities.len()];
    let reading = json!({"iottimestamp": "2026-01-01 00:00:00.5", "licensePlate": plate, "longitude": "-93.6", "latitude": "41.6",
        "city": city, "state": state, "speed": speed.to_string(), "eventId": id});
    (plate.to_owned(), reading.to_string().into_bytes())
}

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

/// What plain clients see.
struct Seen {
    /// What is on the in-stream; `None` for what is no reading.
    readings: Vec<Option<Value>>,
    violations: Vec<Value>,
    errors: usize,
    evidence: Evidence,
    /// Plates and event ids of the table.
    stored: Vec<(String, String)>,
    /// The state of each driver, by plate.
    drivers: BTreeMap<String, String>,
    shard_of: BTreeMap<String, usize>,
    bad_of: BTreeMap<String, usize>,
}

impl Seen {
    async fn look(sandbox: &Sandbox) -> Result<Self> {
        let kinesis = &sandbox.clients.kinesis;
        let (mut shard_of, mut bad_of, mut readings) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (shard, records) in streams::records_by_shard(kinesis, IN_STREAM).await? {
            let events: Vec<_> = records.iter().flat_map(events).collect();
            shard_of.insert(shard.clone(), events.len());
            bad_of.insert(shard, events.iter().filter(|event| event.is_none()).count());
            readings.extend(events);
        }
        let violations = streams::all_records(kinesis, OUT_STREAM).await?;
        let violations =
            violations.iter().map(|record| Ok(serde_json::from_slice(record.data.as_ref())?)).collect::<Result<_>>()?;
        let text = |item: &std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>, name: &str| {
            item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
        };
        let stored = items(&sandbox.clients.dynamodb, SPEEDING_TABLE).await?;
        let (client, connection) = tokio_postgres::connect(&sandbox.endpoints.warehouse_url, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let drivers = client.query("SELECT licenseplate, state FROM public.rtr_iot_driver_data", &[]).await?;
        let drivers = drivers.iter().map(|row| (row.get(0), row.get(1))).collect();
        drop(client);
        connection.await??;
        Ok(Self {
            readings,
            violations,
            errors: streams::all_records(kinesis, ERROR_STREAM).await?.len(),
            evidence: sandbox.evidence().await?,
            stored: stored.iter().map(|item| (text(item, "licensePlate"), text(item, "eventId"))).collect(),
            drivers,
            shard_of,
            bad_of,
        })
    }

    /// What an example must tell.
    fn expected(&self, title: &str) -> Result<Vec<Value>> {
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Ok(match title {
            "where people speed, over the last quarter of an hour" => {
                let mut cities = BTreeMap::<String, (u64, u64)>::new();
                for violation in &self.violations {
                    let (count, fastest) = cities.entry(text(violation, "city")).or_default();
                    *count += 1;
                    *fastest = (*fastest).max(violation["speed"].as_u64().unwrap_or_default());
                }
                cities
                    .into_iter()
                    .map(|(city, (n, max))| json!({"city": city, "count(*)": n, "max(violations.speed)": max}))
                    .collect()
            }
            "what each shard got, and how much of it is no reading" => {
                let row = |(shard, n): (&String, &usize)| json!({"shard": shard, "records": n, "bad": self.bad_of[shard]});
                self.shard_of.iter().map(row).collect()
            }
            "the share of violations by state" => {
                let mut states = BTreeMap::<String, (u64, u64)>::new();
                for event in self.readings.iter().flatten() {
                    let (all, above) = states.entry(text(event, "state")).or_default();
                    *all += 1;
                    *above += u64::from(text(event, "speed").parse::<u64>()? > 75);
                }
                states.into_iter().map(|(state, (all, above))| json!({"state": state, "readings": all, "above": above})).collect()
            }
            "how many drivers were caught how often, with no plate shown" => {
                let mut plates = BTreeMap::<String, BTreeSet<String>>::new();
                for violation in &self.violations {
                    plates.entry(text(violation, "licensePlate")).or_default().insert(text(violation, "eventId"));
                }
                let mut times = BTreeMap::<usize, u64>::new();
                plates.values().for_each(|events| *times.entry(events.len()).or_default() += 1);
                times.into_iter().map(|(times, plates)| json!({"times": times, "plates": plates})).collect()
            }
            "why the rule could not deliver" => {
                let reason = |why: &str| format!("IoT rule rtr_iot_trafficdata failed: KinesisAction: {why}");
                ensure!(self.errors == UNDELIVERED, "{} records are on the error stream", self.errors);
                vec![
                    json!({"reason": reason("no plate"), "messages": 1}),
                    json!({"reason": reason("too long"), "messages": UNDELIVERED - 1}),
                ]
            }
            "violations by the state where the car is registered" => {
                let mut states = BTreeMap::<&str, u64>::new();
                for (plate, _) in &self.stored {
                    if let Some(state) = self.drivers.get(plate) {
                        *states.entry(state).or_default() += 1;
                    }
                }
                states.into_iter().map(|(state, n)| json!({"state": state, "violations": n})).collect()
            }
            "texted, but not in the archive yet" => {
                let published = self.evidence.published.keys();
                let missing = published.filter(|id| !self.evidence.archived.contains_key(*id)).count();
                vec![json!({"missing": missing})]
            }
            other => bail!("nobody counts what the README's `{other}` must tell"),
        })
    }
}

/// What stands in a record: one reading, several, or something else.
fn events(record: &Record) -> Vec<Option<Value>> {
    let (aggregated, inside) = aggregated_record();
    let event = |data: &[u8]| {
        let value: Value = serde_json::from_slice(data).ok()?;
        value["licensePlate"].is_string().then_some(value)
    };
    if record.data.as_ref() == aggregated {
        return inside.iter().map(|reading| event(reading.as_bytes())).collect();
    }
    vec![event(record.data.as_ref())]
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

/// Lags of the lanes of role enrich, as an operator is told.
async fn lag_ms(sandbox: &Sandbox, url: &str) -> Result<u64> {
    let mut command = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.args(["shards", "--json", "--node", url]);
    let page = run(command).await?.json()?;
    let shards = page["shards"].as_array().context("shards")?;
    let lags = shards.iter().filter(|shard| shard["role"] == "enrich").filter_map(|shard| shard["lane"]["lag_ms"].as_u64());
    lags.max().context("no lane of role enrich tells how far it is behind")
}

/// How far the lanes are behind, at most: what an operator is told, and readings that were put and are not settled yet.
#[derive(Clone, Copy, Debug, Default)]
struct Lag {
    ms: u64,
    readings: u64,
}

/// The lanes, and how many readings were put so far.
#[derive(Clone, Copy)]
struct Lanes<'a> {
    sandbox: &'a Sandbox,
    node: &'a Node,
    put: &'a AtomicU64,
}

impl Lanes<'_> {
    async fn look(self, most: Lag) -> Result<Lag> {
        let put = self.put.load(Ordering::Relaxed);
        let (ms, status) = (lag_ms(self.sandbox, &self.node.url).await?, self.node.status().await?);
        let readings = put.saturating_sub(status.all_ended("enrich"));
        Ok(Lag { ms: most.ms.max(ms), readings: most.readings.max(readings) })
    }

    async fn watched(self, looks: u32) -> Result<Lag> {
        let mut most = Lag::default();
        for _ in 0..looks {
            most = self.look(most).await?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(most)
    }
}

fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn window_of(record: &Record) -> Result<u128> {
    let at = SystemTime::try_from(record.approximate_arrival_timestamp.context("a record that arrived at no time")?)?;
    Ok(at.duration_since(SystemTime::UNIX_EPOCH)?.as_millis() / WINDOW.as_millis())
}

/// Puts readings onto the in-stream until it is told to stop.
async fn flow(kinesis: aws_sdk_kinesis::Client, stop: Arc<AtomicBool>, put: Arc<AtomicU64>) -> Result<()> {
    for first in (0..).step_by(FLOW) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let record = |n: usize| reading(&format!("f-{n}"), &format!("F-{}", n % 97), n, n % 70);
        streams::put(&kinesis, IN_STREAM, &(first..first + FLOW).map(record).collect::<Vec<_>>()).await?;
        put.fetch_add(FLOW as u64, Ordering::Relaxed);
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// What a program that was run over windows did.
struct Watched {
    lines: Vec<Value>,
    peak_kib: u64,
    lag: Lag,
    took: Duration,
}

/// What the lines of a query in windows tell.
#[derive(Default)]
struct Told {
    /// Rows by window and shard.
    rows: BTreeMap<(u128, String), u64>,
    first: u128,
    closed: u64,
    records: u64,
    late: u64,
}

impl Told {
    fn of(lines: &[Value]) -> Result<Self> {
        let mut told = Self::default();
        for line in lines {
            let start = DateTime::from_str(line["window_start"].as_str().unwrap_or_default(), DateTimeFormat::DateTime)?;
            let window = u128::try_from(start.to_millis()?)? / WINDOW.as_millis();
            if line["closed"] == true {
                told.first = if told.closed == 0 { window } else { told.first };
                ensure!(window == told.first + u128::from(told.closed), "windows follow each other: {line}");
                told.closed += 1;
                told.records += line["records"].as_u64().context("records")?;
                told.late += line["late"].as_u64().context("late")?;
                continue;
            }
            let n = line["n"].as_u64().context("a count")?;
            ensure!(line["events"].as_u64() == Some(n), "every event is there once: {line}");
            told.rows.insert((window, line["shard"].as_str().unwrap_or_default().to_owned()), n);
        }
        Ok(told)
    }

    fn is(&self, expected: &BTreeMap<(u128, String), u64>) -> Result<()> {
        ensure!(self.rows == *expected, "windows hold {:?}, not {expected:?}", self.rows);
        ensure!(self.records == expected.values().sum::<u64>() && self.late == 0, "{} records, {} late", self.records, self.late);
        Ok(())
    }
}

/// What arrived in these windows, by window and shard, as a plain client sees it; and how much there is in all.
async fn arrived(sandbox: &Sandbox, first: u128, windows: u64) -> Result<(BTreeMap<(u128, String), u64>, u64)> {
    let (mut arrived, mut n_seen) = (BTreeMap::new(), 0);
    for (shard, records) in streams::records_by_shard(&sandbox.clients.kinesis, IN_STREAM).await? {
        for record in &records {
            *arrived.entry((window_of(record)?, shard.clone())).or_default() += 1;
        }
        n_seen += records.len() as u64;
    }
    arrived.retain(|(window, _): &(u128, String), _| (first..first + u128::from(windows)).contains(window));
    Ok((arrived, n_seen))
}

async fn watch(lanes: Lanes<'_>, command: Command) -> Result<Watched> {
    let began = Instant::now();
    let mut process = Process::start_with_output("sql", command, lanes.sandbox.folder())?;
    let pid = process.pid()?;
    let (mut peak_kib, mut lag) = (0, Lag::default());
    let mut looked = Instant::now();
    let status = loop {
        if let Ok(status) = process.ended(Duration::from_millis(50)).await {
            break status;
        }
        peak_kib = peak_kib.max(peak_rss_kib(pid).unwrap_or_default());
        if looked.elapsed() > Duration::from_millis(500) {
            lag = lanes.look(lag).await?;
            looked = Instant::now();
        }
        ensure!(began.elapsed() < Duration::from_secs(1_800), "it does not end\n{}", process.log_tail());
    };
    ensure!(status.code() == Some(0), "it ended with {status}\n{}", process.log());
    let out = std::fs::read_to_string(lanes.sandbox.folder().join("sql.out"))?;
    let lines = out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    Ok(Watched { lines, peak_kib, lag, took: began.elapsed() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_in_windows_counts_every_record_once_in_little_memory_and_holds_no_lane_up() -> Result<()> {
    let n_records = match std::env::var("SPEEDTRAP_SQL_RECORDS") {
        Ok(text) => text.parse().context("SPEEDTRAP_SQL_RECORDS is no number")?,
        Err(_) => RECORDS,
    };
    let sandbox = Sandbox::up_with_shards(4).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let from = SystemTime::now();
    for first in (0..n_records).step_by(2_000) {
        // Nearly all are under the limit: it is the reading that is measured here.
        let record = |n: usize| {
            reading(&format!("w-{n}"), &format!("W-{}", n % 5_000), n, if n.is_multiple_of(2_000) { 80 } else { n % 70 })
        };
        let records: Vec<_> = (first..n_records.min(first + 2_000)).map(record).collect();
        streams::put(&sandbox.clients.kinesis, IN_STREAM, &records).await?;
    }
    let windows = from.elapsed()?.as_secs() / WINDOW.as_secs() + 2;
    eventually("the lanes are through", Duration::from_secs(900), || async {
        ensure!(node.status().await?.is_idle() && lag_ms(&sandbox, &node.url).await? == 0);
        Ok(())
    })
    .await?;

    let (stop, put) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(n_records as u64)));
    let flow = tokio::spawn(flow(sandbox.clients.kinesis.clone(), Arc::clone(&stop), Arc::clone(&put)));
    let lanes = Lanes { sandbox: &sandbox, node: &node, put: &put };
    let before = lanes.watched(10).await?;
    let begin_seconds = from.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let begin = DateTime::from_secs(i64::try_from(begin_seconds)?).to_string();
    let (every, count) = (format!("{}s", WINDOW.as_secs()), windows.to_string());
    let statement =
        "SELECT shard, count(*) AS n, sum(speed) AS speeds, count(DISTINCT event_id) AS events FROM readings GROUP BY shard";
    let command = sql(&sandbox, &["--json", "--every", &every, "--from", &begin, "--windows", &count, statement])?;
    let watched = watch(lanes, command).await?;
    let after = lanes.watched(10).await?;
    windows_are_closed_while_readings_come(&sandbox).await?;
    stop.store(true, Ordering::Relaxed);
    flow.await??;

    let told = Told::of(&watched.lines)?;
    let (expected, n_seen) = arrived(&sandbox, told.first, told.closed).await?;
    ensure!(n_seen == put.load(Ordering::Relaxed), "{n_seen} records are on the stream, {put:?} were put");
    let Told { records, late, closed, .. } = told;
    say(
        "live_sql",
        &format!(
            "{records} records in {closed} windows of {} s, {late} late, in {:.0} s; peak RSS {:.0} MiB ({} build)",
            WINDOW.as_secs(),
            watched.took.as_secs_f64(),
            watched.peak_kib as f64 / 1024.0,
            if cfg!(debug_assertions) { "debug" } else { "release" }
        ),
    );
    let shown = |lag: Lag| format!("{} ms and {} unsettled readings", lag.ms, lag.readings);
    say(
        "live_sql",
        &format!(
            "most lag of the enrich lanes, with {} readings a second: {} before, {} during, {} after",
            2 * FLOW,
            shown(before),
            shown(watched.lag),
            shown(after)
        ),
    );
    told.is(&expected)?;
    ensure!(closed == windows && told.first == u128::from(begin_seconds) * 1_000 / WINDOW.as_millis(), "{closed} windows");
    ensure!(records >= n_records as u64, "{records} records are in windows, {n_records} were put before");
    ensure!(watched.peak_kib > 0 && watched.peak_kib <= MOST_RSS_KIB, "{} KiB", watched.peak_kib);
    for lag in [watched.lag, after] {
        ensure!(lag.ms <= before.ms + LAG_MARGIN_MS, "lanes were held up: {lag:?}, {before:?} before");
        let margin = LAG_MARGIN_MS * 2 * FLOW as u64 / 1_000;
        ensure!(lag.readings <= before.readings + margin, "lanes were held up: {lag:?}, {before:?} before");
    }
    an_interrupted_query_says_so(&sandbox).await?;
    node.stop().await?;
    sandbox.end().await
}

async fn windows_are_closed_while_readings_come(sandbox: &Sandbox) -> Result<()> {
    let every = format!("{}s", WINDOW.as_secs());
    let statement = "SELECT shard, count(*) AS n, count(DISTINCT event_id) AS events FROM readings GROUP BY shard";
    let ended = asked(sandbox, &["--json", "--every", &every, "--windows", "4", statement]).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let lines: Vec<Value> = ended.out.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
    let told = Told::of(&lines)?;
    ensure!(told.closed == 4 && told.records > 0, "{ended:?}");
    told.is(&arrived(sandbox, told.first, told.closed).await?.0)
}

async fn an_interrupted_query_says_so(sandbox: &Sandbox) -> Result<()> {
    let command = sql(sandbox, &["--every", "5s", "SELECT state, count(*) AS n FROM readings GROUP BY state"])?;
    let mut process = Process::start_with_output("interrupted", command, sandbox.folder())?;
    sleep(Duration::from_secs(3)).await;
    process.signal(libc::SIGINT)?;
    let status = process.ended(Duration::from_secs(5)).await?;
    ensure!(status.code() == Some(130) && process.log().contains("was cut off"), "{status}: {}", process.log());
    Ok(())
}
