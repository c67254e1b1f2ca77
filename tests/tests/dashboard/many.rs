//! 2,000 actors more: the page does not lag, and what watching costs a node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use speedtrap_tests::browser::hook;
use speedtrap_tests::endpoints::get_text;
use speedtrap_tests::figures::say;
use tokio::time::{Instant, sleep};

use super::{LIMIT, LIVE, Stage};

/// Rows that one node shows beside those of actors that exist.
pub(crate) const ACTORS: usize = 2_000;
const FRAMES: usize = 15;
/// What is promised, in milliseconds.
const FRAME_MS: f64 = 50.0;
const FILTER_MS: f64 = 100.0;
const MOST_ELEMENTS: usize = 1_000;
/// Shares of a core that are promised, with the page open and while nobody looks.
const OPEN: f64 = 0.03;
const CLOSED: f64 = 0.005;
/// What is measured: ten frames, and four looks of a node that nobody asks.
const OPEN_FOR: Duration = Duration::from_secs(10);
const CLOSED_FOR: Duration = Duration::from_secs(20);

/// Frames, filters and elements of the page of actors.
pub(crate) async fn two_thousand_actors(stage: &mut Stage<'_>) -> Result<()> {
    stage.cluster.start(&["node-4"]).await?;
    stage.cluster.fair(LIMIT).await?;
    let browser = &stage.browser;
    browser.open(&format!("{}/#/actors", stage.url("node-1")?)).await?;
    browser.until("the page is live", LIMIT, LIVE).await?;
    let all =
        format!("return Number(document.querySelector('{}').innerText.replace(/\\D/g, '')) > {ACTORS}", hook("actor-count"));
    browser.until("all actors are counted", LIMIT, &all).await?;
    browser.script::<()>("performance.clearMeasures()", Vec::new()).await?;
    let frames = format!("return performance.getEntriesByName('frame').length >= {FRAMES}");
    browser.until("enough frames came", LIMIT, &frames).await?;
    let frames = measures(stage, "frame").await?;

    for text in ["child-3", "state:backoff", "mailbox>3", "node:node-4 family-00012", "nobody"] {
        browser.fill(&hook("actor-filter"), text).await?;
    }
    let filters = measures(stage, "filter").await?;
    browser.fill(&hook("actor-filter"), "family").await?;
    let elements: usize = browser.script("return document.querySelectorAll('*').length", Vec::new()).await?;
    let (frame, filter) = (median(&frames)?, median(&filters)?);
    let slowest = filters.iter().copied().fold(0.0, f64::max);
    say(
        "dashboard",
        &format!(
            "{ACTORS} actors more: frame work {frame:.1} ms (median of {}), filter {filter:.1} ms (median of {}, the slowest \
             {slowest:.1}), {elements} elements in the page",
            frames.len(),
            filters.len()
        ),
    );
    ensure!(frame < FRAME_MS, "a frame is {frame:.1} ms of work: {frames:.1?}");
    ensure!(filter < FILTER_MS, "a filter is {filter:.1} ms of work: {filters:.1?}");
    ensure!(elements <= MOST_ELEMENTS, "there are {elements} elements in the page");
    browser.is_clean().await?;
    cost(stage).await
}

async fn measures(stage: &Stage<'_>, name: &str) -> Result<Vec<f64>> {
    let read = "return performance.getEntriesByName(arguments[0], 'measure').map((it) => it.duration)";
    stage.browser.script(read, vec![json!(name)]).await
}

fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    ensure!(!sorted.is_empty(), "nothing was measured");
    Ok(sorted[sorted.len() / 2])
}

/// What a node used of one core over a while.
struct Used {
    /// The whole process.
    process: f64,
    /// API, dashboard and watch for findings, as the node counts them.
    dashboard: f64,
}

/// Shares of one core: what the serving node uses with the page open beyond what it uses without, and what the dashboard costs
/// while nobody looks. Limits of the whole process are those of release programs.
async fn cost(stage: &Stage<'_>) -> Result<()> {
    let (serving_open, asked_open) = tokio::try_join!(used(stage, "node-1", OPEN_FOR), used(stage, "node-4", OPEN_FOR))?;
    stage.browser.open("about:blank").await?;
    // The server notices that nobody watches when it next writes.
    sleep(Duration::from_secs(3)).await;
    let (serving_closed, asked_closed) = tokio::try_join!(used(stage, "node-1", CLOSED_FOR), used(stage, "node-4", CLOSED_FOR))?;
    let (serving, asked) = (serving_open.process - serving_closed.process, asked_open.process - asked_closed.process);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    say(
        "dashboard",
        &format!(
            "the page open at 1 Hz with {ACTORS} actors costs {:.1} % of a core on the node that serves it ({:.1} % less {:.1} %), \
             {:.1} % on the one that has them ({build} build)",
            serving * 100.0,
            serving_open.process * 100.0,
            serving_closed.process * 100.0,
            asked * 100.0
        ),
    );
    say(
        "dashboard",
        &format!(
            "while nobody looks, API, dashboard and watch cost {:.2} % of a core on one node and {:.2} % on the one with {ACTORS} \
             actors, of {:.1} and {:.1} % that the processes use; with the page open {:.2} and {:.2} % ({build} build)",
            serving_closed.dashboard * 100.0,
            asked_closed.dashboard * 100.0,
            serving_closed.process * 100.0,
            asked_closed.process * 100.0,
            serving_open.dashboard * 100.0,
            asked_open.dashboard * 100.0
        ),
    );
    // A debug build takes several times as long over thousands of actors.
    let held_to_it = if cfg!(debug_assertions) { 1 } else { 2 };
    for (node, used) in [("node-1", &serving_closed), ("node-4", &asked_closed)].into_iter().take(held_to_it) {
        ensure!(used.dashboard > 0.0, "{node} counts nothing, though it watches");
        ensure!(used.dashboard < CLOSED, "the dashboard that nobody looks at costs {node} {:.4} of a core", used.dashboard);
    }
    if std::env::var_os("SPEEDTRAP_COST").is_some() {
        ensure!(serving < OPEN, "serving the page costs {serving:.3} of a core");
        ensure!(asked < OPEN, "telling of {ACTORS} actors costs {asked:.3} of a core");
    }
    Ok(())
}

async fn used(stage: &Stage<'_>, name: &str, lasts: Duration) -> Result<Used> {
    let (pid, url) = (stage.cluster.node(name)?.process.pid()?, stage.url(name)?);
    let before = (cpu_seconds(pid)?, dashboard_seconds(url).await?);
    let begun = Instant::now();
    sleep(lasts).await;
    let after = (cpu_seconds(pid)?, dashboard_seconds(url).await?);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Used { process: (after.0 - before.0) / seconds, dashboard: (after.1 - before.1) / seconds })
}

/// As a scraper reads it.
async fn dashboard_seconds(url: &str) -> Result<f64> {
    let page = get_text(format!("{url}/metrics")).await?;
    let line = page.lines().find_map(|line| line.strip_prefix("speedtrap_dashboard_seconds_total "));
    line.context("the node does not count what its dashboard costs")?.trim().parse().context("no number")
}

/// Time on any core, user and system.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    ensure!(fields.len() > 12, "/proc tells nothing of {pid}");
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
