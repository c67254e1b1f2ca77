//! The strip of findings on the overview, watched from inside the page: what stood there, and from when to when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use speedtrap_tests::browser::Browser;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::figures::say;

use super::{LIMIT, LIVE};

/// What is promised of a fault, and of its repair.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Keeps what stands in the strip whenever that changes, by this machine's clock.
const WATCH: &str = r#"
    const strip = document.querySelector('section.findings');
    const looks = globalThis.strip_looks = [];
    const look = () => {
      const findings = [...strip.querySelectorAll('[data-testid="finding"]')].map((it) =>
        ({ rule: it.dataset.rule, target: it.dataset.target, node: it.dataset.node ?? null, text: it.querySelector('a').title }));
      const names = JSON.stringify(findings.map((it) => [it.rule, it.node, it.target]));
      if (looks.at(-1)?.names !== names) looks.push({ at: Date.now(), names, findings });
    };
    new MutationObserver(look).observe(strip, { childList: true, subtree: true, characterData: true });
    look();"#;

/// A finding on the page.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Told {
    rule: String,
    target: String,
    node: Option<String>,
    pub(crate) text: String,
}

/// What stood there from some moment on.
#[derive(Debug, Deserialize)]
struct Look {
    at: u64,
    findings: Vec<Told>,
}

/// The strip of one page.
pub(crate) struct Strip<'a>(&'a Browser);

impl Told {
    /// Whether one of these rules speaks of this target on this node; findings of all nodes together name none.
    pub(crate) fn is(&self, rules: &[&str], node: Option<&str>, target: &str) -> bool {
        rules.contains(&self.rule.as_str()) && self.node.as_deref() == node && self.target == target
    }
}

impl Look {
    /// How long after a moment it began.
    fn after(&self, moment: SystemTime) -> Result<Duration> {
        Ok((UNIX_EPOCH + Duration::from_millis(self.at)).duration_since(moment).unwrap_or_default())
    }
}

impl<'a> Strip<'a> {
    /// Opens the overview that a node serves, and watches.
    pub(crate) async fn open(browser: &'a Browser, url: &str, query: &str) -> Result<Self> {
        browser.open(&format!("{url}/?{query}#/overview")).await?;
        browser.until("the page is live", LIMIT, LIVE).await?;
        browser.script::<()>(WATCH, Vec::new()).await?;
        Ok(Self(browser))
    }

    async fn looks(&self) -> Result<Vec<Look>> {
        self.0.script("return strip_looks", Vec::new()).await
    }

    /// Waits for a finding about a fault that was put in at that moment, and says how soon it came.
    pub(crate) async fn shows(&self, fault: &str, is_it: impl Fn(&Told) -> bool, since: SystemTime) -> Result<Told> {
        let shown = || async {
            let looks = self.looks().await?;
            let find = |look: &Look| Some((look.after(since).ok()?, look.findings.iter().find(|told| is_it(told))?.clone()));
            looks.iter().find_map(find).with_context(|| format!("the page shows {:?}", looks.last()))
        };
        let (after, told) = eventually(fault, LIMIT, shown).await?;
        say("dashboard", &format!("{fault}: on the page after {:.1} s: {}, {}", after.as_secs_f64(), told.rule, told.text));
        ensure!(after <= SHOWN_WITHIN, "{fault} was shown only after {after:?}");
        Ok(told)
    }

    /// Waits until the strip is empty after a repair, and says how soon the finding was gone for good.
    pub(crate) async fn clears(&self, fault: &str, is_it: impl Fn(&Told) -> bool, repaired: SystemTime) -> Result<()> {
        self.is_empty(LIMIT).await?;
        let looks = self.looks().await?;
        let last = looks.iter().rposition(|look| look.findings.iter().any(&is_it)).context("it was not there")?;
        let gone = looks.get(last + 1).context("the strip is empty")?.after(repaired)?;
        let empty = looks.last().context("there are looks")?.after(repaired)?;
        let seconds = [gone, empty].map(|it| it.as_secs_f64());
        say(
            "dashboard",
            &format!("{fault}: off the page {:.1} s after its repair; nothing to be found after {:.1} s", seconds[0], seconds[1]),
        );
        ensure!(gone <= GONE_WITHIN, "{fault} was gone only after {gone:?}");
        Ok(())
    }

    /// Waits until nothing is to be found.
    pub(crate) async fn is_empty(&self, limit: Duration) -> Result<()> {
        let look = || async {
            let looks = self.looks().await?;
            ensure!(looks.last().is_some_and(|look| look.findings.is_empty()), "the page shows {:?}", looks.last());
            Ok(())
        };
        eventually("nothing is to be found", limit, look).await
    }

    /// Sees to it that nothing is to be found for so long, on a page that is live all the time.
    pub(crate) async fn stays_empty(&self, lasts: Duration) -> Result<()> {
        self.is_empty(LIMIT).await?;
        let before = self.looks().await?.len();
        let (begun, mut n_looks) = (tokio::time::Instant::now(), 0);
        while begun.elapsed() < lasts {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ensure!(self.0.script::<bool>(LIVE, Vec::new()).await?, "the page is not live after {:?}", begun.elapsed());
            n_looks += 1;
        }
        let told: Vec<_> = self.looks().await?.into_iter().skip(before).flat_map(|look| look.findings).collect();
        ensure!(told.is_empty(), "nothing was wrong, and the page showed {told:?}");
        say(
            "dashboard",
            &format!("0 findings on the page in {} s of a healthy run, live in all of {n_looks} looks", lasts.as_secs()),
        );
        Ok(())
    }
}
