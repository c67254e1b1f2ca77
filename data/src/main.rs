//! `speedtrap-data` makes driver and reading files of any size in the formats the other programs take, with the dirt
//! that real files have. The same seed and flags give the same bytes on every machine.

mod args;
mod drivers;
mod plates;
mod readings;
mod row_writer;
mod words;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::args::{Cli, Command, Output};
use crate::row_writer::RowWriter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // `speedtrap-data readings | head` is a normal way to look at the output.
        Err(e) if e.chain().any(is_broken_pipe) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("speedtrap-data: {e:#}");
            ExitCode::from(1)
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Drivers(args) => {
            let dirt = args.dirt.resolve();
            let summary = emit(&args.output, &dirt, |w| drivers::write_drivers(args.rows(), args.seed(), &dirt, w))?;
            report(&args.output, &summary)
        }
        Command::Readings(args) => {
            let dirt = args.dirt.resolve();
            let plates = readings::PlateSource::open(args)?;
            let summary = emit(&args.output, &dirt, |w| readings::write_readings(args, &plates, &dirt, w))?;
            report(&args.output, &summary)
        }
    }
}

/// Writes to a neighbour of the target and renames it, so a reader never meets half a file.
fn emit<S>(output: &Output, dirt: &args::Dirt, write: impl FnOnce(&mut RowWriter<&mut dyn Write>) -> io::Result<S>) -> Result<S> {
    if output.to_stdout() {
        let mut sink = BufWriter::new(io::stdout().lock());
        let summary = write_all(&mut sink, dirt, write).context("failed to write to standard output")?;
        return Ok(summary);
    }
    let target = &output.out;
    let partial = target.with_extension("partial");
    let file = File::create(&partial)
        .with_context(|| format!("cannot create `{}`; does its folder exist and may you write there?", partial.display()))?;
    let mut sink = BufWriter::with_capacity(256 * 1024, file);
    let written = write_all(&mut sink, dirt, write);
    finish(written, &partial, target)
}

fn finish<S>(written: io::Result<S>, partial: &Path, target: &Path) -> Result<S> {
    let renamed = written.and_then(|summary| std::fs::rename(partial, target).map(|()| summary));
    renamed
        .inspect_err(|_| drop(std::fs::remove_file(partial)))
        .with_context(|| format!("failed to write `{}`", target.display()))
}

fn write_all<S>(
    sink: &mut dyn Write,
    dirt: &args::Dirt,
    write: impl FnOnce(&mut RowWriter<&mut dyn Write>) -> io::Result<S>,
) -> io::Result<S> {
    let mut rows = RowWriter::new(sink, dirt.crlf, dirt.final_newline);
    let summary = write(&mut rows)?;
    rows.finish()?;
    Ok(summary)
}

/// The summary goes to stdout unless the rows went there.
fn report<S: serde::Serialize + std::fmt::Display>(output: &Output, summary: &S) -> Result<()> {
    let text = if output.json { serde_json::to_string(summary)? } else { summary.to_string() };
    if output.to_stdout() {
        eprintln!("{text}");
        return Ok(());
    }
    writeln!(io::stdout(), "{text}").context("failed to write the summary")
}

fn is_broken_pipe(e: &(dyn std::error::Error + 'static)) -> bool {
    e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
