//! A lamp at a pin of a Raspberry Pi. It blinks from a thread of its own, so that it goes on when everything else waits.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rppal::gpio::{Gpio, OutputPin};

use super::{Light, LightState, pattern};
use crate::failure::Failure;
use crate::trigger::refused;

const LONG: Duration = Duration::from_secs(3_600);

pub(super) struct Lamp {
    wanted: Arc<Wanted>,
    thread: Option<JoinHandle<()>>,
}

/// The latest wish; the ones before it are of no interest.
#[derive(Default)]
struct Wanted {
    wish: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Default)]
struct Wish {
    shown: Option<(LightState, Instant)>,
    is_over: bool,
}

impl Lamp {
    pub(super) fn start(bcm: u8) -> Result<Self, Failure> {
        let pin = Gpio::new().and_then(|gpio| gpio.get(bcm)).map_err(|e| refused(bcm, "--light gpio", &e))?;
        let pin = pin.into_output_low();
        let wanted = Arc::new(Wanted::default());
        let seen = Arc::clone(&wanted);
        let thread = std::thread::Builder::new()
            .name("light".to_owned())
            .spawn(move || blink(pin, &seen))
            .map_err(|e| Failure::BadInput { what: format!("cannot start the light: {e}") })?;
        Ok(Self { wanted, thread: Some(thread) })
    }

    fn wish(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.wanted.wish.lock().unwrap_or_else(PoisonError::into_inner));
        self.wanted.changed.notify_one();
    }
}

impl Light for Lamp {
    fn show(&mut self, state: LightState) {
        self.wish(|wish| {
            // Every attempt to connect that fails says offline anew; the flashes keep their time.
            if state != LightState::Offline || wish.shown.is_none_or(|(shown, _)| shown != state) {
                wish.shown = Some((state, Instant::now()));
            }
        });
    }
}

impl Drop for Lamp {
    /// The light is off before the program ends.
    fn drop(&mut self) {
        self.wish(|wish| wish.is_over = true);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn blink(mut pin: OutputPin, wanted: &Wanted) {
    let mut wish = wanted.wish.lock().unwrap_or_else(PoisonError::into_inner);
    while !wish.is_over {
        let (is_on, next) = wish.shown.map_or((false, None), |(state, began)| pattern::at(state, began.elapsed()));
        if is_on {
            pin.set_high();
        } else {
            pin.set_low();
        }
        (wish, _) = wanted.changed.wait_timeout(wish, next.unwrap_or(LONG)).unwrap_or_else(PoisonError::into_inner);
    }
    pin.set_low();
}
