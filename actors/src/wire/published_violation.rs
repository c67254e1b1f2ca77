//! The out-stream's records: a violation with its driver.

use serde::Serialize;

use super::json::{read_object, text_of};
use super::reading::{ReadingError, read_reading};
use crate::domain::{Driver, PublishedViolation, SpeedEvent};

/// Longest name or number, in bytes; the warehouse's columns are shorter.
const MAX_DRIVER_TEXT_BYTES: usize = 1024;

const NAMES: [&str; 4] = ["eventId", "first_name", "last_name", "myphone"];

#[derive(Serialize)]
struct Published<'a> {
    iottimestamp: &'a str,
    #[serde(rename = "licensePlate")]
    license_plate: &'a str,
    longitude: &'a str,
    latitude: &'a str,
    city: &'a str,
    state: &'a str,
    speed: u16,
    #[serde(rename = "eventId")]
    event_id: &'a str,
    first_name: &'a str,
    last_name: &'a str,
    myphone: &'a str,
}

/// Why an out-stream record is no violation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishedError {
    /// The reading in it breaks the input grammar.
    #[error(transparent)]
    Reading(#[from] ReadingError),
    /// A member of the driver is missing, of the wrong type or too long.
    #[error("member {0} is missing, not a text, or too long")]
    Member(&'static str),
}

/// Writes a violation for the out-stream: the seven members, speed as a JSON number, then the event id and the driver.
#[must_use]
pub fn write_published(event: &SpeedEvent, driver: &Driver) -> Vec<u8> {
    let published = Published {
        iottimestamp: event.iottimestamp(),
        license_plate: event.license_plate(),
        longitude: event.longitude(),
        latitude: event.latitude(),
        city: event.city(),
        state: event.state(),
        speed: event.speed().mph(),
        event_id: event.event_id(),
        first_name: &driver.first_name,
        last_name: &driver.last_name,
        myphone: &driver.myphone,
    };
    let mut json = Vec::with_capacity(384);
    serde_json::to_writer(&mut json, &published).expect("texts and numbers always serialize");
    json
}

/// Reads a violation from the out-stream.
///
/// # Errors
/// When it was not written by [`write_published`] or something equal to it.
pub fn read_published(data: &[u8]) -> Result<PublishedViolation, PublishedError> {
    let reading = read_reading(data)?;
    let members = read_object(data, &NAMES).map_err(ReadingError::Malformed)?;
    let text = |at: usize| {
        let text = members[at].and_then(text_of).filter(|text| text.len() <= MAX_DRIVER_TEXT_BYTES);
        text.ok_or(PublishedError::Member(NAMES[at]))
    };
    text(0)?;
    let driver = Driver { first_name: text(1)?.into(), last_name: text(2)?.into(), myphone: text(3)?.into() };
    Ok(PublishedViolation { event: reading.to_event(), driver })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SpeedMph;

    fn event() -> SpeedEvent {
        let speed = SpeedMph::new(76).expect("a speed");
        SpeedEvent::new(["2020-07-01 12:00:00.123456", " 95b•140", "101.7", "79.6", "Say \"hi\"", "Iowa"], "id-1", speed)
    }

    fn driver() -> Driver {
        Driver { first_name: "Ada".into(), last_name: "Example".into(), myphone: "2025550123".into() }
    }

    #[test]
    fn the_record_has_exactly_the_agreed_members() {
        let json = String::from_utf8(write_published(&event(), &driver())).expect("UTF-8");
        assert_eq!(
            json,
            r#"{"iottimestamp":"2020-07-01 12:00:00.123456","licensePlate":" 95b•140","longitude":"101.7","latitude":"79.6","city":"Say \"hi\"","state":"Iowa","speed":76,"eventId":"id-1","first_name":"Ada","last_name":"Example","myphone":"2025550123"}"#
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = read_published(&write_published(&event(), &driver())).expect("a violation");
        assert_eq!(read, PublishedViolation { event: event(), driver: driver() });
    }

    #[test]
    fn a_record_without_its_driver_or_id_is_refused() {
        let json = String::from_utf8(write_published(&event(), &driver())).expect("UTF-8");
        for name in ["eventId", "first_name", "myphone"] {
            assert_eq!(read_published(json.replace(name, "other").as_bytes()), Err(PublishedError::Member(name)));
        }
        assert!(read_published(b"{}").is_err());
    }
}
