//! The dashboard in a real browser, over three nodes: what it shows is what the commands say, and what is done on it happens.

mod equality;
mod faults;
mod look;
mod loss;
mod many;
mod operate;
mod shown;
mod signing_in;
mod strip;

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use speedtrap_tests::browser::Browser;
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::commands;
use speedtrap_tests::faults::Faults;
use speedtrap_tests::figures::say;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::process::Command;
use tokio::time::Instant;

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const SHARDS: u32 = 4;
const DRIVERS: u32 = 400;
const LIMIT: Duration = Duration::from_secs(60);
/// Whether the page has a frame of late.
const LIVE: &str = r#"return document.querySelector('[data-testid="live-state"]')?.dataset.value === 'live'"#;

/// Everything that a step works with.
struct Stage<'a> {
    sandbox: &'a Sandbox,
    traffic: Traffic,
    faults: Faults,
    cluster: Cluster<'a>,
    browser: Browser,
}

impl Stage<'_> {
    /// The address of a node's dashboard.
    fn url(&self, node: &str) -> Result<&str> {
        Ok(&self.cluster.node(node)?.url)
    }

    /// What a command says as JSON, asked of a node. Its exit code is left to others.
    async fn says(&self, node: &str, arguments: &[&str]) -> Result<Value> {
        let mut command = programs::command("speedtrap")?;
        command.args(arguments).args(["--json", "--node", self.url(node)?]);
        commands::run(command).await?.json().with_context(|| format!("speedtrap {arguments:?}"))
    }
}

/// One test, since nodes, cloud and browser take longer to start than most steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_shows_what_is_and_does_what_it_is_told() -> Result<()> {
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    let mix = Mix { seed: 21, violations: 0.5, bad_numbers: 0.0, unknown_plates: 10 };
    let traffic = Traffic::begin(&sandbox, DRIVERS, mix).await?;
    let faults = Faults::before(&sandbox, &NODES).await?;
    // After the proxies, which hold ports of the same range.
    let port = free_port()?;
    let wires = faults.wires();
    let settings = move |name: &str, command: &mut Command| {
        wires.wire(name, command);
        match name {
            // The one that serves the page has to be found again after a restart.
            "node-1" => command.env("SPEEDTRAP_DASHBOARD__LISTEN", format!("127.0.0.1:{port}")),
            "node-4" => command.args(["--synthetic-actors", &many::ACTORS.to_string()]),
            _ => command,
        };
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    cluster.start(&NODES).await?;
    cluster.fair(LIMIT).await?;
    cluster.idle(LIMIT).await?;
    let stage = Stage { sandbox: &sandbox, traffic, faults, cluster, browser: Browser::start().await? };
    play(stage).await?;
    sandbox.end().await
}

async fn play(mut stage: Stage<'_>) -> Result<()> {
    let begun = Instant::now();
    if let Err(error) = steps(&mut stage).await {
        stage.browser.picture("dashboard-failed").await?;
        println!("the page at that time: {}", stage.browser.text().await.unwrap_or_default());
        return Err(error.context(stage.cluster.logs()));
    }
    say("dashboard", &format!("the steps took {:.0} s", begun.elapsed().as_secs_f64()));
    stage.browser.end().await?;
    stage.cluster.stop().await
}

async fn steps(stage: &mut Stage<'_>) -> Result<()> {
    equality::paints_within_a_second(stage).await.context("the first paint")?;
    equality::equals_the_commands(stage).await.context("the overview beside the commands")?;
    operate::an_actor_of_another_node_is_killed(stage).await.context("an actor killed through the page")?;
    operate::dead_letters_go_back_once(stage).await.context("dead letters put back through the page")?;
    loss::a_killed_node_is_lost_and_found(stage).await.context("a killed node")?;
    loss::a_page_without_its_node_says_so(stage).await.context("a page without its node")?;
    faults::each_fault_of_another_node_is_found(stage).await.context("faults of another node")?;
    look::fits_small_and_large_windows(stage).await.context("windows and colours")?;
    many::two_thousand_actors(stage).await.context("2,000 actors")?;
    Ok(())
}

/// A port that no system gives to outgoing connections, so that a node that starts again finds it free.
fn free_port() -> Result<u16> {
    let start = std::process::id() as u16 % 10_000;
    let ports = (0..10_000).map(|n| 20_000 + (start + n) % 10_000);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.into_iter().find(is_free).context("no port is free")
}
