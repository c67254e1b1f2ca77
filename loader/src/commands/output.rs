//! How answers and progress are shown.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::journal::Sample;
use crate::progress::{Extent, Progress, Stage};

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
    let bar = ProgressBar::new(0);
    bar.set_prefix(file.to_owned());
    let mut work = std::pin::pin!(work);
    let mut redraw = tokio::time::interval(REDRAW);
    let mut stage = None;
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = redraw.tick() => {
                let sample = progress.sample();
                if stage.replace(sample.stage) != Some(sample.stage)
                    && let Ok(style) = ProgressStyle::with_template(template(sample.stage))
                {
                    bar.set_style(style);
                }
                draw(&bar, &sample, progress.extent());
            }
        }
    }
}

/// How long the reading and sending takes can be told from the file's size; how long Firehose buffers cannot.
fn template(stage: Stage) -> &'static str {
    match stage {
        Stage::Sending => "{spinner} {prefix} {elapsed} {bar:20} {percent}% eta {eta} {msg}",
        _ => "{spinner} {prefix} {elapsed} {msg}",
    }
}

fn draw(bar: &ProgressBar, sample: &Sample, extent: Extent) {
    bar.set_length(extent.bytes);
    bar.set_position(extent.read_bytes);
    let rate = sample.sent as f64 / bar.elapsed().as_secs_f64().max(0.1);
    let Sample { rows, rejected, sent, staged, restarts, waiting, .. } = sample;
    let mut message =
        format!("read {rows} rejected {rejected} sent {sent} staged {staged} merged {}, {rate:.0} rows/s", extent.merged);
    if let Some(waiting) = waiting {
        message.push_str(&format!(", waits for {}: {}", waiting.remote.name(), waiting.reason));
    } else if sample.stage == Stage::Staging {
        message.push_str(", waits for Firehose to deliver");
    }
    if *restarts > 0 {
        message.push_str(&format!(" (restart {restarts})"));
    }
    bar.set_message(message);
    bar.tick();
}
