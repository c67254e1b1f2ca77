//! A driver asks to be forgotten: what can be deleted is gone, others keep theirs, and what remains is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::primitives::Blob;
use serde_json::Value;
use speedtrap_tests::commands;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::evidence::{ALERTS_TABLE, items};
use speedtrap_tests::node::Node;
use speedtrap_tests::oracle::Expected;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::IN_STREAM;

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn one_driver_is_forgotten_and_no_other() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let (drivers, readings) = sandbox.make_files(&["--rows", "20"], &["--rows", "200", "--seed", "5"]).await?;
    let expected = Expected::of(&drivers, &readings)?;
    sandbox.load(&drivers).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    sandbox.publish(&readings, 0).await?;
    let before = sandbox.reconciled(&expected, LIMIT).await?;
    let plate = before.published.values().next().context("nothing was published")?.event.violation[0].clone();
    bad_records(&sandbox, &plate).await?;
    let letters = before.letters.len();
    eventually("two more dead letters", LIMIT, || async {
        let found = sandbox.evidence().await?.letters.len();
        ensure!(found == letters + 2, "{found} letters");
        Ok(())
    })
    .await?;

    let theirs = before.stored.values().filter(|stored| stored.violation[0] == plate).count();
    let dry = forget(&sandbox, &node, &plate.to_lowercase(), &["--dry-run"]).await?;
    ensure!(dry.0 == Some(3) && dry.1["deleted"]["violations"] == theirs && dry.1["dry_run"] == true, "{dry:?}");
    ensure!(sandbox.evidence().await?.stored.len() == before.stored.len(), "a dry run deleted something");

    let (code, done) = forget(&sandbox, &node, &plate, &["--yes"]).await?;
    ensure!(code == Some(3), "a letter that cannot be read is left for somebody to look at: {code:?} {done}");
    ensure!(done["deleted"]["violations"] == theirs && done["deleted"]["dead_letters"] == 1, "{done}");
    ensure!(done["deleted"]["alerts"] == theirs, "each of their violations was texted once: {done}");
    let kept = done["kept"].as_array().context("no list of what is kept")?;
    ensure!(kept.len() == 1 && kept[0].as_str().is_some_and(|it| it.contains("cannot be read")), "{done}");
    let places: Vec<&str> = done["remains"].as_array().into_iter().flatten().filter_map(|it| it["place"].as_str()).collect();
    for place in
        ["stream rtr-iot-kinesis-stream", "stream rtr-iot-kinesis-out-stream", "archive s3://", "warehouse", "change stream"]
    {
        ensure!(places.iter().any(|it| it.starts_with(place)), "nothing is said of {place}: {places:?}");
    }
    ensure!(!done.to_string().contains(&plate), "the plate is in the report: {done}");

    let after = sandbox.evidence().await?;
    ensure!(after.stored.values().all(|stored| stored.violation[0] != plate), "their items are still there");
    ensure!(after.stored.len() == before.stored.len() - theirs, "somebody else's items are gone");
    let claims = items(&sandbox.clients.dynamodb, ALERTS_TABLE).await?.len();
    ensure!(claims == before.published.len() - theirs, "{claims} claims are left");
    ensure!(after.letters.len() == letters + 1, "{:?}", after.letters);

    let audit = std::fs::read_to_string(sandbox.folder().join("audit-operator.ndjson"))?;
    ensure!(audit.lines().count() == 2 && !audit.contains(&plate), "intent and outcome, without the plate: {audit}");

    let again = forget(&sandbox, &node, "0-NOBODY", &["--yes"]).await?;
    ensure!(again.0 == Some(4) && again.1["deleted"]["violations"] == 0, "{again:?}");
    node.stop().await?;
    sandbox.end().await
}

/// One that says whom it is about and one that is broken.
async fn bad_records(sandbox: &Sandbox, plate: &str) -> Result<()> {
    for record in [format!(r#"{{"licensePlate":"{plate}","speed":"fast"}}"#), format!(r#"{{"licensePlate":"{plate}","#)] {
        let put = sandbox.clients.kinesis.put_record().stream_name(IN_STREAM).partition_key(plate);
        put.data(Blob::new(record.into_bytes())).send().await?;
    }
    Ok(())
}

async fn forget(sandbox: &Sandbox, node: &Node, plate: &str, flags: &[&str]) -> Result<(Option<i32>, Value)> {
    let (endpoints, audit) = (&sandbox.endpoints, sandbox.folder().join("audit-operator.ndjson"));
    let mut command = programs::command("speedtrap")?;
    endpoints.aws_environment(&mut command);
    command.env("SPEEDTRAP_WAREHOUSE__URL", &endpoints.warehouse_url).env("SPEEDTRAP_DASHBOARD__AUDIT_FILE", audit);
    command.args(["forget", plate, "--json", "--reason", "a request", "--node", &node.url]).args(flags);
    let ended = commands::run(command).await?;
    let report = serde_json::from_str(&ended.out).with_context(|| format!("no report: {ended:?}"))?;
    Ok((ended.code, report))
}
