//! What is pressed to send a reading: the button on a Pi, and stand-ins for it everywhere else.

mod bounce;
#[cfg(feature = "pi")]
mod gpio;
mod keys;
mod script;
mod tcp;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tracing::warn;

use crate::failure::Failure;
#[cfg(feature = "pi")]
pub(crate) use gpio::refused;

use bounce::{Bounce, Edge, EdgeKind};

/// Edges between the trigger and the one who counts presses. A bouncing contact makes some dozens, and they are taken at once.
const MAX_EDGES: usize = 1_024;

/// Something that can be pressed. Its contacts may bounce.
trait Trigger: Send {
    /// Begins to report edges from a thread of its own, until it has no more or `edges` is closed.
    fn start(&mut self, edges: Edges) -> Result<(), Failure>;
}

#[derive(clap::Args)]
pub(crate) struct TriggerArgs {
    /// What sends a row of the file: each press of a button at the Pi's pins (gpio), of Enter or the space bar (keys), each
    /// line that comes to --trigger-listen (tcp) or stands in --trigger-script (script); or nothing is waited for (none).
    #[arg(long, value_enum, default_value_t = TriggerKind::None)]
    pub(crate) trigger: TriggerKind,
    /// Pin of the button, as BCM number; the button connects it to ground.
    #[arg(long, default_value_t = 17, value_name = "BCM", value_parser = clap::value_parser!(u8).range(0..=27))]
    button_pin: u8,
    /// Milliseconds without a change of the line before the next press counts; bouncing contacts change it all the time.
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    debounce: u64,
    /// Loopback address where `--trigger tcp` waits for lines: `down` or an empty line, and `up`. Port 0 is any free one.
    #[arg(long, default_value = "127.0.0.1:7317", value_name = "ADDRESS", value_parser = loopback)]
    trigger_listen: SocketAddr,
    /// Edges that `--trigger script` plays, one a line: `MILLISECONDS down` or `MILLISECONDS up`, counted from the start.
    #[arg(long, value_name = "FILE", required_if_eq("trigger", "script"))]
    trigger_script: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TriggerKind {
    None,
    Gpio,
    Keys,
    Tcp,
    Script,
}

impl TriggerArgs {
    /// The presses to wait for, `None` if nothing is waited for.
    pub(crate) fn open(&self) -> Result<Option<Presses>, Failure> {
        let mut trigger: Box<dyn Trigger> = match self.trigger {
            TriggerKind::None => return Ok(None),
            TriggerKind::Gpio => self.button()?,
            TriggerKind::Keys => Box::new(keys::Keys::new()),
            TriggerKind::Tcp => Box::new(tcp::TcpTrigger::bind(self.trigger_listen)?),
            TriggerKind::Script => Box::new(script::Script::read(self.trigger_script.as_deref().unwrap_or("".as_ref()))?),
        };
        let (sender, edges) = channel(MAX_EDGES);
        trigger.start(Edges { sender, lost: 0 })?;
        Ok(Some(Presses { edges, bounce: Bounce::new(self.debounce()), _trigger: trigger }))
    }

    fn debounce(&self) -> Duration {
        Duration::from_millis(self.debounce)
    }

    #[cfg(feature = "pi")]
    fn button(&self) -> Result<Box<dyn Trigger>, Failure> {
        Ok(Box::new(gpio::Button::new(self.button_pin, self.debounce())?))
    }

    #[cfg(not(feature = "pi"))]
    fn button(&self) -> Result<Box<dyn Trigger>, Failure> {
        Err(no_pins(&format!("BCM {} for --trigger gpio", self.button_pin), &"this program was built without the feature `pi`"))
    }
}

/// Why there are no pins here, and what to do without them.
pub(crate) fn no_pins(wanted: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::BadConfig {
        what: format!(
            "there is no pin {wanted}: {why}. On a Raspberry Pi use the program built for it (deploy/device/build-aarch64.sh); \
             anywhere else simulate the button with --trigger keys (Enter or the space bar), --trigger tcp or --trigger script, \
             and the light with --light terminal"
        ),
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        _ => Err("it must be a loopback address with a port, such as 127.0.0.1:7317: whoever can reach it can press".to_owned()),
    }
}

/// The trigger's end of the line.
struct Edges {
    sender: Sender<Sensed>,
    lost: u64,
}

/// An edge and the wall clock at it, which goes out as the reading's time.
struct Sensed {
    edge: Edge,
    clock: Timestamp,
}

impl Edges {
    /// Reports an edge; false once nobody waits for edges any more. Never blocks: the kernel's thread calls it.
    fn report(&mut self, kind: EdgeKind, at: Instant) -> bool {
        match self.sender.try_send(Sensed { edge: Edge { kind, at }, clock: Timestamp::now() }) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                warn!("{} changes of the button's line came faster than they could be taken, and are lost", self.lost);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// Presses, told apart from bouncing.
pub(crate) struct Presses {
    edges: Receiver<Sensed>,
    bounce: Bounce,
    _trigger: Box<dyn Trigger>,
}

impl Presses {
    /// When the next press happened, `None` if there will be none. The future may be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Option<Timestamp> {
        loop {
            let Sensed { edge, clock } = self.edges.recv().await?;
            if self.bounce.is_press(edge) {
                return Some(clock);
            }
        }
    }
}

/// A thread with a name. Triggers wait in blocking calls that nothing can end, so the thread ends with the process.
fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|e| Failure::BadInput { what: format!("cannot start the thread `{name}`: {e}") })
}
