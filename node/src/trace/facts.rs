//! What a record on a stream or in a dead letter says of itself, whether it is a valid reading or not (pure).

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;
use speedtrap_actors::domain::{EventId, SpeedEvent, SpeedMph};

const VALUES: [&str; 7] = ["iottimestamp", "licensePlate", "longitude", "latitude", "city", "state", "speed"];

/// The members of one event, as far as they can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The given id, else the derived one; `None` if too little is there to derive it from.
    pub(super) event_id: Option<String>,
    pub(super) plate: Option<String>,
    /// As the device wrote it.
    pub(super) iottimestamp: Option<String>,
    pub(super) city: Option<String>,
    pub(super) state: Option<String>,
    pub(super) speed: Option<SpeedMph>,
    /// First name, last name and number, if it is a record of the out-stream.
    pub(super) driver: Option<[String; 3]>,
}

impl Facts {
    /// Reads a reading, a published violation, or a change of the speeding table. `None` if it is no JSON object.
    pub(super) fn of(data: &[u8]) -> Option<Self> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_slice(data).ok()?;
        let texts: BTreeMap<String, String> = match members.get("newImage") {
            Some(image) => {
                let image: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(image.get()).ok()?;
                image.into_iter().filter_map(|(name, value)| Some((name, value.into_values().next()?))).collect()
            }
            None => members.iter().filter_map(|(name, raw)| Some((name.clone(), text_of(raw.get())?))).collect(),
        };
        let text = |name: &str| texts.get(name).cloned();
        let derived = || {
            let values: Vec<&str> = VALUES.iter().filter_map(|name| texts.get(*name).map(String::as_str)).collect();
            Some(EventId::derive(values.try_into().ok()?).as_str().to_owned())
        };
        let driver = [text("first_name"), text("last_name"), text("myphone")];
        Some(Self {
            event_id: text("eventId").or_else(derived),
            plate: text("licensePlate"),
            iottimestamp: text("iottimestamp"),
            city: text("city"),
            state: text("state"),
            speed: text("speed").and_then(|speed| SpeedMph::parse(&speed).ok()),
            driver: match driver {
                [Some(first), Some(last), Some(phone)] => Some([first, last, phone]),
                _ => None,
            },
        })
    }

    /// When the reading was taken, by the device's clock.
    pub(super) fn taken(&self) -> Option<SystemTime> {
        self.iottimestamp.as_deref().and_then(taken_at)
    }
}

impl From<&SpeedEvent> for Facts {
    fn from(event: &SpeedEvent) -> Self {
        Self {
            event_id: Some(event.event_id().to_owned()),
            plate: Some(event.license_plate().to_owned()),
            iottimestamp: Some(event.iottimestamp().to_owned()),
            city: Some(event.city().to_owned()),
            state: Some(event.state().to_owned()),
            speed: Some(event.speed()),
            driver: None,
        }
    }
}

/// A time as devices write it, in UTC.
pub(crate) fn taken_at(text: &str) -> Option<SystemTime> {
    let time: DateTime = text.trim().trim_end_matches('Z').parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().into())
}

/// A string, or a number as it stands there; nothing else.
fn text_of(raw: &str) -> Option<String> {
    match raw.bytes().next()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_reading_has_its_derived_id_and_its_time() {
        let golden = include_str!("../../../data/golden/readings.ndjson");
        let mut n = 0;
        for line in golden.lines().filter(|line| !line.trim().is_empty()) {
            let record: serde_json::Value = serde_json::from_str(line).expect("golden JSON");
            let facts = Facts::of(record["json"].as_str().expect("json is a string").as_bytes()).expect("an object");
            assert_eq!(facts.event_id.as_deref(), record["eventId"].as_str());
            n += 1;
        }
        assert!(n > 0, "the golden file holds records");
    }

    #[test]
    fn a_change_of_the_table_is_read_like_a_record_and_a_bad_record_as_far_as_it_goes() {
        let change =
            br#"{"eventName":"INSERT","newImage":{"eventId":{"S":"e-1"},"licensePlate":{"S":"AB 1"},"speed":{"N":"80"}}}"#;
        let facts = Facts::of(change).expect("an object");
        assert_eq!((facts.event_id.as_deref(), facts.plate.as_deref()), (Some("e-1"), Some("AB 1")));
        assert_eq!(facts.speed.map(SpeedMph::mph), Some(80));
        let bad = Facts::of(br#"{"eventId":"e-2","licensePlate":null,"speed":75.9,"state":[1]}"#).expect("an object");
        assert_eq!(bad, Facts { event_id: Some("e-2".into()), ..Facts::default() });
        assert_eq!(Facts::of(b"{}").and_then(|facts| facts.event_id), None, "nothing to derive an id from");
        assert_eq!((Facts::of(b"[1]"), Facts::of(b"no")), (None, None));
    }

    #[test]
    fn times_of_devices_are_utc() {
        let at = |text| taken_at(text).map(|at| jiff::Timestamp::try_from(at).expect("a time").to_string());
        assert_eq!(at("2020-07-01 12:00:00.123456").as_deref(), Some("2020-07-01T12:00:00.123456Z"));
        assert_eq!(at("2020-07-01T12:00:00Z").as_deref(), Some("2020-07-01T12:00:00Z"));
        assert_eq!((at(""), at("yesterday")), (None, None));
    }
}
