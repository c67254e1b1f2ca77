//! Ctrl-C, SIGTERM and SIGHUP: noted by a handler, seen wherever the launcher waits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::stop::{Code, Stop};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often a wait looks up.
const GLANCE: Duration = Duration::from_millis(25);

extern "C" fn note(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Installs the handlers. System calls are restarted; every wait of the launcher is short and asks [`is_set`].
pub(crate) fn install() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores into an atomic, and the structure is valid when zeroed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

pub(crate) fn is_set() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends the wait with [`Code::Interrupted`] if a signal has come.
pub(crate) fn check() -> anyhow::Result<()> {
    if is_set() { Err(Stop::error(Code::Interrupted, "interrupted")) } else { Ok(()) }
}

/// Sleeps, but not beyond a signal.
pub(crate) fn pause(duration: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + duration;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(GLANCE));
    }
}

/// Waits up to `limit` for `done`, whether or not a signal has come; used while everything is being ended.
pub(crate) fn wait_out(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    while !done() {
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(GLANCE);
    }
    true
}
