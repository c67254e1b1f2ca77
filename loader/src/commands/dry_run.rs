//! `load --dry-run`: what a load would do, asked of the warehouse itself; nothing is changed there and nothing sent to Firehose.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc;

use super::CliError;
use super::output::print;
use crate::aws::Bucket;
use crate::config::{AwsEnvironment, LoaderConfig};
use crate::contract::Contract;
use crate::csv_rows::DriverRow;
use crate::fault::{LoadFault, Remote};
use crate::judge::{Judge, Verdict};
use crate::load::warehouse;
use crate::load_file::{LoadFile, Source};
use crate::ports::Warehouse as _;
use crate::progress::Progress;
use crate::warehouse::{Quarantine, Server};

/// Rows handed to the warehouse at once, and how many such chunks may wait.
const ROWS_PER_CHUNK: usize = 500;
const CHUNKS_IN_FLIGHT: usize = 4;

/// What would become of one file.
#[derive(Debug, Serialize)]
struct DryRunReport {
    load_id: String,
    file: String,
    state: &'static str,
    warehouse: Server,
    /// The ledger has the load: it would change nothing.
    already_loaded: bool,
    rows: u64,
    /// Rows that would be put aside, those that the warehouse refuses included.
    rejected: u64,
    refused: Vec<Refused>,
    /// `None` where the warehouse only checks rows.
    would_merge: Option<u64>,
    would_update: Option<u64>,
    would_insert: Option<u64>,
    duplicates: Option<u64>,
    /// What `--on-drift add` would run first.
    ddl: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Refused {
    line: u64,
    column: Option<String>,
    detail: String,
}

/// Asks the warehouse about one file.
pub(super) async fn dry_run(
    config: &LoaderConfig,
    aws: &AwsEnvironment,
    sdk: &aws_config::SdkConfig,
    (source, path): (Source, &Path),
    json: bool,
) -> Result<u8, CliError> {
    let contract = Arc::new(Contract::chosen(config.contract.as_deref())?);
    let crashed = |error: tokio::task::JoinError| LoadFault::Crashed(error.to_string());
    let owned = path.to_owned();
    let identified = tokio::task::spawn_blocking(move || LoadFile::identify_as(source, &owned, &contract));
    let file = identified.await.map_err(crashed)??;
    let warehouse = warehouse(config)?;
    let path_style = config.s3.path_style.unwrap_or(aws.endpoint_url.is_some());
    let bucket = Bucket::new(sdk, &config.bucket(), &config.s3.prefix, path_style);
    let quarantine = Quarantine { folder: config.rejects_dir.clone(), file: file.clone(), progress: Progress::default() };
    let (sender, rows) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let reading = tokio::task::spawn_blocking(move || read(&file, &sender));
    let asked = warehouse.dry_run(rows, &bucket, &quarantine).await;
    let (n_rows, n_rejected) = reading.await.map_err(crashed)??;
    let asked = asked?;
    let LoadFile { load_id, name, .. } = quarantine.file;
    // A warehouse without its tables knows no load.
    let known = if asked.plan.differences.is_empty() {
        warehouse.find_load(&load_id).await.map_err(|error| Remote::Warehouse.fault(error))?
    } else {
        None
    };
    let n_refused = asked.refused.len() as u64;
    let merged = asked.merged.map(|merged| merged.merged);
    let updated = asked.merged.map(|merged| merged.updated);
    let report = DryRunReport {
        load_id,
        file: name,
        state: "dry_run",
        warehouse: asked.plan.warehouse,
        already_loaded: known.is_some(),
        rows: n_rows,
        rejected: n_rejected + n_refused,
        refused: asked
            .refused
            .into_iter()
            .map(|refused| Refused { line: refused.row.line, column: refused.column, detail: refused.detail })
            .collect(),
        would_merge: merged,
        would_update: updated,
        would_insert: merged.zip(updated).map(|(merged, updated)| merged.saturating_sub(updated)),
        duplicates: merged.map(|merged| n_rows.saturating_sub(n_rejected + n_refused + merged)),
        ddl: asked.plan.ddl().map(str::to_owned).collect(),
    };
    print(&report, json, words(&report))?;
    Ok(if report.rejected > 0 { 3 } else { 0 })
}

/// Reads and judges the file as a load would; gives how many rows it has and how many of them are bad.
fn read(file: &LoadFile, rows: &mpsc::Sender<Vec<DriverRow>>) -> Result<(u64, u64), LoadFault> {
    let fault = |cause| LoadFault::File { path: file.path.clone(), cause };
    let mut judge = Judge::new(Arc::clone(&file.contract));
    let mut source = file.rows(BufReader::new(file.read(&Progress::default()))).map_err(fault)?;
    let (mut n_rows, mut n_rejected, mut chunk) = (0, 0, Vec::new());
    while let Some(row) = source.next_row().map_err(fault)? {
        n_rows += 1;
        match judge.judge(row) {
            Verdict::Load { row, .. } => chunk.push(row),
            Verdict::Reject(_) => n_rejected += 1,
        }
        // The warehouse says by itself why it wants no more.
        if chunk.len() == ROWS_PER_CHUNK && rows.blocking_send(std::mem::take(&mut chunk)).is_err() {
            return Ok((n_rows, n_rejected));
        }
    }
    if !chunk.is_empty() {
        let _ended = rows.blocking_send(chunk);
    }
    Ok((n_rows, n_rejected))
}

fn words(report: &DryRunReport) -> String {
    let mut text = format!(
        "{}: dry run on {}, nothing changed\n  rows         {:>10}\n  rejected     {:>10}",
        report.file,
        report.warehouse.name(),
        report.rows,
        report.rejected
    );
    match (report.would_update, report.would_insert, report.duplicates) {
        (Some(updated), Some(inserted), Some(duplicates)) => text.push_str(&format!(
            "\n  would update {updated:>10}\n  would insert {inserted:>10}\n  duplicates   {duplicates:>10}  \
             (their plate comes again later in the file)"
        )),
        _ => text.push_str("\n  COPY … NOLOAD has checked the other rows; what they would update is not known"),
    }
    for refused in &report.refused {
        let column = refused.column.as_deref().unwrap_or("-");
        text.push_str(&format!("\n  line {}, {column}: {}", refused.line, refused.detail));
    }
    for ddl in &report.ddl {
        text.push_str(&format!("\n  differs; `--on-drift add` would run: {ddl};"));
    }
    if report.already_loaded {
        text.push_str("\n  this very file is loaded already: loading it again would change nothing");
    }
    text
}
