//! The page in small and large windows, dark and light.

use anyhow::{Result, ensure};
use serde_json::json;
use speedtrap_tests::browser::{Browser, hook};
use speedtrap_tests::figures::say;

use super::{LIMIT, LIVE, Stage};

const PAGES: [&str; 9] = ["overview", "actors", "shards", "pipeline", "loader", "dead-letters", "map", "nodes", "audit"];

/// What somebody can do something with, as screen readers call it.
const INTERACTIVE: [&str; 10] =
    ["button", "link", "textbox", "searchbox", "checkbox", "radio", "combobox", "switch", "slider", "spinbutton"];
/// Tables, and the tree of actors.
const TABLES: [&str; 3] = ["table", "grid", "treegrid"];

/// No page scrolls sideways at 800 pixels, and the overview scrolls nowhere at 1440 by 900. Contrast is tested on the colours
/// themselves.
pub(crate) async fn fits_small_and_large_windows(stage: &Stage<'_>) -> Result<()> {
    let browser = &stage.browser;
    let mut read_out = (0, 0);
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
            if theme == "dark" {
                let (controls, tables) = can_be_read_out(browser, page).await?;
                read_out = (read_out.0 + controls, read_out.1 + tables);
            }
            browser.picture(&format!("dashboard-{page}-{theme}-{width}")).await?;
        }
    }
    say("dashboard", &format!("{} controls and {} tables on {} pages have names", read_out.0, read_out.1, PAGES.len()));
    browser.click(&hook("nav-overview")).await?;
    browser.until("the overview is live", LIMIT, LIVE).await?;
    let high: u32 = browser.script("return document.documentElement.scrollHeight", Vec::new()).await?;
    ensure!(high <= 900, "the overview is {high} pixels high in a window of 900");
    browser.is_clean().await
}

/// Whatever can be clicked on or typed into, and every table, has a name; says how many there are of both.
async fn can_be_read_out(browser: &Browser, page: &str) -> Result<(usize, usize)> {
    let elements = browser.read_out().await?;
    let of = |roles: &[&str]| elements.iter().filter(|(role, _)| roles.contains(&role.as_str())).cloned().collect::<Vec<_>>();
    let (interactive, tables) = (of(&INTERACTIVE), of(&TABLES));
    let nameless =
        interactive.iter().chain(&tables).filter(|(_, name)| name.is_empty()).map(|(role, _)| role).collect::<Vec<_>>();
    ensure!(nameless.is_empty(), "{page}: these have no name: {nameless:?}");
    // The navigation alone is that many.
    ensure!(interactive.len() >= PAGES.len(), "{page}: only {interactive:?} can be used");
    ensure!(page != "actors" || tables.iter().any(|(role, _)| role == "treegrid"), "the tree of actors is none: {tables:?}");
    Ok((interactive.len(), tables.len()))
}
