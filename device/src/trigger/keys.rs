//! Enter or the space bar in place of the button. If the input is no terminal, each of its lines is a press.

use std::io::{IsTerminal, Read};
use std::time::Instant;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tracing::warn;

use super::{EdgeKind, Edges, Trigger, spawn_thread};
use crate::failure::Failure;

pub(super) struct Keys {
    /// The terminal as it was, to be put back.
    before: Option<Termios>,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { before: None }
    }

    /// Makes keys come at once and unseen; Ctrl-C stays what it is.
    fn listen_key_by_key(&mut self) -> rustix::io::Result<()> {
        let before = tcgetattr(std::io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &modes)?;
        self.before = Some(before);
        Ok(())
    }
}

impl Trigger for Keys {
    fn start(&mut self, mut edges: Edges) -> Result<(), Failure> {
        if std::io::stdin().is_terminal() {
            eprintln!("press Enter or the space bar for each reading, Ctrl-C to end");
            if let Err(e) = self.listen_key_by_key() {
                warn!("only Enter is heard, since the terminal does not tell single keys ({e})");
            }
        }
        spawn_thread("keys", move || {
            // The end of the input is the end of all presses.
            for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
                // A key press is clean, but it goes the way of all edges: what a key held down repeats are no presses.
                if matches!(key, b'\n' | b' ') && !edges.report(EdgeKind::Down, Instant::now()) {
                    return;
                }
            }
        })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            if let Err(e) = tcsetattr(std::io::stdin(), OptionalActions::Now, before) {
                warn!("the terminal could not be set back ({e}); `reset` does it");
            }
        }
    }
}
