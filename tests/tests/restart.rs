//! kill -9 of the node while it works: nothing is lost, and no more texts repeat than were on their way.

use std::time::Duration;

use anyhow::{Result, ensure};
use speedtrap_tests::commands;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::node::Node;
use speedtrap_tests::oracle::Expected;
use speedtrap_tests::process::Process;
use speedtrap_tests::sandbox::Sandbox;

/// `notify.in_flight` at its default.
const IN_FLIGHT: usize = 4;
const READINGS: u64 = 20_000;
const LIMIT: Duration = Duration::from_secs(400);

#[tokio::test]
async fn a_killed_node_loses_nothing_and_repeats_at_most_what_was_in_flight() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let rows = READINGS.to_string();
    let (drivers, readings) =
        sandbox.make_files(&["--rows", "500"], &["--rows", &rows, "--seed", "3", "--unknown-share", "0.02"]).await?;
    let expected = Expected::of(&drivers, &readings)?;
    sandbox.load(&drivers).await?;

    let mut node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let mut command = commands::device(&sandbox.endpoints, &readings)?;
    command.args(["--rate", "500"]);
    let mut device = Process::start_with_output("device", command, sandbox.folder())?;
    // In the middle: some texts are sent, and readings still come in.
    eventually("texts are on their way", LIMIT, || async {
        let status = node.status().await?;
        ensure!(status.ended("notify", "notified") >= 200 && status.all_ended("enrich") >= 2_000, "{}", status.json());
        Ok(())
    })
    .await?;
    device.check_running()?;
    node.process.kill().await?;

    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    ensure!(device.ended(LIMIT).await?.code() == Some(0), "the device failed: {}", device.log_tail());
    // What the killed node had counted since it was last asked is known to nobody, so effects are compared, not counts.
    eventually("the new node has done the rest", LIMIT, || async {
        let status = node.status().await?;
        ensure!(status.is_idle() && status.all_ended("notify") > 0, "{}", status.json());
        Ok(())
    })
    .await?;
    let found = sandbox.reconciled(&expected, LIMIT).await?;
    let (repeated, possible) = (found.repeated_texts(), node.status().await?.possible_repeats());
    println!("{} texts, {repeated} of them repeated; the node counted {possible} possible repeats", expected.textable());
    ensure!(repeated <= IN_FLIGHT, "{repeated} texts were repeated");
    ensure!(possible as usize >= repeated, "{repeated} texts were repeated, {possible} counted");
    ensure!(found.letters.len() == expected.known() - expected.textable(), "{:?}", found.letters);
    node.stop().await?;
    sandbox.end().await
}
