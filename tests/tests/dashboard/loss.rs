//! A node that is killed, another's or the one that serves the page: what is shown of it, and how soon.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use speedtrap_tests::browser::hook;
use speedtrap_tests::figures::say;
use tokio::time::Instant;

use super::shown::Shown;
use super::strip::{Strip, Told};
use super::{LIMIT, LIVE, Stage};

/// What is promised of a loss.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
/// What is promised of a page whose node is back.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// It is shown as lost with its last data, a finding says so, and goes when it is back.
pub(crate) async fn a_killed_node_is_lost_and_found(stage: &mut Stage<'_>) -> Result<()> {
    let url = stage.url("node-1")?.to_owned();
    let strip = Strip::open(&stage.browser, &url, "loss").await?;
    strip.is_empty(LIMIT).await?;
    let before = Shown::read(&stage.browser).await?;
    let (killed, killed_at) = (Instant::now(), SystemTime::now());
    stage.cluster.kill("node-3").await?;
    let lost = "return document.querySelector('[data-testid=\"node-row\"][data-node=\"node-3\"]')?.dataset.state === 'lost'";
    stage.browser.until("the node is shown as lost", LIMIT, lost).await?;
    let to_lost = killed.elapsed();
    let is_it = |told: &Told| told.is(&["node-silent", "node-dead"], Some("node-3"), "node-3");
    strip.shows("kill -9 of another node", is_it, killed_at).await?;

    let after = Shown::read(&stage.browser).await?;
    let (was, is) = (&before.nodes["node-3"], &after.nodes["node-3"]);
    ensure!(is.get("rss") == was.get("rss") && is.contains_key("rss"), "its last data are gone: {was:?}, {is:?}");
    ensure!(is["text"].contains("stale"), "it is not said how old its data are: {is:?}");
    let grey =
        "return [...document.querySelectorAll('[data-node=\"node-3\"] [data-field=\"rss\"]')].every((it) => it.matches('.old'))";
    ensure!(stage.browser.script::<bool>(grey, Vec::new()).await?, "its data are not greyed");

    stage.cluster.start(&["node-3"]).await?;
    strip.clears("kill -9 of another node", is_it, SystemTime::now()).await?;
    say("dashboard", &format!("kill -9 of another node: lost on the page after {:.1} s", to_lost.as_secs_f64()));
    ensure!(to_lost <= SHOWN_WITHIN, "it was shown as lost after {to_lost:?}");
    stage.cluster.fair(LIMIT).await?;
    stage.browser.is_clean().await
}

/// The page says that it is disconnected, offers the other nodes, and finds its node again by itself.
pub(crate) async fn a_page_without_its_node_says_so(stage: &mut Stage<'_>) -> Result<()> {
    stage.browser.until("the page is live", LIMIT, LIVE).await?;
    // The console speaks of nothing else but the node that is gone.
    let url = stage.url("node-1")?.to_owned();
    stage.cluster.kill("node-1").await?;
    let killed = Instant::now();
    let disconnected = "return document.querySelector('[data-testid=\"live-state\"]').dataset.value === 'disconnected'";
    stage.browser.until("the page says that it is disconnected", LIMIT, disconnected).await?;
    let to_word = killed.elapsed();
    let others = format!("return [...document.querySelectorAll('{}')].map((it) => it.innerText)", hook("other-node"));
    let others: Vec<String> = stage.browser.script(&others, Vec::new()).await?;
    ensure!(others == ["node-2", "node-3"], "the page offers {others:?}");

    stage.cluster.start(&["node-1"]).await?;
    let back = Instant::now();
    stage.browser.until("the page is live again", LIMIT, LIVE).await?;
    let to_live = back.elapsed();
    let seconds = [to_word, to_live].map(|it| it.as_secs_f64());
    say(
        "dashboard",
        &format!(
            "kill -9 of the serving node: disconnected after {:.1} s, live {:.1} s after it was back",
            seconds[0], seconds[1]
        ),
    );
    ensure!(to_word <= SHOWN_WITHIN, "the page said so after {to_word:?}");
    ensure!(to_live <= BACK_WITHIN, "the page was live {to_live:?} after its node was back");
    stage.cluster.fair(LIMIT).await?;
    stage.browser.until("no finding is left", LIMIT, "return !document.querySelector('[data-testid=\"finding\"]')").await?;
    let gone = |line: &str| line.contains(&url) && line.contains("net::ERR_");
    stage.browser.is_clean_but_for(gone).await
}
