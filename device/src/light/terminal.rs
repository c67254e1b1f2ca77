//! The light in words on standard error, a line for each time that it would light up.

use std::io::{IsTerminal, Write};

use super::{Light, LightState};

pub(super) struct Words;

impl Light for Words {
    fn show(&mut self, state: LightState) {
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
