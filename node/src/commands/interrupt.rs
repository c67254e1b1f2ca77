//! Ctrl-C and SIGTERM while a node works for a command: what was begun there is broken off there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::exit::{Exit, Stop};
use crate::signals::Signals;

/// How often somebody has asked for the end so far.
pub(super) struct Interrupts(Arc<AtomicU32>);

impl Interrupts {
    /// Counts from now on; they no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, Stop> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Stop::new(Exit::Failed, "cannot start the runtime").why(error))?;
        let mut signals = {
            let _inside = runtime.enter();
            Signals::listen()?
        };
        let times = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&times);
        // It ends with the process.
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    signals.next().await;
                    count.fetch_add(1, Relaxed);
                }
            });
        });
        Ok(Self(times))
    }

    pub(super) fn times(&self) -> u32 {
        self.0.load(Relaxed)
    }
}
