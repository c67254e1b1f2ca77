//! A real browser without a window, with an empty profile of its own, and all that it complains about or asks of others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, LoggingPrefsLogLevel};
use tokio::process::Command;

use crate::deadline::eventually;
use crate::process::Process;

/// Long for a busy machine; a page itself answers within a frame.
const LIMIT: Duration = Duration::from_secs(20);
/// What is looked for in this order, unless `$CHROME` names a browser.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// Without a sandbox, since CI runs as root. Names other than this machine's are not looked up at all, so whatever a page asks of
/// anybody else fails, and is complained about.
const FLAGS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];
/// Runs before anything of a page: keeps what the policy refused and what was asked of another origin.
const WATCH: &str = "
    globalThis.seenByTest = { refused: [], foreign: [] };
    addEventListener('securitypolicyviolation', (event) =>
      seenByTest.refused.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample} (${event.sourceFile}:${event.lineNumber})`));
    performance.setResourceTimingBufferSize(10000);
    new PerformanceObserver((list) => {
      for (const { name } of list.getEntries())
        if (!name.startsWith('data:') && new URL(name).origin !== location.origin) seenByTest.foreign.push(name);
    }).observe({ type: 'resource', buffered: true });";

/// A browser with one tab.
pub struct Browser {
    driver: WebDriver,
    chromedriver: Process,
    /// Home, temporary folder and profile; its path is in the command line of all that the browser starts.
    folder: TempDir,
}

impl Browser {
    /// Starts it. Call this from the test's own thread.
    ///
    /// # Errors
    /// When there is no browser, or it does not start.
    pub async fn start() -> Result<Self> {
        let browser = match std::env::var_os("CHROME") {
            Some(path) => PathBuf::from(path),
            None => BROWSERS.iter().find_map(|name| on_path(name)).with_context(|| lacking("browser"))?,
        };
        let chromedriver = on_path("chromedriver").with_context(|| lacking("chromedriver"))?;
        let folder = tempfile::Builder::new().prefix("speedtrap-browser-").tempdir()?;
        let mut command = Command::new(chromedriver);
        // Whatever is written to a home or a temporary folder goes with the test.
        command.arg("--port=0").env("HOME", folder.path()).env("TMPDIR", folder.path());
        let mut process = Process::start_with_output("chromedriver", command, folder.path())?;
        let port = eventually("chromedriver listens", LIMIT, || async {
            let said = std::fs::read_to_string(folder.path().join("chromedriver.out"))?;
            let port = said.lines().find_map(|line| line.split_once("started successfully on port ")).map(|(_, port)| port);
            port.and_then(|port| port.trim_end_matches('.').parse::<u16>().ok()).with_context(|| format!("it said: {said}"))
        });
        let port = match port.await {
            Ok(port) => port,
            Err(error) => return process.check_running().and(Err(error)),
        };
        let mut wanted = DesiredCapabilities::chrome();
        wanted.set_binary(browser.to_str().context("the browser's path is no UTF-8")?)?;
        for flag in FLAGS {
            wanted.add_arg(flag)?;
        }
        wanted.add_arg(&format!("--user-data-dir={}", folder.path().join("profile").display()))?;
        wanted.set_browser_log_level(LoggingPrefsLogLevel::All)?;
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await.context("the browser does not start")?;
        driver.cdp().send_raw("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WATCH })).await?;
        Ok(Self { driver, chromedriver: process, folder })
    }

    /// Loads a page. What the one before it did wrong must have been asked for with [`Browser::is_clean`].
    ///
    /// # Errors
    /// When it does not load.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.driver.goto(url).await.with_context(|| format!("{url} does not load"))
    }

    /// What a script returns, which is the body of a function.
    ///
    /// # Errors
    /// When it throws, or returns something else.
    pub async fn script<T: DeserializeOwned>(&self, body: &str, arguments: Vec<Value>) -> Result<T> {
        let returned = self.driver.execute(body, arguments).await.with_context(|| format!("the script failed: {body}"))?;
        returned.convert().with_context(|| format!("the script returned {}", returned.json()))
    }

    /// Waits until a script returns true.
    ///
    /// # Errors
    /// With what the page shows, when it does not.
    pub async fn until(&self, what: &str, limit: Duration, body: &str) -> Result<()> {
        let look = || async {
            ensure!(self.script::<bool>(body, Vec::new()).await?, "the page does not show it");
            Ok(())
        };
        let shown = eventually(what, limit, look).await;
        match shown {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(self.text().await.unwrap_or_default())),
        }
    }

    /// Everything that is written on the page.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn text(&self) -> Result<String> {
        self.script(
            "return document.body.innerText + '\\n' + [...document.querySelectorAll('dialog[open]')].map((it) => it.innerText)",
            Vec::new(),
        )
        .await
    }

    /// Clicks on an element, which may be made anew at any time.
    ///
    /// # Errors
    /// When it does not come, or cannot be clicked on.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let click = || async { Ok(self.driver.find(By::Css(selector)).await?.click().await?) };
        let clicked = eventually(&format!("`{selector}` can be clicked on"), LIMIT, click).await;
        match clicked {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(self.text().await.unwrap_or_default())),
        }
    }

    /// Types into a field, in place of what is there.
    ///
    /// # Errors
    /// When there is no such field.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let field = self.driver.find(By::Css(selector)).await.with_context(|| format!("there is no `{selector}`"))?;
        field.clear().await?;
        Ok(field.send_keys(text).await?)
    }

    /// Presses keys, wherever the focus is.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn press(&self, keys: impl Into<TypingData>) -> Result<()> {
        Ok(self.driver.action_chain().send_keys(keys).perform().await?)
    }

    /// What a screen reader finds on the page: the role and the name of each element.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn read_out(&self) -> Result<Vec<(String, String)>> {
        let tree = self.driver.cdp().send_raw("Accessibility.getFullAXTree", json!({})).await?;
        let nodes = tree["nodes"].as_array().context("there is no tree")?;
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().trim().to_owned();
        let seen = nodes.iter().filter(|node| node["ignored"] != true);
        Ok(seen.map(|node| (text(&node["role"]), text(&node["name"]))).collect())
    }

    /// Makes the window another size.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.driver.cdp().send_raw("Emulation.setDeviceMetricsOverride", metrics).await?;
        Ok(())
    }

    /// Milliseconds from the start of the load until something was painted.
    ///
    /// # Errors
    /// When nothing is.
    pub async fn first_paint_ms(&self) -> Result<f64> {
        let painted = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null";
        let look = || async { self.script::<Option<f64>>(painted, Vec::new()).await?.context("nothing is painted yet") };
        eventually("the page is painted", LIMIT, look).await
    }

    /// A picture of the page, kept in the folder that `SPEEDTRAP_TEST_LOGS` names.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub async fn picture(&self, name: &str) -> Result<()> {
        let Some(kept) = std::env::var_os("SPEEDTRAP_TEST_LOGS").map(PathBuf::from) else { return Ok(()) };
        Ok(self.driver.screenshot(&kept.join(format!("{name}.png"))).await?)
    }

    /// What the console said since this was asked last.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn console(&self) -> Result<Vec<String>> {
        let said = self.driver.browser_log().await?;
        Ok(said.into_iter().map(|entry| format!("{}: {}", entry.level, entry.message)).collect())
    }

    /// Whether the page asked nothing of another origin, broke its policy nowhere, and gave the console nothing to say.
    ///
    /// # Errors
    /// With what it did.
    pub async fn is_clean(&self) -> Result<()> {
        self.is_clean_but_for(|_| false).await
    }

    /// The same, with lines of the console that must be expected, as of a server that a test took away.
    ///
    /// # Errors
    /// With what it did.
    pub async fn is_clean_but_for(&self, expected: impl Fn(&str) -> bool) -> Result<()> {
        let said: Vec<_> = self.console().await?.into_iter().filter(|line| !expected(line)).collect();
        ensure!(said.is_empty(), "the console is not empty: {said:#?}");
        let seen: Value = self.script("return seenByTest", Vec::new()).await?;
        ensure!(seen == json!({ "refused": [], "foreign": [] }), "the page broke its policy, or left its origin: {seen:#}");
        Ok(())
    }

    /// Ends it, and sees to it that nothing of it is left.
    ///
    /// # Errors
    /// When something is.
    pub async fn end(mut self) -> Result<()> {
        self.driver.clone().quit().await?;
        self.chromedriver.signal(libc::SIGTERM)?;
        self.chromedriver.ended(LIMIT).await?;
        let look = || async {
            let left = of_folder(self.folder.path());
            ensure!(left.is_empty(), "processes of the browser are left: {left:?}");
            Ok(())
        };
        eventually("the browser's processes are gone", LIMIT, look).await
    }
}

impl Drop for Browser {
    /// A chromedriver that is ended leaves its browser behind, so all that runs on the folder is ended.
    fn drop(&mut self) {
        for pid in of_folder(self.folder.path()) {
            // SAFETY: a plain system call; the id was that of a process which this test's browser started.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

/// The CSS selector of an element that pages name for tests.
#[must_use]
pub fn hook(name: &str) -> String {
    format!("[data-testid=\"{name}\"]")
}

/// Processes in whose command line a folder stands.
fn of_folder(folder: &Path) -> Vec<libc::pid_t> {
    let folder = folder.to_string_lossy();
    let names = |pid: &libc::pid_t| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*folder)
    };
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(names).collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn lacking(what: &str) -> String {
    format!("there is no {what}; next: apt-get install chromium chromium-driver, or name a browser in $CHROME")
}
