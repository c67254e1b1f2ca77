//! What an operator does on the page: an actor of another node is killed, dead letters are put back, and nothing is done by mistake.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use speedtrap_tests::browser::hook;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::figures::say;
use speedtrap_tests::letters::{id_of, store};
use speedtrap_tests::streams::{IN_STREAM, all_records};
use thirtyfour::Key;

use super::equality::{rows, word};
use super::{LIMIT, LIVE, Stage};

const REASON: &str = "a test wants it";
const WHO: &str = "tester";
/// Letters that are put back.
const LETTERS: usize = 12;

/// By the keyboard alone once the actor is chosen: a wrong name leaves the button disabled, the right one kills; the page shows the
/// reason and by whom, and the audit what was intended and what became of it.
pub(crate) async fn an_actor_of_another_node_is_killed(stage: &Stage<'_>) -> Result<()> {
    let browser = &stage.browser;
    let actors = stage.says("node-1", &["actors"]).await?;
    let is_there = |row: &&Value| row["kind"] == "SpeedFilter" && row["node"] != "node-1";
    let victim = rows(&actors["rows"]).find(is_there).context("another node has a SpeedFilter")?;
    let (name, id) = (word(victim, "name").to_owned(), victim["id"].clone());
    let own = name.rsplit('/').next().unwrap_or(&name);
    browser.open(&format!("{}/?kill#/actors?open={name}", stage.url("node-1")?)).await?;
    browser.until("the page is live", LIMIT, LIVE).await?;
    browser
        .until("the actor can be killed", LIMIT, &format!("return !!document.querySelector('{}')", hook("do-kill-actor")))
        .await?;
    browser.script::<()>(&format!("document.querySelector('{}').focus()", hook("do-kill-actor")), Vec::new()).await?;
    browser.press(Key::Enter).await?;
    let asks = format!("return document.activeElement?.matches('{}') ?? false", hook("confirm-reason"));
    browser.until("the dialog asks for a reason", LIMIT, &asks).await?;
    let ready = format!("return !document.querySelector('{}').hasAttribute('disabled')", hook("confirm-run"));
    for (text, then) in [(REASON, Some(Key::Tab)), (WHO, Some(Key::Tab)), (&format!("not-{own}"), None)] {
        browser.press(text).await?;
        if let Some(key) = then {
            browser.press(key).await?;
        }
    }
    let effects = format!("return document.querySelectorAll('{} li').length > 1", hook("confirm-effects"));
    browser.until("the dialog says what will happen", LIMIT, &effects).await?;
    ensure!(!browser.script::<bool>(&ready, Vec::new()).await?, "a wrong name enables the button");
    browser.press(Key::Enter).await?;
    ensure!(rows(&stage.says("node-1", &["actors"]).await?["rows"]).any(|row| row["id"] == id), "a wrong name killed the actor");
    browser.fill(&hook("confirm-text"), own).await?;
    browser.until("the right name enables the button", LIMIT, &ready).await?;
    browser.press(Key::Enter).await?;
    let done = format!("return document.querySelector('{}')?.dataset.value === 'done'", hook("confirm-said"));
    browser.until("the page says that it is done", LIMIT, &done).await?;
    browser.press(Key::Escape).await?;

    let told =
        format!("return document.querySelector('{}').innerText.includes('killed by {WHO}: {REASON}')", hook("actor-details"));
    browser.until("the page shows the reason and by whom", LIMIT, &told).await?;
    eventually("it runs again", LIMIT, || async {
        let actors = stage.says("node-1", &["actors"]).await?;
        let row = rows(&actors["rows"]).find(|row| row["name"] == *name).context("it is gone")?.clone();
        ensure!(row["state"] == "running" && row["id"] != id, "{row}");
        Ok(())
    })
    .await?;
    browser.click(&hook("nav-audit")).await?;
    let both = format!(
        "const rows = [...document.querySelectorAll('{}')].filter((it) => it.innerText.includes('{name}') && it.innerText.includes('{REASON}'));
         return ['intent', 'done'].every((phase) => rows.some((it) => it.dataset.phase === phase));",
        hook("audit-row")
    );
    browser.until("the audit has intent and outcome", LIMIT, &both).await?;
    say(
        "dashboard",
        &format!("{name} was killed on the page of node-1, runs again, and stands in the audit with intent and outcome"),
    );
    browser.is_clean().await
}

/// As many readings come onto the in-stream as letters were put back, each of them once; each ends once and is texted once.
pub(crate) async fn dead_letters_go_back_once(stage: &Stage<'_>) -> Result<()> {
    let (browser, clients) = (&stage.browser, &stage.sandbox.clients);
    let plates: Vec<String> = stage.traffic.sent().into_iter().map(|reading| reading.values[0].clone()).take(LETTERS).collect();
    let payload = |n: usize| {
        json!({
            "iottimestamp": format!("2026-02-01 00:00:{n:02}.000001"), "licensePlate": plates[n], "longitude": "-80.0",
            "latitude": "40.0", "city": "Pebblestow", "state": "Iowa", "speed": "99", "eventId": format!("letter-{n:03}"),
        })
        .to_string()
        .into_bytes()
    };
    let counts = || async {
        let status = stage.says("node-1", &["status"]).await?;
        let count = |count: &Value| count.as_u64().with_context(|| format!("no count in {status}"));
        anyhow::Ok((count(&status["events_in"])?, count(&status["outcomes_by_role"]["notify"]["notified"])?))
    };
    // What the steps before sent is texted, too, before anything is counted.
    let (before, texted) = eventually("nothing is on its way", LIMIT, || async {
        stage.cluster.idle(LIMIT).await?;
        let then = counts().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = counts().await?;
        ensure!(now == then, "{now:?} events and texts, {then:?} a second before");
        Ok(now)
    })
    .await?;
    for n in 0..LETTERS {
        store(&clients.dynamodb, &id_of("enrich", &payload(n)), "enrich", IN_STREAM, &payload(n)).await?;
    }
    browser.open(&format!("{}/?letters#/dead-letters", stage.url("node-1")?)).await?;
    let shown = format!("return document.querySelectorAll('{}').length === {LETTERS}", hook("letter-row"));
    browser.until("the letters are shown", LIMIT, &shown).await?;
    browser.click(&hook("do-redrive")).await?;
    browser.fill(&hook("confirm-reason"), REASON).await?;
    browser.fill(&hook("confirm-who"), WHO).await?;
    browser.fill(&hook("confirm-text"), &LETTERS.to_string()).await?;
    let ready = format!("return !document.querySelector('{}').hasAttribute('disabled')", hook("confirm-run"));
    browser.until("the button is enabled", LIMIT, &ready).await?;
    browser.click(&hook("confirm-run")).await?;
    let done = format!("return document.querySelector('{}')?.dataset.value === 'done'", hook("confirm-said"));
    browser.until("the page says that it is done", LIMIT, &done).await?;
    eventually("all of them are settled", LIMIT, || async {
        let (now, texts) = counts().await?;
        ensure!(now == before + LETTERS as u64, "{now} events ended, {before} before {LETTERS} letters were put back");
        ensure!(texts == texted + LETTERS as u64, "{texts} texts were sent, {texted} before {LETTERS} letters were put back");
        Ok(())
    })
    .await?;
    // What comes late would be one too many.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let records = all_records(&clients.kinesis, IN_STREAM).await?;
    let back: Vec<String> = records
        .iter()
        .filter_map(|record| serde_json::from_slice::<Value>(record.data.as_ref()).ok())
        .filter_map(|record| record["eventId"].as_str().filter(|id| id.starts_with("letter-")).map(str::to_owned))
        .collect();
    let distinct: BTreeSet<&String> = back.iter().collect();
    ensure!(back.len() == LETTERS && distinct.len() == LETTERS, "these came back onto the stream: {back:?}");
    let letters = stage.says("node-1", &["dead-letters", "list", "--state", "redriven"]).await?;
    ensure!(rows(&letters["letters"]).count() == LETTERS, "{letters}");
    say(
        "dashboard",
        &format!("a redrive of {LETTERS} dead letters on the page put {} back, each once and each texted once", back.len()),
    );
    browser.is_clean().await
}
