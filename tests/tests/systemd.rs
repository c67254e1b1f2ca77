//! The unit under systemd, with all that it shuts off: what `systemctl` does to a node.

use std::time::Duration;

use anyhow::{Result, ensure};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::leases::leases;
use speedtrap_tests::oracle::Expected;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::systemd::Systemd;

#[tokio::test]
async fn systemctl_starts_restarts_and_stops_a_node_in_good_order() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let (drivers, readings) = sandbox.make_files(&["--rows", "100"], &["--rows", "400", "--seed", "7"]).await?;
    let expected = Expected::of(&drivers, &readings)?;
    sandbox.load(&drivers).await?;
    let machine = Systemd::boot(sandbox.folder(), &sandbox.endpoints).await?;
    machine.systemctl(&["start", "speedtrap"]).await?;
    machine.ready().await?;
    let held = async || {
        let rows = leases(&sandbox.clients, "IotFastCarSensor").await?;
        anyhow::Ok(rows.iter().filter(|row| row.node().is_some()).count())
    };
    ensure!(held().await? == 2, "{} leases", held().await?);
    let user = machine.property("DynamicUser").await?;
    let first = machine.property("MainPID").await?;
    ensure!(user == "yes", "the unit has another user");

    // An upgrade: the node drains, and the new program goes on where it was.
    let publish = sandbox.publish(&readings, 50);
    let restart = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        machine.systemctl(&["restart", "speedtrap"]).await
    };
    let (published, restarted) = tokio::join!(publish, restart);
    published.and(restarted)?;
    machine.ready().await?;
    let second = machine.property("MainPID").await?;
    ensure!(first != second && machine.log().matches("\"drained\"").count() == 1, "{}", machine.log());
    let found = sandbox.reconciled(&expected, Duration::from_secs(60)).await?;
    ensure!(found.texts.len() as u64 >= 1, "nobody was texted");

    // Whatever ends it unasked starts it again.
    machine.systemctl(&["kill", "--signal=KILL", "speedtrap"]).await?;
    eventually("systemd starts it again", Duration::from_secs(20), || async {
        let now = machine.property("MainPID").await?;
        ensure!(now != "0" && now != second, "{now}");
        Ok(())
    })
    .await?;
    eventually("it holds the shards again", Duration::from_secs(60), || async {
        ensure!(held().await? == 2 && machine.property("NRestarts").await? == "1", "{}", held().await?);
        Ok(())
    })
    .await?;

    // What is stopped, or drained by an operator, stays down with its leases given back.
    for how in ["stop", "drain"] {
        machine.systemctl(&["start", "speedtrap"]).await?;
        let url = machine.ready().await?;
        if how == "stop" {
            machine.systemctl(&["stop", "speedtrap"]).await?;
        } else {
            let drained = machine.speedtrap(&["drain", "node-1", "--node", &url]).await?;
            ensure!(drained.code == Some(0), "{drained:?}");
        }
        eventually("it is down", Duration::from_secs(45), || async {
            let state = machine.property("ActiveState").await?;
            ensure!(state == "inactive", "{state}");
            Ok(())
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(machine.property("ActiveState").await? == "inactive" && held().await? == 0, "{how}: {} leases", held().await?);
        ensure!(machine.property("Result").await? == "success", "{how}: {}", machine.property("Result").await?);
    }
    sandbox.end().await
}
