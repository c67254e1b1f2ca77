//! A service that refuses connections for a minute: no dead letter comes of it, and everything arrives afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::node::Node;
use speedtrap_tests::oracle::Expected;
use speedtrap_tests::proxy::Proxy;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::{commands, node};
use tokio::process::Command;

/// Seconds that a service is away; more may be asked for by the environment.
const OUTAGE_SECONDS: u64 = 60;
/// Lanes come back after 30 s of backoff at most.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_warehouse_refused_costs_no_event() -> Result<()> {
    let through = |proxy: &Proxy, sandbox: &Sandbox, command: &mut Command| {
        command.env("SPEEDTRAP_WAREHOUSE__URL", proxy.instead_of(&sandbox.endpoints.warehouse_url)?);
        Ok(())
    };
    outage("warehouse", |sandbox| &sandbox.endpoints.warehouse_url, through).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_refused_costs_no_event() -> Result<()> {
    outage("dynamodb", |sandbox| &sandbox.endpoints.aws_endpoint_url, through_variable("AWS_ENDPOINT_URL_DYNAMODB")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sns_refused_costs_no_event() -> Result<()> {
    outage("sns", |sandbox| &sandbox.endpoints.aws_endpoint_url, through_variable("AWS_ENDPOINT_URL_SNS")).await
}

fn through_variable(name: &'static str) -> impl Fn(&Proxy, &Sandbox, &mut Command) -> Result<()> {
    move |proxy, sandbox, command| {
        command.env(name, proxy.instead_of(&sandbox.endpoints.aws_endpoint_url)?);
        Ok(())
    }
}

/// Readings come before the outage, all through it and after it.
async fn outage(
    name: &str,
    upstream: impl Fn(&Sandbox) -> &str,
    through: impl Fn(&Proxy, &Sandbox, &mut Command) -> Result<()>,
) -> Result<()> {
    let seconds = match std::env::var("SPEEDTRAP_TEST_OUTAGE_SECONDS") {
        Ok(text) => text.parse().context("SPEEDTRAP_TEST_OUTAGE_SECONDS is no number")?,
        Err(_) => OUTAGE_SECONDS,
    };
    let sandbox = Sandbox::up().await?;
    let (drivers, before) = sandbox.make_files(&["--rows", "400"], &["--rows", "100", "--seed", "1"]).await?;
    let of = drivers.to_str().context("a path that is UTF-8")?;
    let rows = (10 * seconds).to_string();
    let arguments = ["readings", "--drivers", of, "--rows", &rows, "--seed", "2"];
    let during = commands::make_csv(sandbox.folder(), "during.csv", &arguments).await?;
    let arguments = ["readings", "--drivers", of, "--rows", "100", "--seed", "3"];
    let after = commands::make_csv(sandbox.folder(), "after.csv", &arguments).await?;
    let mut expected = Expected::of(&drivers, &before)?;
    sandbox.load(&drivers).await?;

    let mut proxy = Proxy::before(upstream(&sandbox)).await?;
    let mut set = Ok(());
    let node =
        Node::start_with(&sandbox.endpoints, sandbox.folder(), "node-1", |command| set = through(&proxy, &sandbox, command));
    let node = node.await?;
    set?;
    sandbox.publish(&before, 0).await?;
    sandbox.reconciled(&expected, LIMIT).await?;

    proxy.refuse().await;
    let refused = tokio::time::Instant::now();
    // 10 readings a second for as long as the outage lasts.
    sandbox.publish(&during, 10).await?;
    tokio::time::sleep_until(refused + Duration::from_secs(seconds)).await;
    let texted = node::status(&node.url).await?.ended("notify", "notified");
    proxy.accept().await?;
    println!("{name} was refused for {:.0} s", refused.elapsed().as_secs_f64());

    expected.add_readings(&during)?;
    ensure!(texted < expected.textable() as u64, "the outage of {name} was not felt");
    sandbox.publish(&after, 0).await?;
    expected.add_readings(&after)?;
    let back = tokio::time::Instant::now();
    let found = sandbox.reconciled(&expected, LIMIT).await.with_context(|| node.process.log_tail())?;
    println!("{name} was back for {:.1} s when everything had arrived", back.elapsed().as_secs_f64());
    ensure!(found.letters.is_empty(), "dead letters came of an outage of {name}: {:?}", found.letters);
    ensure!(found.repeated_texts() <= 4, "{} texts were repeated", found.repeated_texts());
    eventually("nothing is left", LIMIT, || async {
        let status = node::status(&node.url).await?;
        ensure!(status.is_idle(), "{}", status.json());
        Ok(())
    })
    .await?;
    node.stop().await?;
    sandbox.end().await
}
