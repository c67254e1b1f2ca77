//! The unit for systemd: what it starts ends in good order when the unit is stopped, in the time that the unit gives, and before an
//! Auto Scaling group takes the machine away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::{StatusCode, Uri};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::leases::leases;
use speedtrap_tests::process::Process;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;

/// The value of a key of a unit, the last one if there are several.
fn setting<'a>(unit: &'a str, key: &str) -> Result<&'a str> {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next_back().with_context(|| format!("the unit has no {key}"))
}

fn unit() -> Result<String> {
    Ok(fs::read_to_string(programs::workspace().join("deploy/systemd/speedtrap.service"))?)
}

fn seconds(text: &str) -> Result<u64> {
    text.trim_matches('"').trim_end_matches('s').parse().with_context(|| format!("`{text}` is not in seconds"))
}

#[test]
fn the_unit_and_the_group_wait_for_a_drain() -> Result<()> {
    let workspace = programs::workspace();
    let defaults = fs::read_to_string(workspace.join("deploy/speedtrap.toml"))?;
    let section = defaults.split_once("[drain]").context("no [drain]")?.1;
    let drain = section.lines().find_map(|line| line.strip_prefix("timeout = ")).context("no drain.timeout")?;
    let compute = fs::read_to_string(workspace.join("deploy/aws/compute.yaml"))?;
    let hook = compute.lines().find_map(|line| line.trim().strip_prefix("HeartbeatTimeout: ")).context("no hook")?;
    let unit = unit()?;
    let stop = seconds(setting(&unit, "TimeoutStopSec")?)?;
    ensure!(stop > seconds(drain)?, "the unit kills after {stop} s, a drain takes up to {drain}");
    ensure!(seconds(hook)? > stop, "the group waits {hook} s, the unit {stop} s");
    ensure!(setting(&unit, "KillSignal")? == "SIGTERM");
    Ok(())
}

#[tokio::test]
async fn stopping_the_unit_drains_the_node() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let unit = unit()?;
    let folder = sandbox.folder().join("unit");
    fs::create_dir(&folder)?;
    let place = folder.to_str().context("the temporary folder has a name that is no UTF-8")?;
    fs::copy(programs::workspace().join("deploy/speedtrap.toml"), folder.join("speedtrap.toml"))?;

    // The unit's own command, with its folders put below ours.
    let line = setting(&unit, "ExecStart")?.strip_prefix("/usr/local/bin/speedtrap ").context("another program")?;
    let line = line.replace("/etc/speedtrap", place).replace("/run/speedtrap", place).replace("%l", "node-1");
    let mut command = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.args(line.split(' ')).env("STATE_DIRECTORY", place);
    command.env("SPEEDTRAP_WAREHOUSE__URL", &sandbox.endpoints.warehouse_url).env("SPEEDTRAP_DASHBOARD__LISTEN", "127.0.0.1:0");
    let mut node = Process::start("node-1", command, sandbox.folder())?;
    let held = async || {
        let rows = leases(&sandbox.clients, "IotFastCarSensor").await?;
        anyhow::Ok(rows.iter().filter(|row| row.node().is_some()).count())
    };
    eventually("it holds the shards", Duration::from_secs(60), || async {
        ensure!(folder.join("ready.json").exists() && held().await? == 2, "{}", node.log_tail());
        Ok(())
    })
    .await?;

    node.signal(libc::SIGTERM)?;
    let stop = Duration::from_secs(seconds(setting(&unit, "TimeoutStopSec")?)?);
    let status = node.ended(stop).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", node.log_tail());
    ensure!(held().await? == 0, "leases were not given back");
    // systemd takes an end with 0 for wanted and starts nothing again.
    ensure!(setting(&unit, "Restart")? == "on-failure");
    sandbox.end().await
}

/// A program that writes down how it was called.
fn noting(folder: &Path, name: &str, log: &Path) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >> '{}'\n", log.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[tokio::test]
async fn a_machine_that_is_taken_away_lets_its_node_drain_first() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("calls");
    for program in ["systemctl", "aws"] {
        noting(folder.path(), program, &log)?;
    }
    let leaving = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&leaving);
    let metadata = Router::new().fallback(move |uri: Uri| async move {
        let found = match uri.path() {
            "/latest/api/token" => "token",
            "/latest/meta-data/instance-id" => "i-0123456789abcdef0",
            "/latest/meta-data/placement/region" => "eu-central-1",
            "/latest/meta-data/autoscaling/target-lifecycle-state" if state.load(Ordering::SeqCst) => "Terminated",
            "/latest/meta-data/autoscaling/target-lifecycle-state" => "InService",
            _ => return Err(StatusCode::NOT_FOUND),
        };
        Ok(found)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, metadata).await });

    let mut command = tokio::process::Command::new(programs::workspace().join("deploy/systemd/speedtrap-leave"));
    let path = std::env::var("PATH")?;
    command.env("PATH", format!("{}:{path}", folder.path().display())).env("SPEEDTRAP_LEAVE_GROUP", "speedtrap-nodes");
    command.env("SPEEDTRAP_LEAVE_METADATA", format!("http://{address}")).env("SPEEDTRAP_LEAVE_POLL_SECONDS", "0.1");
    let mut leave = Process::start("leave", command, folder.path())?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    leave.check_running()?;
    ensure!(!log.exists(), "it did something to a machine in service");
    leaving.store(true, Ordering::SeqCst);
    let status = leave.ended(Duration::from_secs(30)).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", leave.log_tail());
    let said = fs::read_to_string(&log)?;
    let expected = "systemctl stop speedtrap.service\n\
        aws autoscaling complete-lifecycle-action --lifecycle-hook-name drain --lifecycle-action-result CONTINUE \
        --auto-scaling-group-name speedtrap-nodes --instance-id i-0123456789abcdef0 --region eu-central-1\n";
    ensure!(said == expected, "{said}");
    server.abort();
    Ok(())
}
