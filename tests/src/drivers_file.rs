//! Drivers files made by tests, what the warehouse holds of them, and the loader that brings them there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use crate::commands::{self, Ended};
use crate::endpoints::Endpoints;
use crate::process::Process;
use crate::programs;

const HEADER: &str = "first_name,last_name,licensePlate,email,address,city,state,zipcode,phoneNumber,myphone";

/// A file of drivers whose plates begin with a mark of its own.
pub struct DriversFile {
    pub path: PathBuf,
    mark: String,
    rows: usize,
}

/// What the warehouse holds of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    pub rows: i64,
    pub plates: i64,
    /// Rows of the ledger of its load.
    pub ledger: i64,
}

impl DriversFile {
    /// Writes one, with CRLF and no newline at the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(folder: &Path, mark: &str, rows: usize) -> Result<Self> {
        let path = folder.join(format!("{mark}.csv"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        write!(file, "{HEADER}")?;
        for n in 0..rows {
            write!(
                file,
                "\r\nName{n},Ink,{mark}-{n},a@example.com,\"{n} Mill Row, Apt 9\",Foxgallow,Iowa,501,515-555-0100,5155550100"
            )?;
        }
        file.into_inner()?.sync_all()?;
        Ok(Self { path, mark: mark.to_owned(), rows })
    }

    /// What the warehouse must hold of it.
    #[must_use]
    pub fn expected(&self) -> Stored {
        let rows = i64::try_from(self.rows).unwrap_or(i64::MAX);
        Stored { rows, plates: rows, ledger: 1 }
    }

    /// What the warehouse holds of it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn stored(&self, endpoints: &Endpoints) -> Result<Stored> {
        let (client, connection) = tokio_postgres::connect(&endpoints.warehouse_url, tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let sql = "SELECT count(*), count(DISTINCT licenseplate), count(DISTINCT _load_id) FROM public.rtr_iot_driver_data \
                   WHERE licenseplate LIKE $1";
        let drivers = client.query_one(sql, &[&format!("{}-%", self.mark)]).await?;
        let sql = "SELECT count(*) FROM public.rtr_iot_load_ledger WHERE file = $1";
        let name = self.path.file_name().context("a name")?.to_string_lossy().into_owned();
        let ledger = client.query_one(sql, &[&name]).await?;
        connection.abort();
        ensure!(drivers.get::<_, i64>(2) <= 1, "rows of several loads");
        Ok(Stored { rows: drivers.get(0), plates: drivers.get(1), ledger: ledger.get(0) })
    }
}

/// A loader that is pointed at a local cloud and keeps all it writes in a folder.
///
/// # Errors
/// When it is not built.
pub fn loader(endpoints: &Endpoints, folder: &Path, subcommand: &str) -> Result<Command> {
    let mut command = programs::command("speedtrap-loader")?;
    endpoints.aws_environment(&mut command);
    command
        .env("SPEEDTRAP_LOADER_WAREHOUSE__URL", &endpoints.warehouse_url)
        .env("SPEEDTRAP_LOADER_STATE_DIR", folder.join("state"))
        .env("SPEEDTRAP_LOADER_REJECTS_DIR", folder.join("rejects"))
        // Many small records, so that there is something to be killed between.
        .env("SPEEDTRAP_LOADER_FIREHOSE__RECORD_BYTES", "64KiB")
        .env("SPEEDTRAP_LOADER_S3__POLL", "100ms");
    command.args([subcommand, "--json"]);
    Ok(command)
}

/// Loads a file to the end.
///
/// # Errors
/// When the loader does not run.
pub async fn load(mut command: Command, file: &Path) -> Result<Ended> {
    command.arg(file);
    commands::run(command).await
}

/// What `status` says of a file's load; `None` if it knows none.
///
/// # Errors
/// When it says something else.
pub async fn status(endpoints: &Endpoints, folder: &Path, file: &Path) -> Result<Option<Value>> {
    let mut command = loader(endpoints, folder, "status")?;
    command.arg(file.file_name().context("a name")?);
    // What happens is asked of the journal alone: the warehouse may be away.
    command.env_remove("SPEEDTRAP_LOADER_WAREHOUSE__URL");
    let ended = commands::run(command).await?;
    if ended.code == Some(4) {
        return Ok(None);
    }
    ensure!(ended.code == Some(0), "status failed: {ended:?}");
    ended.json().map(Some)
}

/// The most memory a process had resident, in MB, looked up until it ends.
///
/// # Errors
/// When it does not end in time.
pub async fn peak_mb_until_end(process: &mut Process, limit: Duration) -> Result<(u64, Option<i32>)> {
    let pid = process.pid()?;
    let until = Instant::now() + limit;
    let mut peak = 0;
    loop {
        peak = peak.max(peak_kb(pid).unwrap_or_default() / 1024);
        match process.ended(Duration::from_millis(100)).await {
            Ok(status) => return Ok((peak, status.code())),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => {}
        }
    }
}

fn peak_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
