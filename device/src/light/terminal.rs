//! The light in words on standard error: a line for each reading that is queued, and for each change besides.

use std::io::{IsTerminal, Write};

use super::{Light, LightState};

#[derive(Default)]
pub(super) struct Words {
    last: Option<LightState>,
}

impl Light for Words {
    fn show(&mut self, state: LightState) {
        // Every attempt to connect that fails says offline anew.
        if self.last.replace(state) == Some(state) && state != LightState::Queued {
            return;
        }
        let (word, colour) = match state {
            LightState::Queued => ("queued", 33),
            LightState::Sent => ("sent", 32),
            LightState::Offline => ("offline", 31),
        };
        let mut out = std::io::stderr();
        let shown =
            if out.is_terminal() { writeln!(out, "light: \x1b[{colour}m{word}\x1b[0m") } else { writeln!(out, "light: {word}") };
        // Whoever closed the terminal does not look at the light.
        drop(shown);
    }
}
