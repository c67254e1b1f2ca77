//! Nodes find each other, notice in time what becomes of each other, and link to nobody else.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use speedtrap_tests::certificates::certificates;
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::workers;
use speedtrap_tests::node::Node;
use speedtrap_tests::sandbox::Sandbox;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const COOKIE: &str = "a secret of the nodes of this test";
const MESH_WITHIN: Duration = Duration::from_secs(2);
const LOST_AFTER_KILL: Duration = Duration::from_millis(200);
const LOST_AFTER_FREEZE: Duration = Duration::from_millis(2_500);
/// The heartbeat stands still for 2 s from when it was seen first, which is up to a scan after it was written.
const DEAD_WITHIN: Duration = Duration::from_millis(4_000);
const BACK_WITHIN: Duration = Duration::from_secs(6);
/// A beat, its refusal, and the end of a process on a busy machine.
const SUPERSEDED_WITHIN: Duration = Duration::from_secs(6);
/// Long enough for several dials from both sides.
const NOBODY_FOR: Duration = Duration::from_secs(4);
const SILENT_CLIENTS: usize = 20;

/// Nodes with as little to do as there is.
fn idle(command: &mut Command) {
    command.env("SPEEDTRAP_NODE__ROLES", "errors");
}

/// Waits until a node sees another in a state that satisfies; says how long after `since`.
async fn seen(by: &Node, other: &str, since: Instant, limit: Duration, satisfies: impl Fn(&str) -> bool) -> Result<Duration> {
    loop {
        let presences = by.sees().await?;
        let presence = presences.get(other).map_or("gone", String::as_str);
        let taken = since.elapsed();
        if satisfies(presence) {
            ensure!(taken <= limit, "{other} was {presence} only after {taken:?}");
            return Ok(taken);
        }
        ensure!(taken <= limit, "{other} is still {presence} after {taken:?}\n{}", by.process.log_tail());
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_notice_in_time_what_becomes_of_each_other() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let settings = |_: &str, command: &mut Command| {
        idle(command);
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    cluster.start(&["node-1", "node-2", "node-3"]).await?;
    let meshed = cluster.meshed(MESH_WITHIN).await?;
    say("membership", &format!("three nodes were linked {} ms after the last was ready", meshed.as_millis()));

    let killed = Instant::now();
    cluster.kill("node-3").await?;
    let watcher = cluster.node("node-1")?;
    let lost = seen(watcher, "node-3", killed, LOST_AFTER_KILL, |presence| presence != "linked").await?;
    let dead = seen(watcher, "node-3", killed, DEAD_WITHIN, |presence| presence == "dead").await?;
    say(
        "membership",
        &format!("kill -9 was noticed after {} ms, and known for death after {} ms", lost.as_millis(), dead.as_millis()),
    );

    let frozen = cluster.node("node-2")?;
    let worker = cluster.workers().await;
    ensure!(worker.is_ok_and(|workers| workers.contains_key("node-2")));
    frozen.process.signal(libc::SIGSTOP)?;
    let since = Instant::now();
    let lost = seen(watcher, "node-2", since, LOST_AFTER_FREEZE, |presence| presence != "linked").await?;
    let dead = seen(watcher, "node-2", since, DEAD_WITHIN, |presence| presence == "dead").await?;
    frozen.process.signal(libc::SIGCONT)?;
    let since = Instant::now();
    let back = seen(watcher, "node-2", since, BACK_WITHIN, |presence| presence == "linked").await?;
    seen(frozen, "node-1", since, BACK_WITHIN, |presence| presence == "linked").await?;
    let (lost, dead, back) = (lost.as_millis(), dead.as_millis(), back.as_millis());
    say(
        "membership",
        &format!("a freeze was noticed after {lost} ms, taken for death after {dead} ms; linked again {back} ms after it woke"),
    );

    a_later_start_of_a_name_takes_over(&sandbox, &mut cluster).await?;
    cluster.stop().await?;
    // The killed one could not take its row away.
    let left: Vec<_> = workers(&sandbox.clients).await?.into_keys().collect();
    ensure!(left == ["node-3"], "rows were left: {left:?}");
    sandbox.end().await
}

async fn a_later_start_of_a_name_takes_over(sandbox: &Sandbox, cluster: &mut Cluster<'_>) -> Result<()> {
    let earlier = cluster.workers().await?["node-2"].clone();
    let folder = sandbox.folder().join("again");
    std::fs::create_dir(&folder)?;
    let later = Node::launch(&sandbox.endpoints, &folder, "node-2", idle)?.ready().await?;
    let mut earlier_node = cluster.nodes.insert("node-2".to_owned(), later).context("node-2 is up")?;
    let status = earlier_node.process.ended(SUPERSEDED_WITHIN).await?;
    ensure!(status.code() == Some(5), "the earlier node-2 ended with {status}\n{}", earlier_node.process.log_tail());
    let log = earlier_node.process.log_tail();
    ensure!(log.contains("another node has started under the name `node-2`"), "it does not say why:\n{log}");
    cluster.meshed(BACK_WITHIN).await?;
    let now = cluster.workers().await?["node-2"].clone();
    ensure!(now != earlier, "the later node-2 did not register");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_nodes_with_the_cookie_and_a_certificate_are_linked() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let ours = certificates(sandbox.folder())?;
    let stranger = sandbox.folder().join("stranger");
    std::fs::create_dir(&stranger)?;
    let theirs = certificates(&stranger)?;
    let settings = |name: &str, command: &mut Command| {
        idle(command);
        command.env("SPEEDTRAP_CLUSTER__COOKIE", if name == "wrong-cookie" { "another secret altogether" } else { COOKIE });
        for (key, file) in if name == "wrong-authority" { &theirs } else { &ours } {
            command.env(key, file);
        }
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    cluster.start(&["node-1"]).await?;
    let address = address_of(cluster.node("node-1")?, "node-1").await?;
    let silent: Vec<_> = (0..SILENT_CLIENTS).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    cluster.start(&["node-2"]).await?;
    let meshed = cluster.meshed(MESH_WITHIN).await?;
    say(
        "membership",
        &format!("mutual TLS beside {SILENT_CLIENTS} silent clients: linked {} ms after being ready", meshed.as_millis()),
    );
    drop(silent);

    let refused = tokio::task::spawn_blocking({
        let ca = authority(&ours)?;
        move || without_certificate(address, &ca)
    });
    refused.await??;

    cluster.start(&["wrong-cookie", "wrong-authority"]).await?;
    let until = Instant::now() + NOBODY_FOR;
    while Instant::now() < until {
        for (name, node) in &cluster.nodes {
            for (other, presence) in node.sees().await? {
                let may_be = name == &other || !(name.starts_with("wrong") || other.starts_with("wrong"));
                ensure!(may_be || presence != "linked", "{name} is linked to {other}");
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    // Both sides know of each other through the node table, so they had every reason to link.
    let presences: BTreeMap<_, _> = cluster.node("node-1")?.sees().await?;
    let strangers = ["wrong-authority", "wrong-cookie"].map(|name| presences.get(name).map(String::as_str));
    ensure!(strangers == [Some("unlinked"); 2], "node-1 sees {presences:?}");
    cluster.stop().await?;
    sandbox.end().await
}

/// Where a node takes links.
async fn address_of(node: &Node, name: &str) -> Result<SocketAddr> {
    let page: serde_json::Value = get_json(format!("{}/api/v1/nodes", node.url)).await?;
    let nodes = page["nodes"].as_array().context("no nodes on the page")?;
    let row = nodes.iter().find(|node| node["name"] == name).context("the node is not on its own page")?;
    Ok(row["address"].as_str().context("it takes no links")?.parse()?)
}

fn authority(files: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let file = files.iter().find(|(key, _)| key.ends_with("TLS_CA")).context("no authority")?;
    Ok(file.1.clone())
}

/// Shakes hands as far as one can without a certificate.
fn without_certificate(address: SocketAddr, ca: &Path) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("speedtrap")?)?;
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(connection, socket);
    match stream.read(&mut [0; 1]) {
        Err(error) if error.to_string().contains("CertificateRequired") => Ok(()),
        other => bail!("a client without a certificate was not refused as such: {other:?}"),
    }
}
