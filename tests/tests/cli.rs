//! What users of the commands meet when something is wrong: exit codes, and words that say what, why and what next.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use speedtrap_tests::commands::{Ended, device, loader, run};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::evidence::items;
use speedtrap_tests::node::Node;
use speedtrap_tests::process::Process;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;

const LEASE_TABLES: [&str; 4] = ["IotFastCarSensor", "rtr-iot-notify", "rtr-iot-archive", "rtr-iot-errors"];
/// Nobody listens there: the port is reserved.
const NOWHERE: &str = "http://127.0.0.1:1";

fn dirty(name: &str) -> std::path::PathBuf {
    programs::workspace().join("data/samples/dirty").join(name)
}

/// The right code, all of the words on standard error, and nothing that is not for users.
fn says(ended: &Ended, code: i32, words: &[&str]) -> Result<()> {
    ensure!(ended.code == Some(code), "not {code}: {ended:?}");
    for word in words {
        ensure!(ended.err.contains(word), "standard error does not say `{word}`: {ended:?}");
    }
    for word in ["panicked", "RUST_BACKTRACE", "src/", ".rs:"] {
        ensure!(!ended.err.contains(word), "standard error says `{word}`: {ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_fault_of_a_configuration_is_told_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[lane]\ncredit_events = 0\nbatch_evnts = 3\n[rule]\nlimit_mph = 'fast'\n[nonsense]\nx = 1\n")?;
    let faults =
        ["lane.credit_events", "1 to 100000", "lane.batch_evnts", "rule.limit_mph", "nonsense", "dashboard.listen", "loopback"];
    for arguments in [&["run"][..], &["config", "check"]] {
        let mut command = programs::command("speedtrap")?;
        command.args(arguments).arg("--config").arg(&file).env("SPEEDTRAP_DASHBOARD__LISTEN", "0.0.0.0:7300");
        says(&run(command).await?, 78, &faults)?;
    }
    let mut command = programs::command("speedtrap")?;
    command.args(["run", "--config"]).arg(folder.path().join("absent.toml"));
    says(&run(command).await?, 78, &["absent.toml", "cannot be read"])?;
    let mut command = programs::command("speedtrap")?;
    command.args(["config", "check"]).env("AWS_ENDPOINT_URL", "");
    says(&run(command).await?, 78, &["AWS_ENDPOINT_URL"])?;
    let mut command = programs::command("speedtrap")?;
    command.arg("fly");
    says(&run(command).await?, 2, &["fly", "Usage"])
}

#[tokio::test]
async fn what_is_unreachable_is_named() -> Result<()> {
    let mut command = programs::command("speedtrap")?;
    command.args(["run", "--listen", "127.0.0.1:0"]).envs([
        ("AWS_ENDPOINT_URL", NOWHERE),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("SPEEDTRAP_WAREHOUSE__URL", "postgresql://nobody@127.0.0.1:1/none"),
    ]);
    says(&run(command).await?, 69, &["127.0.0.1:1", "why:", "next:"])?;
    for verb in [&["status"][..], &["actors"], &["nodes"], &["shards"], &["drain", "node-1"]] {
        let mut command = programs::command("speedtrap")?;
        command.args(verb).args(["--node", NOWHERE]);
        says(&run(command).await?, 69, &["no answer from the node at http://127.0.0.1:1", "why:", "next:"])?;
    }
    let mut command = programs::command("speedtrap-local")?;
    command.args(["demo", "--drivers", "/nowhere/drivers.csv"]);
    says(&run(command).await?, 4, &["/nowhere/drivers.csv"])
}

#[tokio::test]
async fn loader_and_device_name_what_is_wrong_with_files_and_certificates() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let rejects = sandbox.folder().join("rejects");
    let load = async |file: &Path| run(loader(&sandbox.endpoints, file, &rejects)?).await;
    says(&load(&dirty("drivers_wrong_header.csv")).await?, 1, &["drivers_wrong_header.csv", "header"])?;
    says(&load(&dirty("drivers_empty.csv")).await?, 1, &["drivers_empty.csv"])?;
    says(&load(Path::new("/nowhere.csv")).await?, 4, &["/nowhere.csv", "does not exist"])?;
    let ragged = load(&dirty("drivers_bad_rows.csv")).await?;
    says(&ragged, 3, &[])?;
    let said = ragged.json()?;
    let (rows, rejected, merged) = (&said["rows"], said["rejected"].as_u64(), said["merged"].as_u64());
    ensure!(rejected.is_some_and(|n| n >= 5) && merged.is_some_and(|n| n >= 5), "{said}");
    let reasons = std::fs::read_to_string(said["rejects_file"].as_str().context("the rejected rows are in a file")?)?;
    for line in ["\"line\":3", "\"line\":4", "\"line\":5"] {
        ensure!(reasons.contains(line), "of {rows} rows, no {line} in {reasons}");
    }
    let mut nowhere = loader(&sandbox.endpoints, &programs::workspace().join("data/samples/drivers.csv"), &rejects)?;
    nowhere.env("SPEEDTRAP_LOADER_WAREHOUSE__URL", "postgresql://nobody@127.0.0.1:1/none");
    nowhere.env("SPEEDTRAP_LOADER_MAX_RESTARTS", "0");
    says(&run(nowhere).await?, 69, &["warehouse", "next:"])?;

    let publish = async |file: &Path, more: &[&str]| {
        let mut command = device(&sandbox.endpoints, file)?;
        command.args(more);
        run(command).await
    };
    says(&publish(&dirty("readings_wrong_header.csv"), &[]).await?, 1, &["readings_wrong_header.csv", "licensePlate,longitude"])?;
    let ragged = publish(&dirty("readings_bad_rows.csv"), &[]).await?;
    says(&ragged, 3, &[])?;
    let said = ragged.json()?;
    let lines: Vec<_> = said["rejected_rows"].as_array().into_iter().flatten().filter_map(|row| row["line"].as_u64()).collect();
    ensure!(lines.starts_with(&[3, 4]) && said["acknowledged"].as_u64().is_some_and(|n| n > 0), "{said}");
    the_device_names_bad_certificates(&sandbox).await?;
    sandbox.end().await
}

async fn the_device_names_bad_certificates(sandbox: &Sandbox) -> Result<()> {
    let rogue = rcgen::generate_simple_self_signed(["rogue".to_owned()])?;
    let (cert, key) = (sandbox.folder().join("rogue.pem"), sandbox.folder().join("rogue.key"));
    std::fs::write(&cert, rogue.cert.pem())?;
    std::fs::write(&key, rogue.signing_key.serialize_pem())?;
    let readings = programs::workspace().join("data/samples/readings.csv");
    let mut endpoints = sandbox.endpoints.clone();
    (endpoints.mqtt.cert, endpoints.mqtt.key) = (cert.clone(), key);
    says(&run(device(&endpoints, &readings)?).await?, 78, &["refused this device's certificate", "registered and active"])?;

    endpoints = sandbox.endpoints.clone();
    endpoints.mqtt.ca = cert;
    says(&run(device(&endpoints, &readings)?).await?, 78, &["--root-ca"])?;
    endpoints = sandbox.endpoints.clone();
    endpoints.mqtt.key = sandbox.folder().join("absent.key");
    says(&run(device(&endpoints, &readings)?).await?, 78, &["absent.key", "--key"])?;
    endpoints = sandbox.endpoints.clone();
    endpoints.mqtt.port = 1;
    let mut unreachable = device(&endpoints, &readings)?;
    unreachable.args(["--connect-timeout", "1"]);
    says(&run(unreachable).await?, 69, &["cannot reach", ":1"])
}

#[tokio::test]
async fn a_node_shows_itself_and_ends_in_good_order() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let (drivers, readings) = sandbox.make_files(&["--rows", "50"], &["--rows", "200"]).await?;
    sandbox.load(&drivers).await?;
    let mut wrong = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut wrong);
    wrong.args(["run", "--listen", "127.0.0.1:0"]).env("SPEEDTRAP_KINESIS__IN_STREAM", "no-such-stream");
    wrong.env("SPEEDTRAP_WAREHOUSE__URL", &sandbox.endpoints.warehouse_url);
    says(&run(wrong).await?, 4, &["no-such-stream", "next:"])?;

    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let ask = async |verb: &str| {
        let mut command = programs::command("speedtrap")?;
        command.args([verb, "--local", "--json", "--node", &node.url]);
        run(command).await
    };
    let status = ask("status").await?;
    says(&status, 0, &[])?;
    let page: serde_json::Value = serde_json::from_str(&status.out)?;
    ensure!(page["state"] == "running" && page["node"] == "node-1", "{page}");
    let mut roles: Vec<_> = page["lanes"].as_array().into_iter().flatten().filter_map(|lane| lane["role"].as_str()).collect();
    roles.sort_unstable();
    roles.dedup();
    ensure!(roles == ["archive", "enrich", "errors", "notify"], "{page}");
    let actors = ask("actors").await?;
    says(&actors, 0, &[])?;
    let page: serde_json::Value = serde_json::from_str(&actors.out)?;
    let kinds: Vec<_> = page["rows"].as_array().into_iter().flatten().filter_map(|row| row["kind"].as_str()).collect();
    for kind in
        ["NodeSupervisor", "LaneSupervisor", "ShardReader", "SpeedFilter", "DriverLookup", "OwnerNotifier", "ArchiveWriter"]
    {
        ensure!(kinds.contains(&kind), "no {kind} among {kinds:?}");
    }
    for path in ["metrics", "healthz"] {
        let url = format!("{}/{path}", node.url);
        let answered =
            tokio::task::spawn_blocking(move || ureq::get(&url).call().map(|answer| answer.status().as_u16())).await??;
        ensure!(answered == 200, "/{path} answers {answered}");
    }

    watching_goes_on_until_it_is_interrupted(&sandbox, &node).await?;

    // It is asked to end while readings come in.
    let publishing = sandbox.publish(&readings, 100);
    let stopping = async {
        eventually("readings come in", Duration::from_secs(30), || async {
            ensure!(node.status().await?.all_ended("enrich") > 0);
            Ok(())
        })
        .await?;
        node.stop().await
    };
    let (published, stopped) = tokio::join!(publishing, stopping);
    published?;
    stopped?;
    for table in LEASE_TABLES {
        let leases = items(&sandbox.clients.dynamodb, table).await?;
        ensure!(!leases.is_empty(), "{table} has no lease");
        let owned: Vec<_> = leases.iter().filter(|lease| lease.contains_key("leaseOwner")).collect();
        ensure!(owned.is_empty(), "leases in {table} are still owned: {owned:?}");
    }
    sandbox.end().await
}

async fn watching_goes_on_until_it_is_interrupted(sandbox: &Sandbox, node: &Node) -> Result<()> {
    for verb in ["status", "actors", "shards", "pipeline", "nodes"] {
        let mut command = programs::command("speedtrap")?;
        command.args([verb, "--watch", "--json", "--node", &node.url]);
        let mut watching = Process::start_with_output(verb, command, sandbox.folder())?;
        let out = sandbox.folder().join(format!("{verb}.out"));
        eventually("it was shown three times", Duration::from_secs(60), || async {
            let text = std::fs::read_to_string(&out)?;
            let lines: Vec<_> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            ensure!(lines.len() >= 3, "{} lines; {}", lines.len(), watching.log_tail());
            for line in lines {
                let page: serde_json::Value = serde_json::from_str(line)?;
                ensure!(page["schema"] == 1, "{page}");
            }
            Ok(())
        })
        .await?;
        watching.signal(libc::SIGINT)?;
        let ended = watching.ended(Duration::from_secs(5)).await?;
        ensure!(ended.code() == Some(130), "{verb} ended with {ended}: {}", watching.log_tail());
    }
    let mut wrong = programs::command("speedtrap")?;
    wrong.args(["status", "--watch", "--node", NOWHERE]);
    says(&run(wrong).await?, 69, &["no answer from the node"])
}

#[tokio::test]
async fn any_node_answers_for_all_and_drains_another() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let first = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let mut second = Node::start(&sandbox.endpoints, sandbox.folder(), "node-2").await?;
    let ask = async |arguments: &[&str], node: &Node| {
        let mut command = programs::command("speedtrap")?;
        command.args(arguments).args(["--json", "--node", &node.url]);
        run(command).await
    };
    let names = |page: &serde_json::Value, list: &str, key: &str| -> BTreeSet<String> {
        page[list].as_array().into_iter().flatten().filter_map(|row| row[key].as_str().map(str::to_owned)).collect()
    };
    let both: BTreeSet<String> = ["node-1", "node-2"].map(str::to_owned).into();
    for node in [&first, &second] {
        eventually("both nodes are linked", Duration::from_secs(30), || async {
            let nodes = ask(&["nodes"], node).await?;
            ensure!(nodes.code == Some(0) && names(&nodes.json()?, "nodes", "name") == both, "{nodes:?}");
            Ok(())
        })
        .await?;
        eventually("all shards run, and are shared", Duration::from_secs(30), || async {
            let shards = ask(&["shards"], node).await?.json()?;
            let states = names(&shards, "shards", "state");
            ensure!(names(&shards, "shards", "node") == both && states == ["held".to_owned()].into(), "{shards}");
            ensure!(shards["shards"].as_array().is_some_and(|rows| rows.iter().all(|row| row["why"].is_null())), "{shards}");
            Ok(())
        })
        .await?;
        let status = ask(&["status"], node).await?;
        says(&status, 0, &[])?;
        ensure!(names(&status.json()?, "nodes", "name") == both, "{status:?}");
        let actors = ask(&["actors"], node).await?.json()?;
        ensure!(names(&actors, "rows", "node") == both, "{actors}");
    }
    let loads = format!("{}/api/v1/loads", second.url);
    let told: serde_json::Value = tokio::task::spawn_blocking(move || {
        let mut answer = ureq::post(&loads).header("content-type", "application/json").send(r#"{"load_id":"l1"}"#)?;
        anyhow::Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
    })
    .await??;
    ensure!(told["nodes_told"] == 2 && told["failed"].as_array().is_some_and(Vec::is_empty), "{told}");

    says(&ask(&["drain", "node-9"], &first).await?, 4, &["node-9"])?;
    let drained = ask(&["drain", "node-2", "--timeout", "30s"], &first).await?;
    says(&drained, 0, &[])?;
    ensure!(drained.json()?["leases_left"] == 0, "{drained:?}");
    let ended = second.process.ended(Duration::from_secs(5)).await?;
    ensure!(ended.code() == Some(0), "the drained node ended with {ended}");
    let shards = ask(&["shards"], &first).await?.json()?;
    ensure!(names(&shards, "shards", "node") == ["node-1".to_owned()].into(), "{shards}");
    let alone = ask(&["drain", "node-1", "--timeout", "30s"], &first).await?;
    says(&alone, 0, &["last node"])?;
    sandbox.end().await
}
