//! `speedtrap-sql`: SQL over what flows through Speedtrap and what it keeps.

mod bounds;
mod cli;
mod columns;
mod drivers_table;
mod engine;
mod events;
mod feed;
mod kept_tables;
mod output;
mod pace;
mod progress;
mod run;
mod statement;
mod stream_table;
mod tables;
mod veil;
mod window;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use speedtrap_node::{Access, Exit, Reveal, Stop};

use cli::Cli;
use output::Output;
use progress::Progress;
use run::{Run, Windows};
use veil::Veil;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(&cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            eprintln!("speedtrap-sql: {stop}");
            stop.exit.into()
        }
    }
}

fn start(cli: &Cli) -> Result<Exit, Stop> {
    if cli.tables {
        // A reader that went away is no failure.
        let _nobody_reads = std::io::stdout().write_all(cli::listed(cli.format()).as_bytes());
        return Ok(Exit::Ok);
    }
    let statement = statement::read(cli.statement.as_deref(), cli.file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
    let progress = Arc::new(Progress::new());
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = answer(cli, &statement, &progress) => ended.map(|()| Exit::Ok),
            _interrupted = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    });
    // A call that nobody waits for any more must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    progress.clear();
    if ended == Ok(Exit::Interrupted) {
        let what = match progress.window() {
            Some(window) => format!("the window {window} was cut off, and is not complete"),
            None => format!("after {} records; the answer is not complete", progress.records()),
        };
        eprintln!("speedtrap-sql: interrupted: {what}");
    }
    ended
}

async fn answer(cli: &Cli, statement: &str, progress: &Arc<Progress>) -> Result<(), Stop> {
    let access = Arc::new(Access::new(cli.config.as_deref()).await?);
    let veil = Arc::new(if cli.reveal { Veil::lifted() } else { Veil::default() });
    let memory = usize::try_from(cli.memory.as_u64()).unwrap_or(usize::MAX);
    let windows = cli.every.map(|every| Windows { every, from: cli.from });
    let run = Run::plan(statement, &access, memory, &veil, progress, windows).await?;
    // Whoever looks at a person is noted before he sees anything.
    let noted = match &cli.reason {
        Some(reason) => Some(Noted(Some(access.reveal(&format!("sql: {}", statement::without_persons(statement)), reason)?))),
        None => None,
    };
    let mut output = Output::new(std::io::stdout().lock(), cli.format());
    let ended = run.run(&mut output, cli.windows).await;
    if let Some(noted) = noted {
        let path = noted.end(ended.as_ref().map(|()| "shown".to_owned()).map_err(|stop| stop.what.clone()));
        eprintln!("note: who looked and why stands in {path}");
    }
    ended
}

/// A reveal that is concluded however it ends.
struct Noted(Option<Reveal>);

impl Noted {
    fn end(mut self, outcome: Result<String, String>) -> String {
        let Some(reveal) = self.0.take() else { return String::new() };
        let path = reveal.path().display().to_string();
        reveal.end(outcome);
        path
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(reveal) = self.0.take() {
            reveal.end(Err("interrupted".to_owned()));
        }
    }
}
