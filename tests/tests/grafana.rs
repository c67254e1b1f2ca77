//! The Grafana dashboard and the alert rules, asked of a real Prometheus that scrapes a real node.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::figures::say;
use speedtrap_tests::node::Node;
use speedtrap_tests::programs::workspace;
use speedtrap_tests::prometheus::{Prometheus, promtool};
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{self, IN_STREAM};

/// What one healthy node without an MQTT broker has nothing to tell of, and why.
const WITHOUT_DATA: [(&str, &str); 4] = [
    ("speedtrap_peer_round_trip_seconds_max", "a node alone has nobody to reach"),
    ("speedtrap_ingest_messages_total", "it reads from no broker"),
    ("speedtrap_ingest_open_messages", "it reads from no broker"),
    ("speedtrap_ingest_connected", "it reads from no broker"),
];
const LIMIT: Duration = Duration::from_secs(60);

fn deploy(path: &str) -> PathBuf {
    workspace().join("deploy").join(path)
}

#[tokio::test]
async fn promtool_accepts_the_example_and_every_alert_fires_in_a_test_of_its_own() -> Result<()> {
    let folder = deploy("prometheus");
    promtool(&["check", "config", "prometheus.yml"], &folder).await?;
    promtool(&["check", "rules", "alerts.yml"], &folder).await?;
    promtool(&["test", "rules", "alerts_test.yml"], &folder).await?;
    let (rules, tests) =
        (std::fs::read_to_string(folder.join("alerts.yml"))?, std::fs::read_to_string(folder.join("alerts_test.yml"))?);
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    ensure!(alerts.len() >= 15, "{alerts:?}");
    for alert in alerts {
        ensure!(tests.contains(&format!("{{alertname=\"{alert}\"}}")), "no test in which {alert} fires");
    }
    Ok(())
}

#[tokio::test]
async fn every_expression_has_an_answer_from_a_scraped_node() -> Result<()> {
    let begun = Instant::now();
    let sandbox = Sandbox::up().await?;
    let (drivers, readings) = sandbox.make_files(&["--rows", "40"], &["--rows", "120"]).await?;
    sandbox.load(&drivers).await?;
    let node = Node::start(&sandbox.endpoints, sandbox.folder(), "node-1").await?;
    let prometheus = Prometheus::start(sandbox.folder(), &node.url, &deploy("prometheus/alerts.yml")).await?;
    // Counters have to grow while they are scraped.
    eventually("the node is scraped", LIMIT, || async {
        let up = prometheus.query("speedtrap_ready").await?;
        ensure!(!up.is_empty(), "not yet");
        Ok(())
    })
    .await?;
    sandbox.publish(&readings, 0).await?;
    streams::put(&sandbox.clients.kinesis, IN_STREAM, &[("bad".to_owned(), b"no reading".to_vec())]).await?;

    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(deploy("grafana/speedtrap.json"))?)?;
    let expressions = expressions(&dashboard)?;
    ensure!(expressions.len() > 30, "{expressions:?}");
    for expression in &expressions {
        let needed = !WITHOUT_DATA.iter().any(|(metric, _)| expression.contains(metric));
        if needed && !expression.ends_with("> 0") {
            eventually("there is data", LIMIT, || async {
                let series = prometheus.query(expression).await?;
                ensure!(!series.is_empty(), "nothing for {expression}");
                Ok(())
            })
            .await?;
        } else {
            prometheus.query(expression).await?;
        }
    }
    rules(&prometheus).await?;
    let targets = prometheus.page("/api/v1/targets").await?;
    let target = &targets["data"]["activeTargets"][0];
    ensure!(target["health"] == "up" && target["lastError"] == "", "{target}");
    detail_by_actor(&node.url).await?;
    say("grafana", &format!("{} expressions answered, {:.0} s", expressions.len(), begun.elapsed().as_secs_f64()));
    prometheus.stop().await?;
    node.stop().await?;
    sandbox.end().await
}

/// All rules can be evaluated, every metric in them is one that a node has, and of the alerts only the one for the bad record fires.
async fn rules(prometheus: &Prometheus) -> Result<()> {
    let page = prometheus.page("/api/v1/rules").await?;
    let rules = page["data"]["groups"][0]["rules"].as_array().context("no rules")?;
    let mut metrics = BTreeSet::new();
    for rule in rules {
        ensure!(rule["health"] == "ok" && rule["lastError"].as_str().is_none_or(str::is_empty), "{rule}");
        metrics.extend(names(rule["query"].as_str().unwrap_or_default()));
    }
    ensure!(metrics.len() >= 15, "{metrics:?}");
    for metric in metrics {
        ensure!(!prometheus.query(&format!("count({metric})")).await?.is_empty(), "no node has {metric}");
    }
    eventually("the bad record is told of", LIMIT, || async {
        let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await?;
        let names: BTreeSet<_> = firing.iter().filter_map(|alert| alert["metric"]["alertname"].as_str()).collect();
        ensure!(names == BTreeSet::from(["SpeedtrapDeadLetters"]), "{names:?}");
        Ok(())
    })
    .await
}

/// Actors are told one by one only to who asks.
async fn detail_by_actor(url: &str) -> Result<()> {
    let (plain, detailed) = (page(format!("{url}/metrics")).await?, page(format!("{url}/metrics?detail=actors")).await?);
    ensure!(!plain.contains("actor=\"") && detailed.contains("actor=\"node-1/enrich/"), "{detailed}");
    ensure!(plain.ends_with("# EOF\n"), "no OpenMetrics");
    Ok(())
}

async fn page(url: String) -> Result<String> {
    tokio::task::spawn_blocking(move || Ok(ureq::get(&url).call()?.body_mut().read_to_string()?)).await?
}

/// The expressions of all panels, as Grafana would send them.
fn expressions(dashboard: &Value) -> Result<Vec<String>> {
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let filled = |text: &str| text.replace("$instance", ".+").replace("$__rate_interval", "1m").replace("$__range", "1h");
    Ok(targets.filter_map(|target| target["expr"].as_str()).map(filled).collect())
}

/// The metrics of ours in an expression.
fn names(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("speedtrap_") || word.starts_with("process_")).map(str::to_owned).collect()
}
