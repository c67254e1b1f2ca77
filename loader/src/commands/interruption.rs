//! Ends work at Ctrl-C or SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Turns true at Ctrl-C or SIGTERM.
pub(super) fn interruption() -> watch::Receiver<bool> {
    let (interrupted, seen) = watch::channel(false);
    tokio::spawn(async move {
        let Ok(mut term) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
        interrupted.send_replace(true);
    });
    seen
}

/// Waits for the interruption.
pub(super) async fn wait_for(mut interrupted: watch::Receiver<bool>) {
    if interrupted.wait_for(|is| *is).await.is_err() {
        // Without signals nothing interrupts.
        std::future::pending::<()>().await;
    }
}
