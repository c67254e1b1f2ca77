//! The main job from end to end: drivers into the warehouse, readings through the pipeline, counts that must add up.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    cloud::{aws_environment, call_as},
    fleet::Fleet,
    interrupt,
    node::Answers,
    process::{Finished, Launcher, Output, Spec, stop_all},
    programs::{self, Programs},
    report::{Facts, NodeCounts, Report, places_table, reconcile},
    run_folder::RunFolder,
    say::Step,
    stack::Stack,
    state::write_json,
    stop::{Code, Stop},
};

/// Nodes drain in this time or are killed: with the longest call before it and the stack's own limit after it, everything
/// is gone within the promised 10 s of a signal.
const DRAIN_LIMIT: Duration = Duration::from_millis(5000);
/// When nothing has moved for this long, nothing will.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// Nodes that are busy with something else than answering are borne with for this long.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// Far below what a busy machine of two cores was seen to do, which is over a hundred texts a second.
const READINGS_PER_SECOND: u64 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// An audit reads everything there is, so it waits until the nodes look finished, and a little between two tries.
const AUDIT_PAUSE: Duration = Duration::from_millis(700);

const MAX_REJECTED_SHOWN: usize = 10;

/// The demo's options, with absolute paths.
pub(crate) struct Options {
    pub(crate) drivers: PathBuf,
    pub(crate) readings: PathBuf,
    pub(crate) nodes: u32,
    pub(crate) shards: u32,
    pub(crate) hold: bool,
    /// `-` is stdout.
    pub(crate) json: Option<PathBuf>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) rate: Option<f64>,
    pub(crate) bin_dir: Option<PathBuf>,
}

/// The bundled files.
pub(crate) fn sample(name: &str) -> Result<PathBuf> {
    Ok(programs::workspace()?.join("data/samples").join(name))
}

/// What `speedtrap-loader load --json` prints.
#[derive(Deserialize)]
struct Loaded {
    rows: u64,
    drivers: u64,
    rejected: u64,
    #[serde(default)]
    rejects_file: Option<PathBuf>,
}

/// What `speedtrap-device publish --json` prints.
#[derive(Deserialize)]
struct Published {
    rows: u64,
    acknowledged: u64,
    #[serde(default)]
    rejected_rows: Vec<RejectedRow>,
    #[serde(default)]
    seconds: f64,
}

#[derive(Deserialize)]
struct RejectedRow {
    line: u64,
    #[serde(default)]
    column: Option<String>,
    reason: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    for file in [&options.drivers, &options.readings] {
        if !file.is_file() {
            return Err(Stop::error(Code::NotFound, format!("there is no file `{}`", file.display())));
        }
    }
    if let Some(parent) =
        options.json.as_deref().and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir())
    {
        return Err(Stop::error(Code::NotFound, format!("there is no folder `{}` for the report", parent.display())));
    }
    let folder = RunFolder::create()?;
    let result = run_in(&folder, options);
    if result.is_err() && !interrupt::is_set() {
        folder.keep_logs();
    }
    result
}

fn run_in(folder: &RunFolder, options: &Options) -> Result<()> {
    let launcher = Launcher::start(folder)?;
    let programs = match &options.bin_dir {
        Some(bin_dir) => Programs::in_folder(bin_dir)?,
        None => Programs::build(&launcher)?,
    };
    let mut demo = Demo::start(&launcher, folder, programs, options)?;
    let result = demo.play(options);
    // Also when it failed: nodes end in good order, so that their logs tell all.
    demo.stop();
    result
}

struct Demo<'a> {
    launcher: &'a Launcher,
    folder: &'a RunFolder,
    programs: Programs,
    work: PathBuf,
    stack: Stack,
    nodes: Option<Fleet<'a>>,
}

impl<'a> Demo<'a> {
    fn start(launcher: &'a Launcher, folder: &'a RunFolder, programs: Programs, options: &Options) -> Result<Self> {
        let work = folder.private("work")?;
        let stack = Stack::start(launcher, folder, options.shards)?;
        Ok(Self { launcher, folder, programs, work, stack, nodes: None })
    }

    fn play(&mut self, options: &Options) -> Result<()> {
        if options.hold {
            // Whoever waits for the file must not find the one of an earlier run.
            remove_if_there(&self.endpoints_file(options))?;
        }
        let drivers = self.load_drivers(&options.drivers)?;
        let driver_rows = self.count_drivers()?;
        let plates = self.write_plates()?;

        let step = Step::start(format!("starting {} node{}", options.nodes, if options.nodes == 1 { "" } else { "s" }));
        let fleet = Fleet::start(self.launcher, &self.programs.node, &self.stack, &self.work, options.nodes)?;
        step.done(&fleet.urls().join(", "));
        self.nodes = Some(fleet);

        let acknowledged = self.publish_readings(&options.readings, options.rate)?;
        let step = Step::start("waiting until everything has arrived");
        let timeout = options.timeout.unwrap_or(DEFAULT_TIMEOUT + Duration::from_secs(acknowledged / READINGS_PER_SECOND));
        let (report, failures, timed_out) =
            self.wait_until_reconciled(acknowledged, (drivers, driver_rows), &plates, timeout, &step)?;
        step.done(if report.reconciled { "it adds up" } else { "it does not add up" });

        self.hand_over(&report, &failures, options)?;
        if options.hold {
            let held = self.hold(options);
            remove_if_there(&self.endpoints_file(options))?;
            held?;
        }
        match (report.reconciled, timed_out) {
            (true, _) => Ok(()),
            (false, true) => Err(Stop::error(Code::TimedOut, "the counts did not reconcile in time; --timeout allows more")),
            (false, false) => Err(Stop::error(Code::Partial, "the counts do not reconcile")),
        }
    }

    fn load_drivers(&mut self, file: &Path) -> Result<u64> {
        let step = Step::start("loading drivers through Firehose and S3 into the warehouse");
        let mut command = self.command(&self.programs.loader);
        call_as(&mut command, &self.stack.roles.loader, "loader", &self.work)?;
        command.arg("load").arg(file).args(["--json", "--rejects-dir"]).arg(self.work.join("rejects"));
        command.arg("--state-dir").arg(self.work.join("loader"));
        command.env("SPEEDTRAP_LOADER_WAREHOUSE__URL", self.stack.warehouse.url());
        let finished = self.run("loader", command)?;
        let Loaded { rows, drivers, rejected, rejects_file } = parse(finished, "the loader")?;
        step.done(&format!("{drivers} drivers from {rows} rows"));
        let details = rejects_file.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let rows: Vec<RejectedRow> = details.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        tell_rejected(file, rejected, &rows);
        Ok(drivers)
    }

    fn count_drivers(&self) -> Result<u64> {
        let answer = self.stack.warehouse.query(self.launcher, "SELECT count(*) FROM public.rtr_iot_driver_data;")?;
        answer.trim().parse().with_context(|| format!("the warehouse counts `{}` drivers", answer.trim()))
    }

    /// The audit judges by itself whose owner is known. Hex, because a plate may hold any character.
    fn write_plates(&self) -> Result<PathBuf> {
        let sql = "SELECT encode(convert_to(licenseplate, 'UTF8'), 'hex') FROM public.rtr_iot_driver_data;";
        let file = self.work.join("plates.hex");
        fs::write(&file, self.stack.warehouse.query(self.launcher, sql)?).context("failed to write the plates")?;
        Ok(file)
    }

    fn publish_readings(&mut self, file: &Path, rate: Option<f64>) -> Result<u64> {
        let step = Step::start("publishing readings over MQTT with mutual TLS");
        let device = &self.stack.device;
        let mut command = self.command(&self.programs.device);
        command.args(["publish", "--endpoint", &device.host, "--port", &self.stack.cloud.mqtt_port.to_string()]);
        command.args(["--root-ca", &device.ca, "--cert", &device.cert, "--key", &device.key]);
        command.args(["--client-id", &device.client_id, "--topic", &device.topic, "--json", "--file"]).arg(file);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let finished = self.run("device", command)?;
        let Published { rows, acknowledged, rejected_rows, seconds } = parse(finished, "the device")?;
        step.done(&format!("{acknowledged} of {rows} acknowledged, {seconds:.1} s on the line"));
        tell_rejected(file, rejected_rows.len() as u64, &rejected_rows);
        Ok(acknowledged)
    }

    /// A program of ours, pointed at the local cloud, leaving nothing behind outside the run folder.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.work).env("XDG_STATE_HOME", &self.work).env("XDG_DATA_HOME", &self.work);
        aws_environment(&mut command, Some(&self.stack.cloud.endpoint));
        command
    }

    /// Runs it for as long as it takes, while all it talks to runs. Exit code 3 means that some rows were rejected and the
    /// rest went through.
    fn run(&mut self, name: &str, command: Command) -> Result<Finished> {
        let launcher = self.launcher;
        let spec = Spec::new(name, command).output(Output::Capture);
        launcher.run(spec, Duration::MAX, || self.check_running().map(drop))?.accept(&[0, Code::Partial as i32])
    }

    /// Cloud and warehouse have to run; a node that died is started again (the value tells).
    fn check_running(&mut self) -> Result<bool> {
        self.stack.check_running()?;
        self.nodes.as_mut().map_or(Ok(false), |fleet| fleet.keep_running(&self.stack))
    }

    fn fleet(&self) -> Result<&Fleet<'a>> {
        self.nodes.as_ref().context("no node was started yet")
    }

    /// Looks until the counts reconcile, nothing moves any more, or time is up (the last value tells which).
    fn wait_until_reconciled(
        &mut self,
        acknowledged: u64,
        (drivers, driver_rows): (u64, u64),
        plates: &Path,
        timeout: Duration,
        step: &Step,
    ) -> Result<(Report, Vec<String>, bool)> {
        let deadline = Instant::now() + timeout;
        let (mut moved, mut answered) = (Instant::now(), Instant::now());
        let mut last: (Answers, Option<crate::report::Audit>) = Default::default();
        loop {
            self.check_running()?;
            let answers = match self.fleet()?.ask() {
                Ok(answers) => answers,
                Err(error) if answered.elapsed() > SILENCE_LIMIT => return Err(error),
                Err(_) => {
                    interrupt::pause(LOOK_PAUSE)?;
                    continue;
                }
            };
            answered = Instant::now();
            let counts = NodeCounts { whole: self.fleet()?.counts_are_whole(), ..answers.counts() };
            step.note(&progress(&counts, acknowledged));
            if answers != last.0 {
                moved = answered;
                last.0 = answers.clone();
            }
            let timed_out = Instant::now() > deadline;
            let stalled = moved.elapsed() > STALL_LIMIT;
            let all_ended = !counts.whole || counts.enrich_ended + counts.errors_ended >= acknowledged;
            let looks_finished = answers.are_idle() && all_ended;
            if !(looks_finished || stalled || timed_out) {
                interrupt::pause(LOOK_PAUSE)?;
                continue;
            }
            let audit = self.stack.cloud.audit(self.launcher, plates)?;
            let facts = Facts { acknowledged, drivers, driver_rows, nodes: &counts, audit: &audit };
            let (report, failures) = reconcile(&facts);
            if report.reconciled || stalled || timed_out {
                return Ok((report, failures, timed_out && !stalled));
            }
            if last.1.as_ref() != Some(&audit) {
                moved = Instant::now();
                last.1 = Some(audit);
            }
            interrupt::pause(AUDIT_PAUSE)?;
        }
    }

    /// Prints the table and writes the files: first the report, then, if held, the endpoints.
    fn hand_over(&self, report: &Report, failures: &[String], options: &Options) -> Result<()> {
        let places = places_table(&self.fleet()?.placement()?);
        let stdout_is_json = options.json.as_deref() == Some(Path::new("-"));
        if stdout_is_json {
            eprintln!("{}\n{places}", report.table());
            println!("{}", serde_json::to_string(report).context("failed to write the report")?);
        } else {
            println!("{}\n{places}", report.table());
        }
        for failure in failures {
            eprintln!("does not hold: {failure}");
        }
        let file = options.json.as_deref().filter(|_| !stdout_is_json);
        if let Some(file) = file {
            write_json(file, report, 0o644)?;
            eprintln!("report: {}", file.display());
        }
        if options.hold {
            self.write_endpoints(options)?;
            eprintln!("endpoints, with credentials: {}", self.endpoints_file(options).display());
        }
        Ok(())
    }

    fn write_endpoints(&self, options: &Options) -> Result<()> {
        let fleet = self.fleet()?;
        self.stack.write_endpoints(&self.endpoints_file(options), &fleet.urls(), &fleet.pids())
    }

    /// Beside the report, else in the run folder.
    fn endpoints_file(&self, options: &Options) -> PathBuf {
        let report = options.json.as_deref().filter(|file| *file != Path::new("-"));
        report.and_then(Path::parent).unwrap_or(self.folder.path()).join("endpoints.json")
    }

    /// Stays until a signal comes. A node that dies meanwhile is started again, and the endpoints are written anew.
    fn hold(&mut self, options: &Options) -> Result<()> {
        eprintln!("held; dashboard: {}", self.fleet()?.urls().join(", "));
        eprintln!("Ctrl-C ends it.");
        while interrupt::pause(LOOK_PAUSE).is_ok() {
            match self.check_running() {
                Ok(true) => self.write_endpoints(options)?,
                Ok(false) => {}
                Err(_) if interrupt::is_set() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn stop(self) {
        let nodes = self.nodes.map(Fleet::into_processes).unwrap_or_default();
        for name in stop_all(nodes, DRAIN_LIMIT) {
            eprintln!("warning: {name} did not drain within {:.1} s and was killed", DRAIN_LIMIT.as_secs_f64());
        }
        self.stack.stop();
    }
}

/// Says which rows were rejected and why, without showing what stands in them.
fn tell_rejected(file: &Path, count: u64, rows: &[RejectedRow]) {
    if count == 0 {
        return;
    }
    eprintln!("note: {count} rows of `{}` were rejected", file.display());
    for RejectedRow { line, column, reason } in rows.iter().take(MAX_REJECTED_SHOWN) {
        let column = column.as_deref().map(|column| format!(", {column}")).unwrap_or_default();
        eprintln!("  line {line}{column}: {reason}");
    }
    if rows.len() > MAX_REJECTED_SHOWN {
        eprintln!("  and {} more", rows.len() - MAX_REJECTED_SHOWN);
    }
}

fn remove_if_there(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", file.display()))
        }
        _ => Ok(()),
    }
}

fn progress(counts: &NodeCounts, acknowledged: u64) -> String {
    format!("{} of {acknowledged} readings ended", counts.enrich_ended + counts.errors_ended)
}

fn parse<T: DeserializeOwned>(finished: Finished, program: &str) -> Result<T> {
    let printed = finished.stdout()?;
    let line = printed.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{program} printed something unexpected: `{line}`"))
}
