//! The loader against the local cloud: every row arrives once, whatever happens to the loader on the way.
//!
//! `SPEEDTRAP_TEST_ENDPOINTS` names an endpoints.json with `aws_endpoint_url`, `region`, `access_key_id`, `secret_access_key` and
//! `warehouse_url` of a cloud in which deploy/aws/speedtrap.yaml and data/schema/warehouse.sql have been applied.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio_postgres::NoTls;

const HEADER: &str = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";

struct Cloud {
    endpoints: Value,
    folder: tempfile::TempDir,
    /// Part of every plate, so that tests and their repetitions do not meet.
    mark: String,
}

impl Cloud {
    fn new(test: &str) -> Self {
        let path = std::env::var("SPEEDTRAP_TEST_ENDPOINTS")
            .expect("SPEEDTRAP_TEST_ENDPOINTS must name the endpoints.json of a running local cloud");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read `{path}`: {error}"));
        let endpoints = serde_json::from_str(&text).expect("endpoints.json is JSON");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
        Self { endpoints, folder: tempfile::tempdir().expect("a folder"), mark: format!("{test}{now}") }
    }

    fn endpoint(&self, name: &str) -> &str {
        self.endpoints[name].as_str().unwrap_or_else(|| panic!("endpoints.json has no `{name}`"))
    }

    /// Drivers with CRLF, quoted commas, characters of several bytes, and no newline at the end.
    fn drivers(&self, rows: usize) -> PathBuf {
        let path = self.folder.path().join("drivers.csv");
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        write!(file, "{HEADER}").expect("written");
        for n in 0..rows {
            let plate = format!("{}•{n}", self.mark);
            write!(file, "\r\nName{n},Ink,{plate},a@example.com,\"{n} Mill Row, Apt 9\",Peña,Iowa,501,515-555-0100,5155550100")
                .expect("written");
        }
        path
    }

    fn loader(&self, file: &Path) -> Command {
        let mut command = Command::new(program("speedtrap-loader"));
        command.arg("load").arg(file).arg("--json").arg("--rejects-dir").arg(self.folder.path().join("rejects"));
        command.arg("--state-dir").arg(self.folder.path().join("state"));
        command
            .env("AWS_ENDPOINT_URL", self.endpoint("aws_endpoint_url"))
            .env("AWS_REGION", self.endpoint("region"))
            .env("AWS_ACCESS_KEY_ID", self.endpoint("access_key_id"))
            .env("AWS_SECRET_ACCESS_KEY", self.endpoint("secret_access_key"))
            .env("SPEEDTRAP_LOADER_WAREHOUSE__URL", self.endpoint("warehouse_url"))
            .env("SPEEDTRAP_LOADER_S3__POLL", "200ms");
        command
    }

    fn load(&self, file: &Path) -> (Value, i32) {
        let Output { status, stdout, stderr } = self.loader(file).output().expect("the loader runs");
        let report = serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| panic!("no report: {error}\n{}", String::from_utf8_lossy(&stderr)));
        (report, status.code().expect("an exit code"))
    }

    /// Starts a load and kills it once its log says `message`.
    fn kill_at(&self, file: &Path, message: &str) {
        let mut child: Child = self.loader(file).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the loader runs");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let seen = log.lines().map_while(Result::ok).any(|line| line.contains(message));
        child.kill().expect("the loader was still there");
        child.wait().expect("an end");
        assert!(seen, "the loader ended without `{message}`");
    }

    /// Rows and distinct plates of this test in the warehouse.
    async fn stored(&self) -> (i64, i64) {
        let (client, connection) = tokio_postgres::connect(self.endpoint("warehouse_url"), NoTls).await.expect("a warehouse");
        let connection = tokio::spawn(connection);
        let sql = "SELECT count(*), count(DISTINCT licenseplate) FROM public.rtr_iot_driver_data WHERE licenseplate LIKE $1";
        let row = client.query_one(sql, &[&format!("{}%", self.mark)]).await.expect("counts");
        connection.abort();
        (row.get(0), row.get(1))
    }
}

/// A program beside the test's own folder; `cargo build --bins` makes it.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.parent().and_then(Path::parent).expect("target/<profile>");
    let path = folder.join(name);
    assert!(path.exists(), "`{}` is missing: run `cargo build --bins` first", path.display());
    path
}

fn counts(report: &Value) -> [u64; 6] {
    ["rows", "sent", "staged", "merged", "rejected", "duplicates"].map(|key| report[key].as_u64().expect("a count"))
}

#[tokio::test]
async fn a_thousand_rows_arrive_as_a_thousand_rows_and_a_second_load_changes_nothing() {
    let cloud = Cloud::new("THOU");
    let file = cloud.drivers(1_000);
    let (report, code) = cloud.load(&file);
    assert_eq!((report["state"].as_str(), code), (Some("committed"), 0));
    assert_eq!(counts(&report), [1_000, 1_000, 1_000, 1_000, 0, 0]);
    assert_eq!(cloud.stored().await, (1_000, 1_000));

    let (again, code) = cloud.load(&file);
    assert_eq!((again["state"].as_str(), code), (Some("already_loaded"), 0));
    assert_eq!(again["load_id"], report["load_id"]);
    assert_eq!(cloud.stored().await, (1_000, 1_000));
}

#[tokio::test]
async fn a_newer_file_updates_drivers_in_place_and_bad_rows_are_put_aside() {
    let cloud = Cloud::new("NEWER");
    let file = cloud.drivers(20);
    cloud.load(&file);
    let mut text = std::fs::read_to_string(&file).expect("text").replace("Name7,", "Changed,");
    text.push_str("\r\nragged,row\r\nName,Ink,,a@example.com,1 Row,Foxgallow,Iowa,50301,515-555-0100,5155550100");
    std::fs::write(&file, text).expect("written");
    let (report, code) = cloud.load(&file);
    assert_eq!((counts(&report), code), ([22, 20, 20, 20, 2, 0], 3));
    let rejects = std::fs::read_to_string(report["rejects_file"].as_str().expect("a file")).expect("rejects");
    let line_of = |reject: &str| serde_json::from_str::<Value>(reject).expect("JSON")["line"].as_u64().expect("a line");
    assert_eq!(rejects.lines().map(line_of).collect::<Vec<_>>(), [22, 23]);
    assert_eq!(cloud.stored().await, (20, 20));
}

#[tokio::test]
async fn a_load_killed_on_its_way_is_completed_by_the_next_one() {
    let cloud = Cloud::new("KILL");
    let file = cloud.drivers(20_000);
    for message in ["load begins", "first rows accepted", "all rows accepted", "all rows staged"] {
        cloud.kill_at(&file, message);
    }
    let (report, code) = cloud.load(&file);
    assert_eq!(code, 0);
    // The last kill comes while rows are being merged, so that load may have been committed just before it died.
    assert_eq!((report["rows"].as_u64(), report["merged"].as_u64()), (Some(20_000), Some(20_000)));
    assert_eq!(cloud.stored().await, (20_000, 20_000));
}
