//! Loads through everything that goes wrong: the file's rows are in the warehouse afterwards, each once, and `status` told the
//! truth meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use serde_json::{Value, json};
use speedtrap_tests::browser::{Browser, hook};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::drivers_file::{DriversFile, load, loader, peak_mb_until_end, status};
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::proxy::Proxy;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::scripted_firehose::{Faults, ScriptedFirehose};
use tokio::time::{Instant, sleep};

const BUCKET: &str = "rtr-iot-drivers-000000000000";
const LIMIT: Duration = Duration::from_secs(180);
/// What a node shows of a load, in the words of `status --json`.
const SHOWN: [&str; 19] = [
    "load_id",
    "file",
    "state",
    "size",
    "read_bytes",
    "rows",
    "sent",
    "batches",
    "staged",
    "objects",
    "merged",
    "rejected",
    "duplicates",
    "rows_per_second",
    "started_at",
    "committed_at",
    "restarts",
    "waits_for",
    "last_error",
];

/// A figure that the environment may set.
fn figure(name: &str, usual: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number")),
        Err(_) => Ok(usual),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_killed_at_any_point_goes_on_and_every_row_is_there_once() -> Result<()> {
    let kills = figure("SPEEDTRAP_LOADER_KILLS", 10)?;
    let sandbox = Sandbox::up().await?;
    let folder = sandbox.folder();
    let first = DriversFile::write(folder, "WHOLE", 4_000)?;
    let started = Instant::now();
    ensure!(load(loader(&sandbox.endpoints, folder, "load")?, &first.path).await?.code == Some(0));
    let whole = started.elapsed();
    let (mut killed, mut files, mut stages) = (0, 0, BTreeSet::new());
    while killed < kills {
        let file = DriversFile::write(folder, &format!("K{files}"), 4_000)?;
        files += 1;
        // Kills fall anywhere in the time that a load takes, so one of several hits any part of it.
        while killed < kills {
            let mut command = loader(&sandbox.endpoints, folder, "load")?;
            command.arg(&file.path);
            let mut process = Process::start("loader", command, folder)?;
            if process.ended(whole.mul_f64(rand::rng().random_range(0.0..1.1))).await.is_ok() {
                break;
            }
            process.kill().await?;
            killed += 1;
            let seen = status(&sandbox.endpoints, folder, &file.path).await?;
            let state = seen.as_ref().and_then(|seen| seen["state"].as_str()).unwrap_or("unknown").to_owned();
            ensure!(["unknown", "interrupted", "committed"].contains(&state.as_str()), "nobody works at it any more: {seen:?}");
            let sent = seen.as_ref().is_some_and(|seen| seen["sent"].as_u64() > Some(0));
            stages.insert(if sent { format!("{state}, rows sent") } else { state });
        }
        let last = load(loader(&sandbox.endpoints, folder, "load")?, &file.path).await?;
        ensure!(last.code == Some(0), "the last try failed: {last:?}");
        let stored = file.stored(&sandbox.endpoints).await?;
        ensure!(stored == file.expected(), "after {killed} kills: {stored:?}");
    }
    say(
        "loading",
        &format!("{killed} kills -9 over {files} files, found then as {stages:?}: every row there once, one ledger row each"),
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_outlasts_a_throttling_firehose_late_objects_and_a_warehouse_that_is_away() -> Result<()> {
    let away = Duration::from_secs(figure("SPEEDTRAP_LOADER_OUTAGE_SECONDS", 8)?);
    let sandbox = Sandbox::up().await?;
    let (endpoints, folder) = (&sandbox.endpoints, sandbox.folder());
    let faults = Faults { failed_records: 0.3, throttled: 0.3, latest: Duration::from_secs(6), ..Faults::default() };
    let firehose = ScriptedFirehose::start(sandbox.clients.s3.clone(), BUCKET, faults).await?;
    let mut proxy = Proxy::before(&endpoints.warehouse_url).await?;
    let file = DriversFile::write(folder, "OUT", 6_000)?;
    let mut command = loader(endpoints, folder, "load")?;
    command
        .env("AWS_ENDPOINT_URL_FIREHOSE", &firehose.url)
        .env("SPEEDTRAP_LOADER_WAREHOUSE__URL", proxy.instead_of(&endpoints.warehouse_url)?)
        .arg(&file.path);
    let mut process = Process::start_with_output("loader", command, folder)?;
    // Once rows are on their way, the ledger has been asked, and the next need of the warehouse is the commit.
    eventually("rows are sent", LIMIT, || async {
        let seen = status(endpoints, folder, &file.path).await?.context("a load")?;
        ensure!(seen["sent"].as_u64() > Some(0), "{seen}");
        Ok(())
    })
    .await?;
    proxy.refuse().await;
    let mut states = BTreeSet::new();
    let blocked = eventually("the load waits for the warehouse, and says so", LIMIT, || async {
        let seen = status(endpoints, folder, &file.path).await?.context("a load")?;
        ensure!(seen["waits_for"]["what"] == "warehouse", "{seen}");
        Ok(seen)
    })
    .await?;
    ensure!(blocked["state"] == "committing" && blocked["staged"] == 6_000 && blocked["merged"] == 0, "{blocked}");
    ensure!(blocked["pid"].as_u64() == Some(u64::from(process.pid()?)), "{blocked}");
    sleep(away).await;
    let seen = status(endpoints, folder, &file.path).await?.context("a load")?;
    states.insert(seen["state"].as_str().unwrap_or_default().to_owned());
    ensure!(seen["state"] != "committed" && file.stored(endpoints).await?.rows == 0, "{seen}");
    proxy.accept().await?;
    let ended = process.ended(LIMIT).await?;
    ensure!(ended.code() == Some(0), "{}", process.log_tail());
    ensure!(file.stored(endpoints).await? == file.expected());
    let seen = status(endpoints, folder, &file.path).await?.context("a load")?;
    ensure!(seen["state"] == "committed" && seen["merged"] == 6_000 && seen["waits_for"].is_null(), "{seen}");
    let facts = firehose.facts();
    ensure!(facts.violations.is_empty(), "{:?}", facts.violations);
    ensure!(facts.throttled > 0 && facts.failed_records > 0, "nothing went wrong: {facts:?}");
    let (calls, throttled, failed, records) = (facts.calls, facts.throttled, facts.failed_records, facts.records);
    say(
        "loading",
        &format!(
            "{throttled} of {calls} calls throttled, {failed} records refused, {records} taken in, warehouse away {} s: 6000 rows once",
            away.as_secs()
        ),
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_duplicates_and_objects_out_of_order_change_nothing() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let folder = sandbox.folder();
    let faults = Faults {
        failed_records: 0.2,
        throttled: 0.1,
        lost_answers: 0.3,
        duplicates: 0.5,
        mixed: 0.5,
        latest: Duration::from_secs(3),
    };
    let firehose = ScriptedFirehose::start(sandbox.clients.s3.clone(), BUCKET, faults).await?;
    let file = DriversFile::write(folder, "TWICE", 6_000)?;
    let mut command = loader(&sandbox.endpoints, folder, "load")?;
    command.env("AWS_ENDPOINT_URL_FIREHOSE", &firehose.url);
    let ended = load(command, &file.path).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let report = ended.json()?;
    ensure!(report["sent"] == 6_000 && report["staged"] == 6_000 && report["merged"] == 6_000, "{report}");
    ensure!(file.stored(&sandbox.endpoints).await? == file.expected());
    let facts = firehose.facts();
    ensure!(facts.violations.is_empty(), "{:?}", facts.violations);
    ensure!(facts.lost_answers > 0 && facts.objects > 30, "too little went wrong: {facts:?}");
    say(
        "loading",
        &format!("{} answers lost, {} records taken in for 6000 rows: each row once", facts.lost_answers, facts.records),
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_firehose_took_and_never_delivered_are_sent_again() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let folder = sandbox.folder();
    let faults = Faults { latest: Duration::from_secs(3_600), ..Faults::default() };
    let firehose = ScriptedFirehose::start(sandbox.clients.s3.clone(), BUCKET, faults).await?;
    let file = DriversFile::write(folder, "SWALLOW", 3_000)?;
    let mut command = loader(&sandbox.endpoints, folder, "load")?;
    command.env("AWS_ENDPOINT_URL_FIREHOSE", &firehose.url).env("SPEEDTRAP_LOADER_S3__STAGED_TIMEOUT", "4s").arg(&file.path);
    let mut process = Process::start("loader", command, folder)?;
    eventually("all rows are sent", LIMIT, || async {
        let seen = status(&sandbox.endpoints, folder, &file.path).await?.context("a load")?;
        ensure!(seen["state"] == "staging" && seen["waits_for"]["what"] == "rows", "{seen}");
        Ok(())
    })
    .await?;
    firehose.set(Faults::default());
    let ended = process.ended(LIMIT).await?;
    ensure!(ended.code() == Some(0), "{}", process.log_tail());
    ensure!(file.stored(&sandbox.endpoints).await? == file.expected());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_drivers_load_in_little_memory_and_every_row_is_accounted_for() -> Result<()> {
    let rows = figure("SPEEDTRAP_LOADER_ROWS", 50_000)?;
    let sandbox = Sandbox::up().await?;
    let folder = sandbox.folder();
    let arguments = ["drivers", "--rows", &rows.to_string(), "--dirt", "heavy"];
    let file = speedtrap_tests::commands::make_csv(folder, "many.csv", &arguments).await?;
    let mut command = loader(&sandbox.endpoints, folder, "load")?;
    command.env_remove("SPEEDTRAP_LOADER_FIREHOSE__RECORD_BYTES").arg(&file);
    let started = Instant::now();
    let mut process = Process::start_with_output("loader", command, folder)?;
    let (peak_mb, code) = peak_mb_until_end(&mut process, Duration::from_secs(300 + rows / 200)).await?;
    let took = started.elapsed().as_secs_f64();
    ensure!(code == Some(3), "{}", process.log_tail());
    let report: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("loader.out"))?)?;
    let count = |key: &str| report[key].as_u64().unwrap_or_default();
    let (merged, duplicates, rejected) = (count("merged"), count("duplicates"), count("rejected"));
    ensure!(count("rows") == rows && merged + duplicates + rejected == rows && rejected > 0, "{report}");
    ensure!(peak_mb < 200, "{peak_mb} MB");
    say(
        "loading",
        &format!(
            "{rows} drivers in {took:.1} s, {:.0} rows/s, peak {peak_mb} MB resident; {merged} merged + {duplicates} superseded + {rejected} rejected",
            rows as f64 / took
        ),
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_shows_of_a_load_under_way_rejected_rows_and_its_end_what_status_says() -> Result<()> {
    const PERSON: &str = "Quarantinova";
    let sandbox = Sandbox::up().await?;
    let (endpoints, folder) = (&sandbox.endpoints, sandbox.folder());
    let node = Node::start(endpoints, folder, "node-1").await?;
    let mut proxy = Proxy::before(&endpoints.warehouse_url).await?;
    let file = DriversFile::write(folder, "SHOWN", 600)?;
    let mut text = std::fs::read_to_string(&file.path)?;
    text.push_str(&format!(
        "\r\nragged,{PERSON}\r\nZelda,{PERSON},,z@example.com,1 Row,Foxgallow,Iowa,50301,515-555-0100,5155550100"
    ));
    std::fs::write(&file.path, text)?;
    let start = |warehouse: String| -> Result<Process> {
        let mut command = loader(endpoints, folder, "load")?;
        // One that is away is neither waited for nor in the way.
        command.args(["--node-url", "http://127.0.0.1:1", "--node-url", &node.url]);
        command.env("SPEEDTRAP_LOADER_WAREHOUSE__URL", warehouse).env("SPEEDTRAP_LOADER_S3__POLL", "5s").arg(&file.path);
        Process::start_with_output("loader", command, folder)
    };
    let as_status = async |wanted: &str| {
        eventually("the node shows what status says", LIMIT, async || {
            let said = status(endpoints, folder, &file.path).await?.context("a load")?;
            let page: Value = get_json(format!("{}/api/v1/loads", node.url)).await?;
            let [shown] = &page["loads"].as_array().context("loads")?[..] else { anyhow::bail!("one load: {page}") };
            let differs: Vec<_> = SHOWN.iter().filter(|member| shown[**member] != said[**member]).collect();
            ensure!(differs.is_empty(), "{differs:?} differ: {shown} instead of {said}");
            ensure!(said["state"] == wanted, "{said}");
            Ok(shown.clone())
        })
        .await
    };

    // Rows are on their way, then the commit waits: both stand still enough to be compared.
    let mut process = start(proxy.instead_of(&endpoints.warehouse_url)?)?;
    eventually("rows are sent", LIMIT, || async {
        let seen = status(endpoints, folder, &file.path).await?.context("a load")?;
        ensure!(seen["sent"].as_u64() > Some(0), "{seen}");
        Ok(())
    })
    .await?;
    proxy.refuse().await;
    let shown = as_status("committing").await?;
    ensure!(shown["waits_for"]["what"] == "warehouse" && shown["merged"] == 0 && shown["staged"] == 600, "{shown}");
    ensure!(shown["batches"].as_u64() > Some(0) && shown["objects"].as_u64() > Some(0), "{shown}");
    ensure!(shown["rejected"] == 2 && shown["rejected_shown"] == 2 && shown["committed_at"].is_null(), "{shown}");
    let id = shown["load_id"].as_str().context("an id")?.to_owned();
    let rejected: Value = get_json(format!("{}/api/v1/loads/{id}/rejected", node.url)).await?;
    let row = |n: usize| ["line", "reason", "column"].map(|member| rejected["rows"][n][member].clone());
    ensure!(json!(row(0)) == json!([602, "ragged", null]), "{rejected}");
    ensure!(json!(row(1)) == json!([603, "empty_plate", "licensePlate"]), "{rejected}");
    ensure!(!rejected.to_string().contains(PERSON) && !shown.to_string().contains(PERSON), "{rejected}");

    process.signal(libc::SIGINT)?;
    ensure!(process.ended(LIMIT).await?.code() == Some(130), "{}", process.log_tail());
    as_status("interrupted").await?;
    proxy.accept().await?;
    let mut process = start(endpoints.warehouse_url.clone())?;
    ensure!(process.ended(LIMIT).await?.code() == Some(3), "{}", process.log_tail());
    let shown = as_status("committed").await?;
    let count = |member: &str| shown[member].as_u64().unwrap_or_default();
    ensure!(count("rows") == 602 && count("merged") + count("duplicates") + count("rejected") == 602, "{shown}");
    let rejected: Value = get_json(format!("{}/api/v1/loads/{id}/rejected", node.url)).await?;
    ensure!(rejected["rows"].as_array().map(Vec::len) == Some(2), "the commit keeps them: {rejected}");
    the_page_shows_it(&node.url, &shown, PERSON).await?;
    say("loading", "a node shows of a load under way, interrupted and committed what status --json says, and its rejected rows");
    node.stop().await
}

/// Each number of the row, the equation, and the rejected rows once they are asked for.
async fn the_page_shows_it(url: &str, load: &Value, person: &str) -> Result<()> {
    let browser = Browser::start().await?;
    browser.open(&format!("{url}/#/loader")).await?;
    browser.until("the load is shown", LIMIT, &format!("return !!document.querySelector('{}')", hook("load-row"))).await?;
    let read = format!(
        "return Object.fromEntries([...document.querySelectorAll('{} td')].map((cell) => [cell.dataset.field, cell.dataset.value ?? '']))",
        hook("load-row")
    );
    let row: Value = browser.script(&read, Vec::new()).await?;
    for member in ["rows", "sent", "batches", "staged", "objects", "merged", "duplicates", "rejected", "state"] {
        let said = load[member].as_str().map_or_else(|| load[member].to_string(), str::to_owned);
        ensure!(row[member] == said, "{member} is {} on the page, not {said}", row[member]);
    }
    ensure!(row["reconciled"] == "yes" && row["copy"] == "committed", "{row}");
    browser.click(&hook("show-rejected")).await?;
    let listed = format!("return document.querySelectorAll('{}').length === 2", hook("rejected-row"));
    browser.until("the rejected rows are shown", LIMIT, &listed).await?;
    browser.picture("loading-page").await?;
    ensure!(!browser.text().await?.contains(person), "a person stands on the page");
    browser.is_clean().await?;
    browser.end().await
}
