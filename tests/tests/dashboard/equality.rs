//! The overview paints at once, and equals what the commands say in the same second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::figures::say;
use tokio::time::Instant;

use super::shown::{Shown, is_number, is_word};
use super::{LIMIT, Stage};

/// What is promised of the first paint.
const PAINT_WITHIN_MS: f64 = 1_000.0;
const LOADS: usize = 5;
/// Page and commands are read within this time of each other.
const SAME_SECOND: Duration = Duration::from_secs(1);

/// The median of a few loads.
pub(crate) async fn paints_within_a_second(stage: &Stage<'_>) -> Result<()> {
    let mut times = Vec::new();
    for load in 0..LOADS {
        // Another address each time, since only its fragment differing would load nothing.
        stage.browser.open(&format!("{}/?load={load}#/overview", stage.url("node-1")?)).await?;
        times.push(stage.browser.first_paint_ms().await?);
        stage.browser.until("the page is live", LIMIT, super::LIVE).await?;
        stage.browser.is_clean().await?;
    }
    times.sort_by(f64::total_cmp);
    let median = times[LOADS / 2];
    say("dashboard", &format!("first paint of the overview after {median:.0} ms (median of {LOADS} loads, {times:.0?})"));
    ensure!(median < PAINT_WITHIN_MS, "the first paint took {median:.0} ms: {times:?}");
    Ok(())
}

/// The numbers stand still, so what differs is not a matter of time but for an instant.
pub(crate) async fn equals_the_commands(stage: &Stage<'_>) -> Result<()> {
    let look = || async {
        let begun = Instant::now();
        let (shown, said) = (Shown::read(&stage.browser).await?, Said::of(stage).await?);
        let took = begun.elapsed();
        said.equals(&shown)?;
        ensure!(took <= SAME_SECOND, "page and commands were read {took:?} apart");
        Ok((took, shown))
    };
    let (took, shown) = eventually("the page equals the commands", LIMIT, look).await?;
    let Shown { kpis, nodes, shards, actors, .. } = &shown;
    let counts = [kpis.len(), nodes.len(), shards.len(), actors.len()];
    let read = format!("{} numbers, {} nodes, {} shards and {} actors in sight", counts[0], counts[1], counts[2], counts[3]);
    say("dashboard", &format!("the overview equals five commands, all read within {} ms: {read}", took.as_millis()));
    stage.browser.is_clean().await
}

/// What the commands say.
struct Said {
    status: Value,
    nodes: Value,
    shards: Value,
    actors: Value,
    letters: Value,
    /// Of the API, since no command shows it.
    map: Value,
}

impl Said {
    async fn of(stage: &Stage<'_>) -> Result<Self> {
        // Another node is asked than the one that serves the page.
        let says = |command: &'static str| async move { stage.says("node-2", &[command]).await };
        let letters = stage.says("node-2", &["dead-letters", "list"]);
        let map = get_json(format!("{}/api/v1/map?window=15m", stage.url("node-2")?));
        let (status, nodes, shards, actors, letters, map) =
            tokio::try_join!(says("status"), says("nodes"), says("shards"), says("actors"), letters, map)?;
        Ok(Self { status, nodes, shards, actors, letters, map })
    }

    fn equals(&self, shown: &Shown) -> Result<()> {
        ensure!(shown.live.as_deref() == Some("live"), "the page is {:?}", shown.live);
        let findings = rows(&self.status["problems"]).count();
        ensure!(shown.findings.len() == findings, "the page shows the findings {:?}, status {findings}", shown.findings);
        self.numbers(shown)?;
        self.node_rows(shown)?;
        self.shard_rows(shown)?;
        self.actor_rows(shown)?;
        self.map_rows(shown)?;
        let letters = rows(&self.letters["letters"]).count();
        ensure!(shown.letters.len() == letters, "the page shows the letters {:?}", shown.letters.keys());
        Ok(())
    }

    /// The states with the most events; and all of them together are all events, since the test is younger than the window.
    fn map_rows(&self, shown: &Shown) -> Result<()> {
        let states: BTreeMap<&str, &Value> = rows(&self.map["states"]).map(|row| (word(row, "state"), row)).collect();
        let (all, nowhere) = (self.map["events"].as_u64(), self.map["state_unknown"]["events"].as_u64());
        let sum: u64 = states.values().filter_map(|row| row["events"].as_u64()).chain(nowhere).sum();
        ensure!(Some(sum) == all && all == self.status["events_in"].as_u64(), "the map counts {sum} of {all:?} events");
        ensure!(!shown.states.is_empty(), "no state is shown of {states:?}");
        for (name, row) in &shown.states {
            let said = states.get(name.as_str()).with_context(|| format!("no event was in {name}"))?;
            is_number(&format!("events in {name}"), row.get("events"), said["events"].as_f64())?;
        }
        Ok(())
    }

    fn numbers(&self, shown: &Shown) -> Result<()> {
        let cache =
            |count: &str| -> f64 { rows(&self.status["nodes"]).filter_map(|node| node["status"]["cache"][count].as_f64()).sum() };
        let outcome = |role: &str, name: &str| self.status["outcomes_by_role"][role][name].as_f64();
        let lags = rows(&self.shards["shards"]).filter_map(|shard| shard["lane"]["lag_ms"].as_f64());
        let p95s = rows(&self.status["nodes"]).filter_map(|node| node["status"]["cache"]["query_p95_us"].as_f64());
        for (name, value) in &shown.kpis {
            let expected = match name.as_str() {
                "events" => self.status["events_in"].as_f64(),
                "cache" => Some(cache("hits") / (cache("hits") + cache("misses"))),
                "warehouse" => p95s.clone().reduce(f64::max).or_else(|| Some(cache("queries"))),
                "texts" => outcome("notify", "notified"),
                "lag" => lags.clone().reduce(f64::max),
                // The test is younger than an hour.
                "restarts" => Some(rows(&self.actors["restarts"]).count() as f64),
                "dead-letters" => self.letters["open"].as_f64(),
                other => anyhow::bail!("nothing is held against the number `{other}`, which is {value}"),
            };
            is_number(name, Some(value), expected)?;
        }
        ensure!(shown.kpis.len() >= 7, "only these numbers are shown: {:?}", shown.kpis);
        Ok(())
    }

    fn node_rows(&self, shown: &Shown) -> Result<()> {
        let nodes: Vec<_> = rows(&self.nodes["nodes"]).collect();
        ensure!(nodes.len() == shown.nodes.len(), "the page shows the nodes {:?}", shown.nodes.keys());
        for node in nodes {
            let name = word(node, "name");
            let row = shown.nodes.get(name).with_context(|| format!("{name} is not shown"))?;
            let leases = node["leases"].as_object().into_iter().flatten().map(|(_, n)| n.as_f64()).sum::<Option<f64>>();
            is_number(&format!("leases of {name}"), row.get("leases"), leases)?;
            let actors = rows(&self.actors["rows"]).filter(|row| row["node"] == *name).count();
            is_number(&format!("actors of {name}"), row.get("actors"), Some(actors as f64))?;
        }
        Ok(())
    }

    fn shard_rows(&self, shown: &Shown) -> Result<()> {
        let open: Vec<_> = rows(&self.shards["shards"]).filter(|shard| shard["state"] != "ended").collect();
        ensure!(open.len() == shown.shards.len(), "the page shows the shards {:?}", shown.shards.keys());
        for shard in open {
            let name = format!("{}/{}", word(shard, "role"), word(shard, "shard"));
            let row = shown.shards.get(&name).with_context(|| format!("{name} is not shown"))?;
            is_word(&format!("owner of {name}"), row.get("owner"), word(shard, "worker"))?;
            is_number(&format!("lag of {name}"), row.get("lag"), shard["lane"]["lag_ms"].as_f64())?;
        }
        Ok(())
    }

    /// Rows add up what stands below them.
    fn actor_rows(&self, shown: &Shown) -> Result<()> {
        let all: BTreeMap<&str, &Value> = rows(&self.actors["rows"]).map(|row| (word(row, "name"), row)).collect();
        ensure!(shown.actors.len() > 5, "only these actors are in sight: {:?}", shown.actors.keys());
        for (name, row) in &shown.actors {
            let said = all.get(name.as_str()).with_context(|| format!("no command knows {name}"))?;
            is_word(&format!("state of {name}"), row.get("state"), word(said, "state"))?;
            let inside = format!("{name}/");
            let family = all.iter().filter(|(other, _)| *other == name || other.starts_with(&inside));
            let sum = |field: &str| family.clone().filter_map(|(_, row)| row[field].as_f64()).sum();
            is_number(&format!("mailbox of {name}"), row.get("mailbox"), Some(sum("mailbox")))?;
            is_number(&format!("restarts of {name}"), row.get("restarts"), Some(sum("restarts")))?;
        }
        Ok(())
    }
}

pub(crate) fn rows(list: &Value) -> impl Iterator<Item = &Value> + Clone {
    list.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

pub(crate) fn word<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}
