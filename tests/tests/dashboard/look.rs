//! The page in small and large windows, dark and light.

use anyhow::{Result, ensure};
use serde_json::json;
use speedtrap_tests::browser::hook;

use super::{LIMIT, LIVE, Stage};

const PAGES: [&str; 9] = ["overview", "actors", "shards", "pipeline", "loader", "dead-letters", "map", "nodes", "audit"];

/// No page scrolls sideways at 800 pixels, and the overview scrolls nowhere at 1440 by 900. Contrast is tested on the colours
/// themselves.
pub(crate) async fn fits_small_and_large_windows(stage: &Stage<'_>) -> Result<()> {
    let browser = &stage.browser;
    for (theme, width, height) in [("dark", 800, 900), ("light", 1440, 900)] {
        browser.resize(width, height).await?;
        browser.script::<()>("document.documentElement.dataset.theme = arguments[0]", vec![json!(theme)]).await?;
        for page in PAGES {
            browser.click(&hook(&format!("nav-{page}"))).await?;
            let opened =
                format!("return location.hash.startsWith('#/{page}') && document.querySelector('main').innerText.length > 20");
            browser.until("the page is open", LIMIT, &opened).await?;
            let wide: u32 = browser.script("return document.documentElement.scrollWidth", Vec::new()).await?;
            ensure!(wide <= width, "{page} is {wide} pixels wide in a window of {width}");
            browser.picture(&format!("dashboard-{page}-{theme}-{width}")).await?;
        }
    }
    browser.click(&hook("nav-overview")).await?;
    browser.until("the overview is live", LIMIT, LIVE).await?;
    let high: u32 = browser.script("return document.documentElement.scrollHeight", Vec::new()).await?;
    ensure!(high <= 900, "the overview is {high} pixels high in a window of 900");
    browser.is_clean().await
}
