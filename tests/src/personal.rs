//! Persons of a run, looked for in everything that nodes show and log: plates, names, numbers and addresses must be nowhere.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::sandbox::Sandbox;

const PATIENCE: Duration = Duration::from_secs(60);
/// Shorter texts stand in numbers and times by chance.
const LEAST_CHARACTERS: usize = 6;
/// Letters that are looked at one by one; all of them are looked at in the list.
const MOST_LETTERS: usize = 50;
const PAGES: [&str; 12] = [
    "/metrics",
    "/api/v1/overview",
    "/api/v1/map?window=1h",
    "/api/v1/actions",
    "/api/v1/status?scope=cluster",
    "/api/v1/actors?scope=cluster",
    "/api/v1/nodes",
    "/api/v1/shards",
    "/api/v1/loads",
    "/api/v1/audit",
    "/api/v1/dead-letters?state=all",
    "/api/v1/session",
];

/// Looks through pages, live data and logs of all nodes.
///
/// # Errors
/// With the place where a person of these files stands.
pub async fn is_nowhere(demo: &Sandbox, drivers: &Path, readings: &Path) -> Result<()> {
    let persons = persons(drivers, readings)?;
    ensure!(persons.len() > 100, "only {} texts to look for", persons.len());
    let mut shown = vec![("the launcher's log".to_owned(), demo.launcher_log())];
    for pid in &demo.endpoints.node_pids {
        let log = std::fs::read_link(format!("/proc/{pid}/fd/2")).context("a node has no log")?;
        let text = std::fs::read_to_string(&log).with_context(|| format!("failed to read `{}`", log.display()))?;
        ensure!(text.contains("node started"), "`{}` is no log of a node", log.display());
        shown.push((log.display().to_string(), text));
    }
    for node in demo.endpoints.dashboard_urls.clone() {
        shown.extend(tokio::task::spawn_blocking(move || pages(&node)).await??);
    }
    for (place, text) in &shown {
        let found = persons.iter().find(|person| text.contains(person.as_str()));
        ensure!(found.is_none(), "`{}` stands in {place}", found.map(String::as_str).unwrap_or_default());
    }
    Ok(())
}

/// Every text of the files that names somebody or leads to them.
fn persons(drivers: &Path, readings: &Path) -> Result<BTreeSet<String>> {
    let mut persons = BTreeSet::new();
    let mut add = |text: &str| {
        if text.trim().chars().count() >= LEAST_CHARACTERS {
            persons.insert(text.trim().to_owned());
        }
    };
    let rows = |file: &Path| csv::ReaderBuilder::new().flexible(true).from_path(file);
    for row in rows(drivers)?.into_byte_records() {
        let row = row?;
        let field = |n: usize| String::from_utf8_lossy(row.get(n).unwrap_or_default()).trim().to_owned();
        add(&format!("{} {}", field(0), field(1)));
        // Plate, e-mail, street, and both numbers; a city or state is nobody.
        [2, 3, 4, 8, 9].iter().for_each(|n| add(&field(*n)));
        let digits: String = field(9).chars().filter(char::is_ascii_digit).collect();
        // Without the country code, however it is written.
        add(&digits[digits.len().saturating_sub(10)..]);
    }
    for row in rows(readings)?.into_byte_records() {
        add(&String::from_utf8_lossy(row?.get(0).unwrap_or_default()));
    }
    Ok(persons)
}

/// What a node answers, each with its place.
fn pages(node: &str) -> Result<Vec<(String, String)>> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None).build().into();
    let get = |path: &str| -> Result<(String, String)> {
        let url = format!("{node}{path}");
        let mut answer = agent.get(&url).call().with_context(|| format!("{url} does not answer"))?;
        Ok((url, answer.body_mut().with_config().limit(1 << 30).read_to_string()?))
    };
    let mut shown = PAGES.iter().map(|page| get(page)).collect::<Result<Vec<_>>>()?;
    let listed = shown.iter().find(|(url, _)| url.contains("dead-letters")).map(|(_, text)| text.as_str()).unwrap_or_default();
    let listed: Value = serde_json::from_str(listed)?;
    let ids = listed["letters"].as_array().into_iter().flatten().filter_map(|letter| letter["id"].as_str());
    for id in ids.take(MOST_LETTERS) {
        shown.push(get(&format!("/api/v1/dead-letters/{id}"))?);
    }
    let loads = shown.iter().find(|(url, _)| url.ends_with("/loads")).map(|(_, text)| text.as_str()).unwrap_or_default();
    let loads: Value = serde_json::from_str(loads)?;
    for id in loads["loads"].as_array().into_iter().flatten().filter_map(|load| load["load_id"].as_str()) {
        shown.push(get(&format!("/api/v1/loads/{id}/rejected"))?);
    }
    let url = format!("{node}/api/v1/stream");
    let stream = agent.get(&url).call()?.into_body().into_reader();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line.starts_with("data:") {
            ensure!(line.len() > 1_000, "the stream shows next to nothing: {line}");
            shown.push((url, line));
            break;
        }
    }
    Ok(shown)
}
