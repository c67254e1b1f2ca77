//! `--watch`: the same answer again every second, until Ctrl-C or until nobody reads it any more.

use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use crate::exit::{Exit, Stop};
use crate::signals::Signals;

const PERIOD: Duration = Duration::from_secs(1);

/// A command that can go on showing.
#[derive(Debug, Args)]
pub(crate) struct Watched<A: Args> {
    #[command(flatten)]
    what: A,
    /// Shows it again every second until Ctrl-C; with --json one line each time.
    #[arg(long)]
    watch: bool,
}

/// Standard output, which is one for the whole process.
pub(super) static SCREEN: Screen = Screen { redraws: AtomicBool::new(false), unread: AtomicBool::new(false) };

/// Where commands print.
pub(super) struct Screen {
    /// Whether what is printed takes the place of what was printed before.
    redraws: AtomicBool,
    /// Whether whoever read it went away.
    unread: AtomicBool,
}

impl<A: Args + Send + Sync + 'static> Watched<A> {
    /// Runs the command once, or again and again.
    pub(super) fn run(self, show: fn(&A) -> Result<Exit, Stop>) -> Result<Exit, Stop> {
        let Self { what, watch } = self;
        if !watch {
            return show(&what);
        }
        if std::io::stdout().is_terminal() {
            SCREEN.redraws.store(true, Relaxed);
            SCREEN.put("\x1b[2J");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
        let ended = runtime.block_on(repeat(Arc::new(what), show));
        // A question that nobody waits for any more must not hold the end up.
        runtime.shutdown_background();
        ended
    }
}

async fn repeat<A: Send + Sync + 'static>(what: Arc<A>, show: fn(&A) -> Result<Exit, Stop>) -> Result<Exit, Stop> {
    let mut signals = Signals::listen()?;
    let mut asked = pin!(signals.next());
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_shown = false;
    loop {
        let what = Arc::clone(&what);
        let round = async {
            ticks.tick().await;
            tokio::task::spawn_blocking(move || show(&what)).await
        };
        let shown = tokio::select! {
            signal = &mut asked => return Ok(signal.before_start()),
            shown = round => shown.map_err(|error| Stop::new(Exit::Failed, "the command broke off").why(error))?,
        };
        match shown {
            Ok(_) => was_shown = true,
            // A node that was there may come back; one that never was is a wrong address.
            Err(stop) if was_shown => eprintln!("speedtrap: {stop}"),
            Err(stop) => return Err(stop),
        }
        if SCREEN.unread.load(Relaxed) {
            return Ok(Exit::Ok);
        }
    }
}

impl Screen {
    /// Shows a text.
    pub(super) fn show(&self, text: &str) {
        if self.redraws.load(Relaxed) { self.put(&redrawn(text)) } else { self.put(text) }
    }

    /// A reader that went away (`| head`) is no failure.
    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.unread.store(true, Relaxed);
        }
    }
}

/// The text from the first line on, over what stands there: cleared first, it would flicker.
fn redrawn(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_longer_answer_stays_on_the_screen() {
        assert_eq!(redrawn("a\nbc\n"), "\x1b[Ha\x1b[K\nbc\x1b[K\n\x1b[J");
    }
}
