//! SIGTERM and Ctrl-C.

use tokio::signal::unix::{self, SignalKind};

use crate::exit::{Exit, Stop};

/// Who asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM: a service manager.
    Terminate,
    /// SIGINT: somebody at a terminal.
    Interrupt,
}

/// The signals of this process, listened to from its start on.
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which would end the process.
    pub(crate) fn listen() -> Result<Self, Stop> {
        let on = |kind| unix::signal(kind).map_err(|error| Stop::new(Exit::Failed, "cannot listen for signals").why(error));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }

    /// Waits for Ctrl-C while the node stops already; a second SIGTERM changes nothing.
    pub(crate) async fn second_interrupt(&mut self) {
        self.interrupt.recv().await;
    }
}

impl Signal {
    /// The exit code when nothing was begun yet.
    pub(crate) fn before_start(self) -> Exit {
        match self {
            Self::Terminate => Exit::Ok,
            Self::Interrupt => Exit::Interrupted,
        }
    }
}
