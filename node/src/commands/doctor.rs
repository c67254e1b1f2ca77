//! `speedtrap doctor`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::table::{number, span_ms, tinted};
use super::{load_for_node, print};
use crate::config::Flags;
use crate::doctor::{self, Line, Report, Verdict};
use crate::exit::{Exit, Stop};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// TOML file to lay over the defaults, as for `run`.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_CONFIG")]
    config: Option<PathBuf>,
    /// Shows JSON.
    #[arg(long)]
    json: bool,
}

/// Looks at everything that a node with this configuration needs.
///
/// # Errors
/// When the configuration is bad, or nobody can be asked.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<Exit, Stop> {
    let config = load_for_node(args.config.as_deref(), Flags::default())?;
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
    let examined = runtime.block_on(async {
        tokio::select! {
            report = doctor::examine(&config) => report.map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    });
    // A look at a file that hangs must not hold the end up.
    runtime.shutdown_background();
    let Some(report) = examined? else { return Ok(Exit::Interrupted) };
    if args.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Stop::new(Exit::Failed, "the report cannot be written").why(error))?;
        print(&(json + "\n"));
    } else {
        print(&render(&report));
    }
    Ok(report.exit())
}

/// Writing to a String cannot fail, so the results are dropped here.
fn render(report: &Report) -> String {
    let width = report.lines.iter().map(|line| line.id.len()).max().unwrap_or_default();
    let mut out = format!("node {}, {}\n", report.node, report.place);
    let mut group = None;
    for line in &report.lines {
        if group != Some(line.group) {
            group = Some(line.group);
            let _infallible = writeln!(out, "\n{}", line.group.label());
        }
        add_line(&mut out, line, width);
    }
    let n = |n: usize| number(Some(n as u64));
    let summary = format!("{} ok, {} warn, {} fail, {} skip", n(report.ok), n(report.warn), n(report.fail), n(report.skip));
    let _infallible = writeln!(out, "\n{} in {}", tinted(&summary, report.healthy), span_ms(Some(report.took_ms)));
    out
}

fn add_line(out: &mut String, line: &Line, width: usize) {
    let label = line.verdict.label();
    let shown = match line.verdict {
        Verdict::Ok => tinted(label, true),
        Verdict::Fail => tinted(label, false),
        Verdict::Warn | Verdict::Skip => label.to_owned(),
    };
    let pad = " ".repeat(4usize.saturating_sub(label.len()));
    let _infallible = writeln!(out, "  {shown}{pad}  {:width$}  {}", line.id, line.seen);
    if let Some(next) = &line.next {
        let _infallible = writeln!(out, "  {:4}  {:width$}  next: {next}", "", "");
    }
}
