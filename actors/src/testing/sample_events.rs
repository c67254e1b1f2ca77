//! Events and drivers for tests.

use crate::domain::{Driver, SpeedEvent, SpeedMph};

/// A valid event with this plate, id and speed.
///
/// # Panics
/// When the speed is above 999.
#[must_use]
pub fn sample_event(plate: &str, event_id: &str, mph: u16) -> SpeedEvent {
    let speed = SpeedMph::new(mph).expect("a test gives a speed of at most 999");
    SpeedEvent::new(["2020-07-01 12:00:00.123456", plate, "101.766855", "79.694526", "West Kristopher", "Iowa"], event_id, speed)
}

/// A driver of this first name with a valid number.
#[must_use]
pub fn sample_driver(first_name: &str) -> Driver {
    Driver { first_name: first_name.into(), last_name: "Example".into(), myphone: "2025550123".into() }
}
