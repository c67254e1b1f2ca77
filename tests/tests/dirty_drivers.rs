//! Dirty drivers files against the local cloud: each bad row is put aside with its true line and reason, every good one is
//! loaded, and what was put aside is mended and loaded.
//!
//! `SPEEDTRAP_TEST_ENDPOINTS` names the endpoints.json of a running cloud.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::commands::{self, Ended};
use speedtrap_tests::dirt::{DirtyFile, End, HEADER, clean_row};
use speedtrap_tests::endpoints::Endpoints;
use speedtrap_tests::programs;
use tempfile::TempDir;
use tokio_postgres::NoTls;

struct Bench {
    endpoints: Endpoints,
    folder: TempDir,
    /// Part of every plate, so that tests and their repetitions do not meet.
    mark: String,
}

impl Bench {
    fn new(test: &str) -> Result<Self> {
        let path = std::env::var("SPEEDTRAP_TEST_ENDPOINTS").context("SPEEDTRAP_TEST_ENDPOINTS must name an endpoints.json")?;
        let endpoints = serde_json::from_slice(&std::fs::read(&path).with_context(|| format!("failed to read `{path}`"))?)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok(Self { endpoints, folder: tempfile::tempdir()?, mark: format!("{test}{now}") })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    async fn loader(&self, verb: &str, file: &Path) -> Result<Ended> {
        let mut command = programs::command("speedtrap-loader")?;
        self.endpoints.aws_environment(&mut command);
        command.env("SPEEDTRAP_LOADER_WAREHOUSE__URL", &self.endpoints.warehouse_url);
        command.env("SPEEDTRAP_LOADER_S3__POLL", "200ms");
        command.arg(verb).arg(file).arg("--json");
        command.arg("--rejects-dir").arg(self.folder.path().join("rejects"));
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        commands::run(command).await
    }

    /// Plate and myphone of all rows of a load.
    async fn stored(&self, load_id: &str) -> Result<BTreeMap<String, String>> {
        let (client, connection) = tokio_postgres::connect(&self.endpoints.warehouse_url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let sql = "SELECT licenseplate, myphone FROM public.rtr_iot_driver_data WHERE _load_id = $1";
        let rows = client.query(sql, &[&load_id]).await?;
        connection.abort();
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

fn text<'a>(report: &'a Value, key: &str) -> Result<&'a str> {
    report[key].as_str().with_context(|| format!("no `{key}` in {report}"))
}

fn counts(report: &Value) -> [Option<u64>; 4] {
    ["rows", "merged", "rejected", "duplicates"].map(|key| report[key].as_u64())
}

/// Line, byte, reason and column of a rejected row.
type Rejected = (u64, u64, String, Option<String>);

/// The rows of a quarantine.
fn quarantine(path: &str) -> Result<Vec<Rejected>> {
    let lines = std::fs::read_to_string(path)?;
    lines
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line)?;
            let number = |key: &str| row[key].as_u64().with_context(|| format!("no `{key}` in a row of the quarantine"));
            Ok((number("line")?, number("byte")?, text(&row, "reason")?.to_owned(), row["column"].as_str().map(str::to_owned)))
        })
        .collect()
}

/// Mends the column `raw` of a quarantine in CSV where `mended` has something for its line, as a person with an editor would.
fn mend(path: &str, to: &Path, mended: impl Fn(u64) -> Option<String>) -> Result<()> {
    let mut reader = csv::Reader::from_path(path)?;
    let place = |name: &str, headers: &csv::StringRecord| headers.iter().position(|header| header == name).context("a column");
    let headers = reader.headers()?.clone();
    let (line, raw) = (place("line", &headers)?, place("raw", &headers)?);
    let mut writer = csv::Writer::from_path(to)?;
    writer.write_record(&headers)?;
    for row in reader.records() {
        let row = row?;
        let new = mended(row[line].parse()?);
        writer.write_record(row.iter().enumerate().map(|(n, cell)| match &new {
            Some(new) if n == raw => new.as_str(),
            _ => cell,
        }))?;
    }
    Ok(writer.flush()?)
}

#[tokio::test]
async fn forty_kinds_of_dirt_are_told_apart_then_mended_and_loaded() -> Result<()> {
    let bench = Bench::new("DIRT")?;
    let file = DirtyFile::new(&bench.mark);
    let path = bench.write("drivers.csv", &file.bytes)?;
    let (n_loaded, n_rejected) = (file.n_loaded() as u64, file.rejected().count() as u64);
    let n_rows = n_loaded + n_rejected;
    let kinds = file.rows.iter().filter(|row| row.end != End::Loaded(None) || !row.kind.starts_with("a clean")).count();
    ensure!(kinds >= 40, "only {kinds} kinds of dirt");

    let ended = bench.loader("load", &path).await?;
    let report = ended.json()?;
    ensure!(ended.code == Some(3), "{ended:?}");
    ensure!(counts(&report) == [Some(n_rows), Some(n_loaded), Some(n_rejected), Some(0)], "{report}");
    let load_id = text(&report, "load_id")?.to_owned();
    let found = quarantine(text(&report, "rejects_file")?)?;
    for ((row, reason, column), found) in file.rejected().zip(&found) {
        let expected = (row.line, row.byte, reason.to_owned(), column.map(str::to_owned));
        ensure!(*found == expected, "{}: expected {expected:?}, found {found:?}", row.kind);
    }
    ensure!(found.len() as u64 == n_rejected, "{} rows in the quarantine", found.len());
    let mut warnings: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &file.rows {
        if let End::Loaded(Some(warning)) = row.end {
            *warnings.entry(warning).or_default() += 1;
        }
    }
    ensure!(report["warnings"] == serde_json::to_value(&warnings)?, "expected {warnings:?} in {report}");
    let stored = bench.stored(&load_id).await?;
    ensure!(stored.len() as u64 == n_loaded && stored.contains_key("6.00E+272"), "{} drivers stored", stored.len());

    // The half that is easy is mended first; what is left is put aside once more, with the lines of the first file.
    let csv = text(&report, "rejects_csv")?;
    let half = bench.folder.path().join("half.csv");
    let middle = found[found.len() / 2].0;
    mend(csv, &half, |line| (line < middle).then(|| file.mended(line)))?;
    let ended = bench.loader("replay", &half).await?;
    let second = ended.json()?;
    let mended = found.iter().filter(|row| row.0 < middle).count() as u64;
    ensure!(ended.code == Some(3), "{ended:?}");
    ensure!(counts(&second) == [Some(n_rejected), Some(mended), Some(n_rejected - mended), Some(0)], "{second}");
    ensure!(text(&second, "completes")? == load_id && text(&second, "file")? == "drivers.csv", "{second}");
    let left: Vec<u64> = quarantine(text(&second, "rejects_file")?)?.iter().map(|row| row.0).collect();
    ensure!(left == found.iter().map(|row| row.0).filter(|line| *line >= middle).collect::<Vec<_>>(), "{left:?}");

    // The rest is mended, and nothing is left of the first load.
    let rest = bench.folder.path().join("rest.csv");
    mend(text(&second, "rejects_csv")?, &rest, |line| Some(file.mended(line)))?;
    let ended = bench.loader("replay", &rest).await?;
    let third = ended.json()?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(counts(&third) == [Some(n_rejected - mended), Some(n_rejected - mended), Some(0), Some(0)], "{third}");
    ensure!(text(&third, "completes")? == load_id, "{third}");
    let mut all = 0;
    for report in [&report, &second, &third] {
        all += bench.stored(text(report, "load_id")?).await?.len() as u64;
    }
    ensure!(all == n_rows, "{all} of {n_rows} rows are in the warehouse in the end");

    let again = bench.loader("replay", &rest).await?;
    ensure!(again.code == Some(0) && text(&again.json()?, "state")? == "already_loaded", "{again:?}");
    println!("figures: {kinds} kinds of dirt: {n_loaded} rows loaded, {n_rejected} put aside, mended and loaded in two replays");
    Ok(())
}

#[tokio::test]
async fn a_check_finds_before_what_a_load_finds() -> Result<()> {
    let bench = Bench::new("CHECK")?;
    let file = DirtyFile::new(&bench.mark);
    let path = bench.write("drivers.csv", &file.bytes)?;
    // Without region, credentials and warehouse.
    let mut command = programs::command("speedtrap-loader")?;
    command.arg("check").arg(&path).arg("--json");
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(3), "{ended:?}");
    let report = ended.json()?;
    let n_rejected = file.rejected().count() as u64;
    ensure!(
        report["rejected"].as_u64() == Some(n_rejected) && report["loadable"].as_u64() == Some(file.n_loaded() as u64),
        "{report}"
    );
    let dialect = &report["dialect"];
    let told =
        [&dialect["encoding"], &dialect["line_ends"], &dialect["delimiter"]].map(|value| value.as_str().unwrap_or_default());
    ensure!(told == ["not all UTF-8", "mixed", ","], "{dialect}");
    ensure!(dialect["bom"] == true && dialect["final_newline"] == false && dialect["quotes"] == true, "{dialect}");
    let mut expected: BTreeMap<(&str, Option<&str>), u64> = BTreeMap::new();
    for (_, reason, column) in file.rejected() {
        *expected.entry((reason, column)).or_default() += 1;
    }
    let findings = report["findings"].as_array().context("findings")?;
    for ((reason, column), count) in expected {
        let found = findings.iter().find(|finding| finding["finding"] == reason && finding["column"].as_str() == column);
        ensure!(found.is_some_and(|finding| finding["count"] == count), "{count} of {reason} in {column:?}: {report}");
    }
    Ok(())
}

/// What Kinesis Agent's CSVTOJSON makes of a file: each line that ends, cut at its commas, under names from its configuration.
/// The header is never read, and what stands behind the last line end is never sent
/// (<https://github.com/awslabs/amazon-kinesis-agent>, CSVToJSONDataConverter and FirehoseParser).
fn sent_by_kinesis_agent(file: &[u8]) -> Vec<BTreeMap<&'static str, String>> {
    let ended = file.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&file[..ended]).into_owned();
    let records = text.split_terminator('\n').map(|line| HEADER.split(',').zip(line.split(',').map(str::to_owned)).collect());
    records.collect()
}

#[tokio::test]
async fn what_kinesis_agent_gets_wrong_in_a_file_is_right_in_the_warehouse() -> Result<()> {
    let bench = Bench::new("AGENT")?;
    let mut bytes = HEADER.as_bytes().to_vec();
    for n in 0..100 {
        bytes.extend_from_slice(b"\r\n");
        bytes.extend(clean_row(&format!("{}-{n}", bench.mark)));
    }
    let last = format!("{}-99", bench.mark);

    let agent = sent_by_kinesis_agent(&bytes);
    ensure!(agent.len() == 100 && agent[0]["licensePlate"] == "licensePlate", "the header is a driver to it");
    ensure!(agent.iter().all(|driver| driver["licensePlate"] != last), "the last row is never sent");
    ensure!(agent[0]["myphone"].ends_with('\r'), "its values keep the carriage return");
    ensure!(agent[1]["address"] == "\"1 Mill Row" && agent[1]["city"] == " Apt 9\"", "it cuts values at commas in quotes");
    ensure!(agent[1]["myphone"] == "515-555-0100", "so that another number would be texted");

    let path = bench.write("drivers.csv", &bytes)?;
    let ended = bench.loader("load", &path).await?;
    let report = ended.json()?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(counts(&report) == [Some(100), Some(100), Some(0), Some(0)], "{report}");
    let stored = bench.stored(text(&report, "load_id")?).await?;
    ensure!(
        stored.len() == 100 && stored.contains_key(&last) && !stored.contains_key("licensePlate"),
        "{} drivers",
        stored.len()
    );
    ensure!(stored.values().all(|myphone| myphone == "5155550100"), "every number is as it stands in the file");
    Ok(())
}

#[tokio::test]
async fn a_crawled_contract_is_one_that_check_takes() -> Result<()> {
    let bench = Bench::new("CRAWL")?;
    let path = bench
        .write("export.csv", "Surname;Plate;Zip;Mobile;Insurer\r\nInk;95B\u{2022}140;00501;5155550100;Reef\r\n".as_bytes())?;
    let contract = bench.folder.path().join("mine.toml");
    let mut command = programs::command("speedtrap-loader")?;
    command.arg("crawl").arg(&path).arg("--out").arg(&contract).arg("--json");
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    let proposal = ended.json()?;
    let types: Vec<&Value> = proposal["columns"].as_array().into_iter().flatten().map(|column| &column["type"]).collect();
    ensure!(types == ["varchar"; 5], "{proposal}");
    let mut command = programs::command("speedtrap-loader")?;
    command.arg("check").arg(&path).arg("--contract").arg(&contract).arg("--json");
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0) && ended.json()?["loadable"] == 1, "{ended:?}");

    std::fs::write(&contract, "delimiter = \";;\"\n[[column]]\nname = 3\n")?;
    let mut command = programs::command("speedtrap-loader")?;
    command.arg("check").arg(&path).arg("--contract").arg(&contract);
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(78) && ended.err.contains("column[0].bytes") && ended.err.contains("delimiter"), "{ended:?}");
    Ok(())
}
