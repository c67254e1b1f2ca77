//! `speedtrap-sql` over the live streams, while nodes consume them: the examples of the README tell what plain clients count, persons
//! are masked, nothing is written, and a long query in windows needs little memory and holds no lane up.

mod examples;
mod lag;
mod seen;
mod windows;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use speedtrap_tests::commands::{Ended, run};
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(120);

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
