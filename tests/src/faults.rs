//! Faults that tests put into a running cluster and repair again, and the readings by which nodes notice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_kinesis::primitives::Blob;
use serde_json::json;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::deadline::eventually;
use crate::proxy::Proxy;
use crate::sandbox::Sandbox;
use crate::streams::{self, IN_STREAM};
use crate::{commands, programs};

/// Seconds that a healthy run lasts; `SPEEDTRAP_HEALTHY_SECONDS=600` is what is promised.
const HEALTHY_SECONDS: u64 = 10;
/// Between two puts of the trickle.
const DRIP: Duration = Duration::from_millis(150);
/// A frozen actor is frozen within this time of the order.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// What stands between the nodes of a cluster and what they call: a proxy before the warehouse for each, one before SNS for all.
pub struct Faults {
    warehouses: BTreeMap<String, Proxy>,
    pub sns: Proxy,
    wires: Wires,
}

/// What nodes are started with so that they can be put through faults.
#[derive(Clone)]
pub struct Wires {
    warehouses: BTreeMap<String, String>,
    sns: String,
    folder: PathBuf,
}

/// Readings that flow until this is dropped: of known drivers, and of plates that no cache can know.
pub struct Trickle(JoinHandle<Result<()>>);

impl Faults {
    /// Nothing is wrong yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(sandbox: &Sandbox, nodes: &[&str]) -> Result<Self> {
        let (warehouse, aws) = (&sandbox.endpoints.warehouse_url, &sandbox.endpoints.aws_endpoint_url);
        let sns = Proxy::before(aws).await?;
        let (mut warehouses, mut urls) = (BTreeMap::new(), BTreeMap::new());
        for node in nodes {
            let proxy = Proxy::before(warehouse).await?;
            urls.insert((*node).to_owned(), proxy.instead_of(warehouse)?);
            warehouses.insert((*node).to_owned(), proxy);
        }
        let wires = Wires { warehouses: urls, sns: sns.instead_of(aws)?, folder: sandbox.folder().to_owned() };
        Ok(Self { warehouses, sns, wires })
    }

    /// How nodes have to be started.
    #[must_use]
    pub fn wires(&self) -> Wires {
        self.wires.clone()
    }

    /// The way of one node to the warehouse.
    ///
    /// # Errors
    /// When it has none of its own.
    pub fn warehouse(&mut self, node: &str) -> Result<&mut Proxy> {
        self.warehouses.get_mut(node).with_context(|| format!("{node} has no proxy before the warehouse"))
    }

    /// Freezes an actor of a node: it handles nothing more until it is ended.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn freeze(&self, node: &str, actor: &str) -> Result<()> {
        let file = self.wires.freeze_file(node);
        // Renamed, so that nobody reads half of it.
        let draft = file.with_extension("draft");
        std::fs::write(&draft, actor)?;
        std::fs::rename(&draft, &file)?;
        let is_frozen = || async {
            ensure!(!file.exists(), "{node} has not frozen {actor}");
            Ok(())
        };
        eventually("the actor is frozen", FREEZE_LIMIT, is_frozen).await
    }
}

impl Wires {
    /// Wires one node; a stranger is left as it is.
    pub fn wire(&self, node: &str, command: &mut Command) {
        let Some(warehouse) = self.warehouses.get(node) else { return };
        command.env("SPEEDTRAP_WAREHOUSE__URL", warehouse).env("AWS_ENDPOINT_URL_SNS", &self.sns);
        command.arg("--freeze").arg(self.freeze_file(node));
    }

    fn freeze_file(&self, node: &str) -> PathBuf {
        self.folder.join(format!("freeze-{node}"))
    }
}

impl Trickle {
    /// Begins.
    #[must_use]
    pub fn of(sandbox: &Sandbox, plates: Vec<String>) -> Self {
        let kinesis = sandbox.clients.kinesis.clone();
        Self(tokio::spawn(async move {
            for n in 0_usize.. {
                let records = [plates[n % plates.len()].clone(), format!("NEW-{n}"), format!("SLOW-{n}")];
                let speeds = ["90", "99", "60"];
                let reading = |(plate, speed): (String, &str)| (plate.clone(), reading(n, &plate, speed));
                streams::put(&kinesis, IN_STREAM, &records.into_iter().zip(speeds).map(reading).collect::<Vec<_>>()).await?;
                sleep(DRIP).await;
            }
            Ok(())
        }))
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// No two of them are the same reading: each is worth a text.
fn reading(n: usize, plate: &str, speed: &str) -> Vec<u8> {
    let reading = json!({"iottimestamp": "2026-01-02 03:04:05.678901", "licensePlate": plate, "longitude": format!("-93.{n:06}"), "latitude": "41.6",
                         "city": "Pebblestow", "state": "Iowa", "speed": speed});
    reading.to_string().into_bytes()
}

/// How long a healthy run is to last.
///
/// # Errors
/// When the environment names no number.
pub fn healthy_run() -> Result<Duration> {
    let seconds = match std::env::var("SPEEDTRAP_HEALTHY_SECONDS") {
        Ok(text) => text.parse().context("SPEEDTRAP_HEALTHY_SECONDS is no number")?,
        Err(_) => HEALTHY_SECONDS,
    };
    Ok(Duration::from_secs(seconds))
}

/// Puts a record that cannot be read onto one shard of the in-stream.
///
/// # Errors
/// When there is no such shard, or it is not accepted.
pub async fn poison(sandbox: &Sandbox, shard: &str) -> Result<()> {
    let kinesis = &sandbox.clients.kinesis;
    let shards = kinesis.list_shards().stream_name(IN_STREAM).send().await.context("ListShards failed")?;
    let wanted = shards.shards().iter().find(|it| it.shard_id() == shard).with_context(|| format!("there is no {shard}"))?;
    let hash = wanted.hash_key_range().map(|range| range.starting_hash_key()).context("a shard has a range")?;
    let record = kinesis.put_record().stream_name(IN_STREAM).partition_key("poison").explicit_hash_key(hash);
    record.data(Blob::new("{\"licensePlate\": 0x}")).send().await.context("PutRecord failed")?;
    Ok(())
}

/// Discards all dead letters, as an operator does at a node.
///
/// # Errors
/// When that fails.
pub async fn discard_letters(url: &str) -> Result<()> {
    let mut discard = programs::command("speedtrap")?;
    discard.args(["dead-letters", "discard", "--all", "--reason", "it is noise", "--yes", "--node", url]);
    let ended = commands::run(discard).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    Ok(())
}
