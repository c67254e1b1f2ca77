//! What the light beside the button tells the one who pressed it.

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

/// For a device without a light.
pub(crate) struct NoLight;

impl Light for NoLight {
    fn show(&mut self, _: LightState) {}
}
