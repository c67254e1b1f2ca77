//! What stands on a page, read by the names that elements have for tests.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use speedtrap_tests::browser::Browser;

const READ: &str = r#"
    const fields = (root) => Object.fromEntries([...root.querySelectorAll('[data-field][data-value]')].map((it) => [it.dataset.field, it.dataset.value]));
    const rows = (name, key) =>
      Object.fromEntries([...document.querySelectorAll(`[data-testid="${name}"]`)].filter((it) => !it.hidden).map((it) => [it.dataset[key], { ...fields(it), text: it.innerText }]));
    return {
      kpis: Object.fromEntries([...document.querySelectorAll('[data-testid^="kpi-"]')].map((it) => [it.dataset.testid.slice(4), it.dataset.value])),
      nodes: rows('node-row', 'node'),
      shards: rows('shard-row', 'shard'),
      actors: rows('actor-row', 'actor'),
      states: rows('state-row', 'state'),
      letters: rows('letter-row', 'letter'),
      findings: [...document.querySelectorAll('[data-testid="finding"]')].map((it) => it.innerText),
      live: document.querySelector('[data-testid="live-state"]')?.dataset.value ?? null,
    };"#;

/// The fields of a row: what it shows of each, and its whole text.
pub(crate) type Row = BTreeMap<String, String>;

/// A page at one moment.
#[derive(Debug, Deserialize)]
pub(crate) struct Shown {
    pub(crate) kpis: BTreeMap<String, String>,
    pub(crate) nodes: BTreeMap<String, Row>,
    pub(crate) shards: BTreeMap<String, Row>,
    /// Those in sight.
    pub(crate) actors: BTreeMap<String, Row>,
    pub(crate) states: BTreeMap<String, Row>,
    pub(crate) letters: BTreeMap<String, Row>,
    pub(crate) findings: Vec<String>,
    pub(crate) live: Option<String>,
}

impl Shown {
    /// Reads the page.
    pub(crate) async fn read(browser: &Browser) -> Result<Self> {
        browser.script(READ, Vec::new()).await
    }
}

/// Compares a number on a page with what it must be; what is unknown must be called so.
pub(crate) fn is_number(what: &str, shown: Option<&String>, expected: Option<f64>) -> Result<()> {
    let shown = shown.with_context(|| format!("{what} is not shown"))?;
    let is_right = match expected {
        None => shown == "unknown",
        Some(expected) => shown.parse::<f64>().is_ok_and(|shown| (shown - expected).abs() <= expected.abs() * 1e-6),
    };
    ensure!(is_right, "{what}: the page shows {shown}, the command says {expected:?}");
    Ok(())
}

/// Compares a word on a page with what it must be.
pub(crate) fn is_word(what: &str, shown: Option<&String>, expected: &str) -> Result<()> {
    let shown = shown.with_context(|| format!("{what} is not shown"))?;
    ensure!(shown == expected, "{what}: the page shows {shown}, the command says {expected}");
    Ok(())
}
