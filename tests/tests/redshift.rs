//! The loader's Redshift path, run by the loader itself against a stand-in (`tests/src/redshift`): COPY from S3, MERGE, errors read
//! back, lost commits, tables that differ. And the node's driver lookup, which must be fit for Redshift, too.
//!
//! `SPEEDTRAP_TEST_ENDPOINTS` names the endpoints.json of a local cloud, as for `loader`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_actors::adapters::{CallLimits, DriverRows, RedshiftDriverDirectory, WarehouseOptions, warehouse_pool};
use speedtrap_actors::domain::PlateKey;
use speedtrap_actors::flow::{Backoff, RetryBudget};
use speedtrap_actors::observe::Calls;
use speedtrap_actors::ports::DriverDirectory;
use speedtrap_tests::commands::{self, Ended};
use speedtrap_tests::endpoints::Endpoints;
use speedtrap_tests::programs;
use speedtrap_tests::redshift::Redshift;
use tokio_postgres::NoTls;

const HEADER: &str = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";
const SCHEMA: &str = include_str!("../../data/schema/warehouse.sql");
/// The same tables as an owner of a cluster would make them, but for one column that holds only eight bytes.
const NARROW: &str = "CREATE TABLE public.rtr_iot_driver_data (first_name VARCHAR(256) ENCODE zstd, last_name VARCHAR(256), \
     licenseplate VARCHAR(64) NOT NULL DISTKEY SORTKEY, email VARCHAR(320), address VARCHAR(512), city VARCHAR(8), \
     state VARCHAR(256), zipcode VARCHAR(16), phonenumber VARCHAR(64), myphone VARCHAR(64), _load_id VARCHAR(64), \
     _loaded_at TIMESTAMP)";

struct Bench {
    endpoints: Endpoints,
    redshift: Redshift,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A stand-in without tables.
    async fn empty() -> Result<Self> {
        let path = std::env::var("SPEEDTRAP_TEST_ENDPOINTS").context("SPEEDTRAP_TEST_ENDPOINTS names no local cloud")?;
        let endpoints: Endpoints = serde_json::from_slice(&std::fs::read(path)?)?;
        let s3 = endpoints.clients().await.s3;
        let redshift = Redshift::before(&endpoints.warehouse_url, s3, Duration::from_millis(2)).await?;
        Ok(Self { endpoints, redshift, folder: tempfile::tempdir()? })
    }

    async fn new() -> Result<Self> {
        let bench = Self::empty().await?;
        bench.redshift.run(SCHEMA).await?;
        Ok(bench)
    }

    fn file(&self, rows: &[&str]) -> Result<PathBuf> {
        let path = self.folder.path().join("drivers.csv");
        std::fs::write(&path, format!("{HEADER}\r\n{}", rows.join("\r\n")))?;
        Ok(path)
    }

    async fn loader(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = programs::command("speedtrap-loader")?;
        self.endpoints.aws_environment(&mut command);
        command
            .env("SPEEDTRAP_LOADER_WAREHOUSE__URL", self.redshift.url())
            .env("SPEEDTRAP_LOADER_S3__POLL", "200ms")
            .current_dir(self.folder.path())
            .args(arguments)
            .arg("--json");
        commands::run(command).await
    }

    /// Loads a file; gives report and exit code.
    async fn load(&self, file: &Path, arguments: &[&str]) -> Result<(Value, Option<i32>)> {
        let file = file.to_string_lossy();
        let arguments: Vec<&str> = ["load", &file].into_iter().chain(arguments.iter().copied()).collect();
        let ended = self.loader(&arguments).await?;
        Ok((ended.json().with_context(|| ended.err.clone())?, ended.code))
    }

    /// Plate and first name of each driver.
    async fn drivers(&self) -> Result<Vec<(String, String)>> {
        let rows = self.redshift.run("SELECT licenseplate, first_name FROM public.rtr_iot_driver_data ORDER BY 1, 2").await?;
        Ok(rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect())
    }
}

fn row(first_name: &str, plate: &str) -> String {
    format!("{first_name},Ink,{plate},a@example.com,\"1 Mill Row, Apt 9\",Foxgallow,Iowa,501,515-555-0100,5155550100")
}

fn counts(report: &Value) -> [Option<u64>; 6] {
    ["rows", "sent", "staged", "merged", "rejected", "duplicates"].map(|key| report[key].as_u64())
}

fn drivers(drivers: &[(&str, &str)]) -> Vec<(String, String)> {
    drivers.iter().map(|(plate, name)| ((*plate).to_owned(), (*name).to_owned())).collect()
}

#[tokio::test]
async fn rows_go_by_copy_and_merge_once_and_newer_files_update_drivers_in_place() -> Result<()> {
    let bench = Bench::new().await?;
    let rows = [row("Old", "RS-1"), row("Ana", "95B•140"), row("Bea", "RS-2"), row("New", " rs-1 "), row("Cid", "a\\tb")];
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let file = bench.file(&rows)?;
    let (report, code) = bench.load(&file, &[]).await?;
    assert_eq!((report["state"].as_str(), report["warehouse"].as_str(), code), (Some("committed"), Some("redshift"), Some(0)));
    assert_eq!(counts(&report), [5, 5, 5, 4, 0, 1].map(Some));
    assert_eq!(bench.drivers().await?, drivers(&[(" rs-1 ", "New"), ("95B•140", "Ana"), ("RS-2", "Bea"), ("a\\tb", "Cid")]));
    let copies = bench.redshift.statements("COPY");
    assert_eq!(copies.len(), 1);
    assert!(copies[0].contains("/manifests/") && copies[0].contains("IAM_ROLE default MANIFEST"), "{}", copies[0]);
    assert_eq!(bench.redshift.statements("MERGE").len(), 1);
    assert_eq!(bench.redshift.statements("INSERT INTO rtr_iot_stage"), Vec::<String>::new());

    let (again, code) = bench.load(&file, &[]).await?;
    assert_eq!((again["state"].as_str(), code), (Some("already_loaded"), Some(0)));
    assert_eq!(bench.redshift.statements("COPY").len(), 1, "nothing is copied for a load that is known");

    let newer = [row("Newest", "RS-1"), row("Dan", "RS-3")];
    let file = bench.file(&[&newer[0], &newer[1]])?;
    let (report, _) = bench.load(&file, &[]).await?;
    assert_eq!(counts(&report), [2, 2, 2, 2, 0, 0].map(Some));
    let expected = [("95B•140", "Ana"), ("RS-1", "Newest"), ("RS-2", "Bea"), ("RS-3", "Dan"), ("a\\tb", "Cid")];
    assert_eq!(bench.drivers().await?, drivers(&expected), "another spelling of a plate is the same driver");
    Ok(())
}

#[tokio::test]
async fn rows_that_copy_refuses_are_put_aside_with_their_line_and_the_rest_is_loaded() -> Result<()> {
    let bench = Bench::empty().await?;
    bench.redshift.run(NARROW).await?;
    bench.redshift.run(SCHEMA).await?;
    let wide = row("Bea", "NR-2").replace("Foxgallow", "Peña•a");
    let fits = row("Ana", "NR-1").replace("Foxgallow", "Foxgal");
    let file = bench.file(&[&fits, &wide, "ragged,row", &fits.replace("NR-1", "NR-3")])?;
    let frozen = bench.loader(&["load", &file.to_string_lossy()]).await?;
    assert_eq!(frozen.code, Some(5), "{frozen:?}");
    assert!(frozen.err.contains("ALTER TABLE public.rtr_iot_driver_data ALTER COLUMN city TYPE VARCHAR(256)"), "{}", frozen.err);

    // Seven characters would pass PostgreSQL; they are ten bytes.
    let (report, code) = bench.load(&file, &["--on-drift", "discard"]).await?;
    assert_eq!((counts(&report), code), ([4, 3, 3, 2, 2, 0].map(Some), Some(3)));
    assert_eq!(report["refused"].as_u64(), Some(1));
    assert_eq!(bench.drivers().await?, drivers(&[("NR-1", "Ana"), ("NR-3", "Ana")]));
    let rejects = rejects_of(&bench, &report)?;
    let refused = rejects.iter().find(|reject| reject["line"] == 3).context("the refused row is not put aside")?;
    assert_eq!(refused["column"], "city");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("1204")), "{refused}");
    assert_eq!(refused["raw"], wide.as_str());

    let file = bench.file(&[&wide])?;
    let (report, code) = bench.load(&file, &["--on-drift", "add"]).await?;
    assert_eq!((counts(&report), code), ([1, 1, 1, 1, 0, 0].map(Some), Some(0)));
    Ok(())
}

fn rejects_of(bench: &Bench, report: &Value) -> Result<Vec<Value>> {
    let load_id = report["load_id"].as_str().context("no load id")?;
    let text = std::fs::read_to_string(bench.folder.path().join("rejects").join(format!("{load_id}.ndjson")))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up_and_nothing_is_doubled() -> Result<()> {
    let bench = Bench::new().await?;
    let file = bench.file(&[&row("Ana", "LC-1"), &row("Bea", "LC-2")])?;
    bench.redshift.lose_next_commit();
    let (report, code) = bench.load(&file, &[]).await?;
    assert_eq!((counts(&report), code), ([2, 2, 2, 2, 0, 0].map(Some), Some(0)));
    assert_eq!(bench.redshift.statements("COPY").len(), 1, "it is looked up, not done again");
    assert_eq!(bench.drivers().await?, drivers(&[("LC-1", "Ana"), ("LC-2", "Bea")]));
    assert_eq!(bench.redshift.run("SELECT count(*) FROM public.rtr_iot_load_ledger").await?, [["1"]]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_another_one_crossed_is_repeated_as_a_whole() -> Result<()> {
    let bench = Bench::new().await?;
    let file = bench.file(&[&row("Ana", "SF-1"), &row("Bea", "SF-2")])?;
    bench.redshift.fail_next_merge();
    let (report, code) = bench.load(&file, &[]).await?;
    assert_eq!((counts(&report), code), ([2, 2, 2, 2, 0, 0].map(Some), Some(0)));
    let copies = bench.redshift.statements("COPY");
    assert_eq!(copies.len(), 2);
    assert_ne!(copies[0], copies[1], "each try has a manifest of its own");
    assert_eq!(bench.drivers().await?, drivers(&[("SF-1", "Ana"), ("SF-2", "Bea")]));
    Ok(())
}

#[tokio::test]
async fn a_plan_shows_what_is_missing_and_changes_nothing_until_it_is_asked_for() -> Result<()> {
    let bench = Bench::empty().await?;
    let planned = bench.loader(&["plan"]).await?;
    let plan = planned.json()?;
    assert_eq!((planned.code, plan["warehouse"].as_str(), plan["fits"].as_bool()), (Some(3), Some("redshift"), Some(false)));
    assert_eq!(plan["ddl"].as_array().map(Vec::len), Some(2));
    assert!(plan["ddl"][0].as_str().is_some_and(|ddl| ddl.contains("DISTKEY (licenseplate)")), "{plan}");
    assert_eq!(bench.redshift.statements("CREATE"), Vec::<String>::new());

    let file = bench.file(&[&row("Ana", "PL-1")])?;
    let (report, code) = bench.load(&file, &["--on-drift", "add"]).await?;
    assert_eq!((counts(&report), code), ([1, 1, 1, 1, 0, 0].map(Some), Some(0)));
    let planned = bench.loader(&["plan"]).await?;
    assert_eq!((planned.code, planned.json()?["fits"].as_bool()), (Some(0), Some(true)));

    bench.redshift.run("ALTER TABLE public.rtr_iot_driver_data DROP COLUMN email").await?;
    let file = bench.file(&[&row("Bea", "PL-2")])?;
    let (report, code) = bench.load(&file, &["--on-drift", "discard"]).await?;
    assert_eq!((counts(&report), code), ([1, 1, 1, 1, 0, 0].map(Some), Some(0)));
    assert_eq!(report["left_out"], serde_json::json!(["email"]));
    Ok(())
}

#[tokio::test]
async fn the_nodes_lookup_is_fit_for_redshift() -> Result<()> {
    let bench = Bench::new().await?;
    let file = bench.file(&[&row("Ana", "LK-1"), &row("Bea", " lk-2 "), &row("Cid", "95B•140")])?;
    bench.load(&file, &[]).await?;
    let options = WarehouseOptions {
        application_name: "redshift tests".to_owned(),
        max_connections: 2,
        connect_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
        ca_file: None,
    };
    let backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1) };
    let budget = RetryBudget { backoff, most_elapsed: Duration::from_secs(60) };
    let limits = CallLimits { timeout: Duration::from_secs(30), budget, calls: Calls::unwatched() };
    let directory: Arc<dyn DriverDirectory> =
        Arc::new(RedshiftDriverDirectory::new(warehouse_pool(bench.redshift.url(), &options)?, limits));
    let plates: Vec<PlateKey> = ["LK-1", "LK-2", "95B•140", "UNKNOWN"].map(PlateKey::of).into();
    let found = directory.drivers(&plates).await.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    assert_eq!(found.len(), 3);
    assert_eq!(&*found[&PlateKey::of("lk-2")].first_name, "Bea");
    Ok(())
}

#[tokio::test]
async fn all_drivers_are_fetched_through_a_cursor_that_redshift_has() -> Result<()> {
    let bench = Bench::new().await?;
    let rows: Vec<String> = (0..2_300).map(|n| row("Ana", &format!("CU-{n}"))).collect();
    bench.load(&bench.file(&rows.iter().map(String::as_str).collect::<Vec<_>>())?, &[]).await?;
    let options = WarehouseOptions {
        application_name: "redshift tests".to_owned(),
        max_connections: 1,
        connect_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(30),
        ca_file: None,
    };
    let pool = warehouse_pool(bench.redshift.url(), &options)?;
    // Twice, since the one connection must be fit for use again.
    for columns in [&["licenseplate", "first_name"][..], &[]] {
        let failed = |failure| anyhow::anyhow!("{failure}");
        let mut cursor = DriverRows::open(&pool, columns, Duration::from_secs(30)).await.map_err(failed)?;
        let (mut plates, mut n_rows) = (BTreeSet::new(), 0);
        loop {
            let rows = cursor.next().await.map_err(failed)?;
            ensure!(rows.len() <= 1_000 && rows.iter().all(|row| row.len() == columns.len()), "{} rows", rows.len());
            if rows.is_empty() {
                break;
            }
            n_rows += rows.len();
            plates.extend(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()));
        }
        ensure!(n_rows == 2_300 && (columns.is_empty() || plates.len() == 2_300), "{n_rows} rows, {} plates", plates.len());
    }
    Ok(())
}

#[tokio::test]
async fn the_stand_in_refuses_what_a_cluster_refuses() -> Result<()> {
    let bench = Bench::new().await?;
    let (client, connection) = tokio_postgres::connect(bench.redshift.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    let code = |error: tokio_postgres::Error| error.code().map(|code| code.code().to_owned()).unwrap_or_default();
    let plates: Vec<&str> = vec!["A", "B"];
    let arrays = client.query("SELECT 1 FROM public.rtr_iot_driver_data WHERE licenseplate = ANY($1)", &[&plates]).await;
    assert_eq!(arrays.map_err(code).err().as_deref(), Some("22P03"));
    for (sql, expected) in [
        ("INSERT INTO public.rtr_iot_driver_data (licenseplate) VALUES ('A') ON CONFLICT DO NOTHING", "42601"),
        ("INSERT INTO public.rtr_iot_driver_data (licenseplate) VALUES ('A') RETURNING licenseplate", "42601"),
        ("SELECT rngtypid FROM pg_range", "42P01"),
        ("COPY public.rtr_iot_driver_data (licenseplate) FROM STDIN", "42601"),
        ("INSERT INTO public.rtr_iot_driver_data (licenseplate, zipcode) VALUES ('A', '•••••••')", "22001"),
        ("COPY public.rtr_iot_driver_data (licenseplate) FROM 's3://b/k' IAM_ROLE default FORMAT CSV", "42601"),
    ] {
        let refused = client.batch_execute(sql).await.map_err(code);
        assert_eq!(refused.err().as_deref(), Some(expected), "{sql}");
    }
    let version: String = client.query_one("SELECT version()::varchar", &[]).await?.get(0);
    ensure!(version.starts_with("PostgreSQL 8.0.2") && version.contains("Redshift"), "{version}");
    // TRUNCATE commits, so nothing is left to roll back.
    client.batch_execute("BEGIN").await?;
    client.batch_execute("INSERT INTO public.rtr_iot_driver_data (licenseplate) VALUES ('A')").await?;
    client.batch_execute("TRUNCATE public.rtr_iot_load_ledger").await?;
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(bench.drivers().await?, drivers(&[("A", "NULL")]));
    connection.abort();
    Ok(())
}
