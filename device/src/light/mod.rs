//! What the light beside the button tells the one who pressed it.

#[cfg(feature = "pi")]
mod gpio;
#[cfg(any(feature = "pi", test))]
mod pattern;
mod terminal;

use crate::failure::Failure;
use crate::trigger::TriggerKind;

/// What has just become true of the readings; shown until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LightState {
    /// A reading is safely on disk; told once for each.
    Queued,
    /// The broker has acknowledged everything there was.
    Sent,
    /// There is no connection to the broker, at the start or since one was lost.
    Offline,
}

pub(crate) trait Light {
    /// Is called from the thread that drives the connection and must not wait.
    fn show(&mut self, state: LightState);
}

#[derive(clap::Args)]
pub(crate) struct LightArgs {
    /// What shows whether readings are queued (blinks fast), sent (lit for a second) or the broker is not reached (a flash
    /// every two seconds): a lamp at the Pi's pins, or words on the terminal [default: as the trigger].
    #[arg(long, value_enum)]
    light: Option<LightKind>,
    /// Pin of the light, as BCM number; the light is between it and ground, with a resistor.
    #[arg(long, default_value_t = 4, value_name = "BCM", value_parser = clap::value_parser!(u8).range(0..=27))]
    light_pin: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LightKind {
    None,
    Gpio,
    Terminal,
}

impl LightArgs {
    pub(crate) fn open(&self, trigger: TriggerKind) -> Result<Box<dyn Light>, Failure> {
        let kind = self.light.unwrap_or(match trigger {
            TriggerKind::None => LightKind::None,
            TriggerKind::Gpio => LightKind::Gpio,
            TriggerKind::Keys | TriggerKind::Tcp | TriggerKind::Script => LightKind::Terminal,
        });
        match kind {
            LightKind::None => Ok(Box::new(NoLight)),
            LightKind::Terminal => Ok(Box::new(terminal::Words::default())),
            LightKind::Gpio => self.lamp(),
        }
    }

    #[cfg(feature = "pi")]
    fn lamp(&self) -> Result<Box<dyn Light>, Failure> {
        Ok(Box::new(gpio::Lamp::start(self.light_pin)?))
    }

    #[cfg(not(feature = "pi"))]
    fn lamp(&self) -> Result<Box<dyn Light>, Failure> {
        let wanted = format!("BCM {} for --light gpio", self.light_pin);
        Err(crate::trigger::no_pins(&wanted, &"this program was built without the feature `pi`"))
    }
}

/// For a device without a light.
struct NoLight;

impl Light for NoLight {
    fn show(&mut self, _: LightState) {}
}
