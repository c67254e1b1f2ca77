//! The button at a pin of a Raspberry Pi, with the kernel's own debouncing.

use std::time::{Duration, Instant};

use rppal::gpio::{Error, Gpio, InputPin, Trigger as Change};

use super::{EdgeKind, Edges, Trigger, no_pins};
use crate::failure::Failure;

pub(super) struct Button {
    pin: InputPin,
    debounce: Duration,
}

impl Button {
    /// The pin is pulled up, so the button need only connect it to ground.
    pub(super) fn new(bcm: u8, debounce: Duration) -> Result<Self, Failure> {
        let pin = Gpio::new().and_then(|gpio| gpio.get(bcm)).map_err(|e| refused(bcm, "--trigger gpio", &e))?;
        Ok(Self { pin: pin.into_input_pullup(), debounce })
    }
}

impl Trigger for Button {
    fn start(&mut self, mut edges: Edges) -> Result<(), Failure> {
        let bcm = self.pin.pin();
        let pressed = move |event: rppal::gpio::Event| {
            let kind = if event.trigger == Change::FallingEdge { EdgeKind::Down } else { EdgeKind::Up };
            edges.report(kind, Instant::now());
        };
        self.pin.set_async_interrupt(Change::Both, Some(self.debounce), pressed).map_err(|e| refused(bcm, "--trigger gpio", &e))
    }
}

/// What to do about a pin that cannot be had.
pub(crate) fn refused(bcm: u8, flag: &str, error: &Error) -> Failure {
    let wanted = format!("BCM {bcm} for {flag}");
    match error {
        Error::UnknownModel => no_pins(&wanted, &"this machine is no Raspberry Pi"),
        Error::PermissionDenied(path) => Failure::BadConfig {
            what: format!("pin {wanted} may not be used ({path}): the user that runs this program must be in the group `gpio`"),
        },
        other => no_pins(&wanted, other),
    }
}
