//! How answers and progress are shown.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::journal::Sample;
use crate::progress::Progress;

/// How often the progress line is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Prints an answer to stdout: its words for people, itself on one line for scripts.
pub(super) fn print(answer: &impl Serialize, json: bool, words: String) -> std::io::Result<()> {
    let text = if json { serde_json::to_string(answer)? } else { words };
    writeln!(std::io::stdout().lock(), "{text}")
}

/// Shows how far a load has come, if somebody sits at a terminal.
pub(super) async fn shown<T>(work: impl Future<Output = T>, progress: &Progress, file: &str) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(file.to_owned());
    let mut work = std::pin::pin!(work);
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = redraw.tick() => {
                draw(&bar, progress);
            }
        }
    }
}

fn draw(bar: &ProgressBar, progress: &Progress) {
    let (sample, extent) = (progress.sample(), progress.extent());
    let again = if sample.restarts == 0 { String::new() } else { format!(" (restart {})", sample.restarts) };
    let Sample { rows, rejected, sent, staged, .. } = sample;
    bar.set_message(format!("read {rows} rejected {rejected} sent {sent} staged {staged} merged {}{again}", extent.merged));
    bar.tick();
}
