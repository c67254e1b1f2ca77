//! SNS takes one text a second while violations come much faster: the notify lane alone waits, reads no further and holds no more,
//! and enrichment goes on as fast as before with its checkpoints.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::browser::Browser;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::get_json;
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::ENRICH;
use speedtrap_tests::node::Node;
use speedtrap_tests::pace::Pace;
use speedtrap_tests::reads::Reads;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{IN_STREAM, OUT_STREAM};
use speedtrap_tests::traffic::{Mix, Traffic};
use speedtrap_tests::wiretap::Wiretaps;
use tokio::time::{Instant, sleep};

/// Readings a second, nearly all of which owe a text.
const RATE: u32 = 30;
/// Readings that come at once after that.
const BURST: usize = 2_000;
const FOR: Duration = Duration::from_secs(12);
/// Between two texts while a backlog is made: far slower than enrichment, so that the reader is given more than it can let in.
const BACKLOG_PACE: Duration = Duration::from_millis(50);
/// Between two texts of an SNS that is slow.
const SLOW_PACE: Duration = Duration::from_secs(1);
/// What notify lanes may have let in and not ended.
const CREDIT: u64 = 32;
/// Texts that may be on their way at once, beside one a second.
const IN_FLIGHT: u64 = 4;
/// What a node may grow while thousands of texts are owed. One that kept them would need more for the batches alone.
const MOST_GROWTH_KIB: i64 = 6 * 1024;
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);
/// What enrichment does of what it did before, at least: speed and checkpoints. The rest is other work of the machine.
const LEAST_OF_BEFORE: f64 = 0.7;
const LIMIT: Duration = Duration::from_secs(60);

/// The node, and what stands between it and its services.
struct Rig {
    node: Node,
    sns: Pace,
    kinesis: Reads,
    dynamodb: Wiretaps,
}

/// What a while was like.
struct Phase {
    /// Readings that enrichment settled a second, of a burst.
    speed: f64,
    /// Checkpoints of enrich lanes a second while readings come steadily.
    checkpoints: f64,
    /// Reads of the in-stream and of the out-stream a second.
    reads: [f64; 2],
    /// From the last steady reading until enrichment had settled all.
    behind: Duration,
    /// Calls that SNS took, and how long it had for them.
    texts: u64,
    lasted: Duration,
    /// The share of its time that the notifier waited while readings came steadily.
    waiting: f64,
    most_in_lane: u64,
    grown_kib: i64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_texts_hold_back_nothing_but_texts() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let mix = Mix { seed: 31, violations: 0.95, bad_numbers: 0.0, unknown_plates: 0 };
    let traffic = Traffic::begin(&sandbox, 400, mix).await?;
    let aws = &sandbox.endpoints.aws_endpoint_url;
    let (sns, kinesis) = (Pace::before(aws).await?, Reads::before(aws).await?);
    let dynamodb = Wiretaps::of(&["node-1"], aws).await?;
    let mut tapped = Ok(());
    let wires = |command: &mut tokio::process::Command| {
        command.env("AWS_ENDPOINT_URL_SNS", format!("http://{}", sns.address()));
        command.env("AWS_ENDPOINT_URL_KINESIS", format!("http://{}", kinesis.address()));
        tapped = dynamodb.tap("node-1", command);
    };
    let node = Node::start_with(&sandbox.endpoints, sandbox.folder(), "node-1", wires).await?;
    tapped?;
    let rig = Rig { node, sns, kinesis, dynamodb };
    rig.caught_up(traffic.sent().len()).await?;
    let (traffic, before) = rig.phase(traffic).await.context("SNS at full speed")?;

    let traffic = rig.slowed(traffic).await?;
    let (traffic, slow) = rig.phase(traffic).await.context("SNS at one text a second")?;
    let owed = traffic.sent().iter().filter(|reading| reading.is_violation()).count() as u64;
    tell(&before, &slow, owed);

    let seconds = slow.lasted.as_secs_f64();
    ensure!(slow.texts as f64 <= seconds + IN_FLIGHT as f64, "{} texts in {seconds:.0} s are more than one a second", slow.texts);
    ensure!(slow.texts as f64 >= seconds / 2.0, "only {} texts left in {seconds:.0} s", slow.texts);
    ensure!(before.texts > 4 * slow.texts, "SNS was no slower than before: {} texts, {} before", slow.texts, before.texts);
    the_page_says_who_waits(&rig.node.url).await?;
    let (actor, _) = rig.notifier().await?;
    ensure!(actor["waiting"] == true, "the notifier does not wait: {actor}");
    ensure!(slow.waiting > 0.9, "the notifier waits only {:.2} of its time: {actor}", slow.waiting);
    ensure!(before.reads[1] > 0.0 && slow.reads[1] == 0.0, "the notify reader reads on: {} times a second", slow.reads[1]);
    ensure!(slow.most_in_lane <= CREDIT, "{} records were in the notify lane", slow.most_in_lane);
    ensure!(slow.grown_kib < MOST_GROWTH_KIB, "the node grew by {} KiB", slow.grown_kib);
    ensure!(slow.behind < CAUGHT_UP_WITHIN, "enrichment settled everything only {:?} after the last reading", slow.behind);
    for (what, now, then) in [
        ("readings", slow.speed, before.speed),
        ("checkpoints", slow.checkpoints, before.checkpoints),
        ("reads of the in-stream", slow.reads[0], before.reads[0]),
    ] {
        ensure!(now >= then * LEAST_OF_BEFORE, "{now:.1} {what} a second, {then:.1} while SNS was fast");
    }
    // Nobody has to wait for hundreds of texts.
    rig.sns.one_in(None);
    rig.node.stop().await?;
    sandbox.end().await
}

/// On the page of the pipeline the notifier is held up, and nobody else.
async fn the_page_says_who_waits(url: &str) -> Result<()> {
    let browser = Browser::start().await?;
    browser.open(&format!("{url}/#/pipeline")).await?;
    let levels = |stages: &str| {
        format!("[...document.querySelectorAll('[data-stage{stages}] [data-field=\"level\"]')].map((cell) => cell.dataset.value)")
    };
    let notifier = format!("return {}[0] === 'HIGH'", levels("=\"notify/OwnerNotifier\""));
    browser.until("the notifier is held up", LIMIT, &notifier).await?;
    let enrich: Vec<String> = browser.script(&format!("return {}", levels("^=\"enrich/\"")), Vec::new()).await?;
    ensure!(enrich.len() >= 5 && !enrich.contains(&"HIGH".to_owned()), "stages of enrichment are held up: {enrich:?}");
    browser.picture("slow-texts").await?;
    browser.is_clean().await?;
    browser.end().await
}

fn tell(before: &Phase, slow: &Phase, owed: u64) {
    let reads = |phase: &Phase| format!("{:.1} and {:.1}", phase.reads[0], phase.reads[1]);
    say(
        "slow_texts",
        &format!(
            "SNS answers one text a second for {:.0} s: {} texts of {owed} owed so far, at most {} in the notify lane, which waits \
             {:.0} % of its time ({:.0} % before); reads a second of in-stream and out-stream {} (before {}); memory grew by {} KiB",
            slow.lasted.as_secs_f64(),
            slow.texts,
            slow.most_in_lane,
            slow.waiting * 100.0,
            before.waiting * 100.0,
            reads(slow),
            reads(before),
            slow.grown_kib
        ),
    );
    say(
        "slow_texts",
        &format!(
            "enrichment meanwhile: a burst of {BURST} at {:.0} a second ({:.0} before), {:.1} checkpoints a second ({:.1} before), \
             everything settled {:.1} s after the last of {RATE} readings a second ({:.1} s before)",
            slow.speed,
            before.speed,
            slow.checkpoints,
            before.checkpoints,
            slow.behind.as_secs_f64(),
            before.behind.as_secs_f64()
        ),
    );
}

impl Rig {
    /// Steady readings, then a burst.
    async fn phase(&self, traffic: Traffic) -> Result<(Traffic, Phase)> {
        let pid = self.node.process.pid()?;
        let (begun, from, rss) = (Instant::now(), SystemTime::now(), own_kib(pid)?);
        let (waited, texts) = (self.notifier().await?.1, self.sns.passed());
        let reads = [IN_STREAM, OUT_STREAM].map(|stream| self.kinesis.of(stream));
        let flow = traffic.flow(RATE);
        let mut most_in_lane = 0;
        while begun.elapsed() < FOR {
            sleep(Duration::from_secs(1)).await;
            most_in_lane = most_in_lane.max(self.lane("notify").await?["in_lane"].as_u64().context("a count")?);
        }
        let mut traffic = flow.stop().await?;
        let steady = begun.elapsed().as_secs_f64();
        let checkpoints = self.checkpoints(from) as f64 / steady;
        let waiting = (self.notifier().await?.1 - waited) / 1_000.0 / begun.elapsed().as_secs_f64();
        let behind = self.caught_up(traffic.sent().len()).await?;
        let burst = Instant::now();
        traffic.send(BURST).await?;
        self.caught_up(traffic.sent().len()).await?;
        let speed = BURST as f64 / burst.elapsed().as_secs_f64();
        let lasted = begun.elapsed();
        let now = [IN_STREAM, OUT_STREAM].map(|stream| self.kinesis.of(stream));
        let phase = Phase {
            speed,
            checkpoints,
            reads: [now[0] - reads[0], now[1] - reads[1]].map(|n| n as f64 / lasted.as_secs_f64()),
            behind,
            texts: self.sns.passed() - texts,
            waiting,
            lasted,
            most_in_lane,
            grown_kib: own_kib(pid)? - rss,
        };
        Ok((traffic, phase))
    }

    /// Checkpoints of enrich lanes that were written since then.
    fn checkpoints(&self, since: SystemTime) -> usize {
        let calls = self.dynamodb.calls("node-1").into_iter();
        let is_one = |call: &speedtrap_tests::wiretap::Call| {
            call.at >= since && call.table() == ENRICH && call.is_accepted() && call.sets("checkpoint").is_some()
        };
        calls.filter(is_one).count()
    }

    /// Slows SNS, and waits until the notify lane is full and its reader reads no more.
    async fn slowed(&self, mut traffic: Traffic) -> Result<Traffic> {
        self.sns.one_in(Some(BACKLOG_PACE));
        traffic.send(BURST).await?;
        self.caught_up(traffic.sent().len()).await?;
        sleep(BACKLOG_PACE * u32::try_from(CREDIT)?).await;
        self.sns.one_in(Some(SLOW_PACE));
        eventually("the notify reader reads no more", LIMIT, || async {
            let before = self.kinesis.of(OUT_STREAM);
            sleep(Duration::from_secs(2)).await;
            let (lane, now) = (self.lane("notify").await?, self.kinesis.of(OUT_STREAM));
            ensure!(lane["in_lane"].as_u64() >= Some(CREDIT / 2) && now == before, "{now} reads, {before} before; {lane}");
            Ok(())
        })
        .await?;
        Ok(traffic)
    }

    /// Waits until the checkpoints of the enrich lanes cover so many readings; says how long it took.
    async fn caught_up(&self, readings: usize) -> Result<Duration> {
        let begun = Instant::now();
        eventually("enrichment has settled everything", LIMIT, || async {
            let ended = self.node.status().await?.all_ended("enrich");
            ensure!(ended == readings as u64, "{ended} of {readings} readings are settled");
            Ok(())
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// The only lane of a role that is not closed.
    async fn lane(&self, role: &str) -> Result<Value> {
        let status = self.node.status().await?;
        let lanes = status.json()["lanes"].as_array().context("there are lanes")?;
        lanes.iter().find(|lane| lane["role"] == role).cloned().with_context(|| format!("there is no lane of {role}"))
    }

    /// The notifier's row, and for how many milliseconds it has waited so far.
    async fn notifier(&self) -> Result<(Value, f64)> {
        let page: Value = get_json(format!("{}/api/v1/actors", self.node.url)).await?;
        let rows = page["rows"].as_array().context("there are actors")?;
        let row = rows.iter().find(|row| row["kind"] == "OwnerNotifier").context("there is a notifier")?;
        Ok((row.clone(), row["waiting_ms"].as_f64().context("a time")?))
    }
}

/// Memory that the process has for itself, without pages of its program's file.
fn own_kib(pid: u32) -> Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    line.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")
}
