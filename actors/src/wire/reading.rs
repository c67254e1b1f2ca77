//! A record of the in-stream as a reading: the input grammar.

use std::borrow::Cow;

use super::json::{read_object, text_of};
use crate::domain::{EventId, EventIdError, LicensePlate, PlateError, Reading, SpeedError, SpeedMph};

/// Longest record, in bytes: what AWS IoT Core takes as one message
/// (<https://docs.aws.amazon.com/general/latest/gr/iot-core.html>, "Message size").
pub const MAX_RECORD_BYTES: usize = 128 * 1024;

/// Longest value, in bytes, apart from the plate.
const MAX_TEXT_BYTES: usize = 256;

const NAMES: [&str; 8] = ["iottimestamp", "licensePlate", "longitude", "latitude", "city", "state", "speed", "eventId"];
const PLATE: usize = 1;
const SPEED: usize = 6;
const EVENT_ID: usize = 7;

/// Why a record is no reading. Messages name the member and the rule, never a person's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    /// Too long to be looked at.
    #[error("the record has {bytes} bytes, more than {MAX_RECORD_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not a JSON object of the allowed form.
    #[error("{0}")]
    Malformed(String),
    /// A required member is absent.
    #[error("member {0} is missing")]
    Missing(&'static str),
    /// A member is neither string nor number.
    #[error("member {0} is neither a string nor a number")]
    WrongType(&'static str),
    /// A member's text is too long.
    #[error("member {name} has {bytes} bytes, more than {MAX_TEXT_BYTES}")]
    TextTooLong {
        /// The member.
        name: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The plate is empty or too long.
    #[error(transparent)]
    Plate(#[from] PlateError),
    /// The speed is none.
    #[error(transparent)]
    Speed(#[from] SpeedError),
    /// The event id has a form that is not allowed.
    #[error(transparent)]
    EventId(#[from] EventIdError),
}

/// Reads one record.
///
/// # Errors
/// When it breaks any rule of the input format; it will break it again, so it becomes a dead letter.
pub fn read_reading(data: &[u8]) -> Result<Reading<'_>, ReadingError> {
    if data.len() > MAX_RECORD_BYTES {
        return Err(ReadingError::TooLong { bytes: data.len() });
    }
    let members = read_object(data, &NAMES).map_err(ReadingError::Malformed)?;
    let mut values = [const { Cow::Borrowed("") }; 7];
    for (at, value) in values.iter_mut().enumerate() {
        let name = NAMES[at];
        let raw = members[at].ok_or(ReadingError::Missing(name))?;
        *value = text_of(raw).ok_or(ReadingError::WrongType(name))?;
        if at != PLATE && value.len() > MAX_TEXT_BYTES {
            return Err(ReadingError::TextTooLong { name, bytes: value.len() });
        }
    }
    LicensePlate::check(&values[PLATE])?;
    let speed = SpeedMph::parse(&values[SPEED])?;
    let given_id = match members[EVENT_ID] {
        Some(raw) => {
            let id = text_of(raw).ok_or(ReadingError::WrongType("eventId"))?;
            EventId::check(&id)?;
            Some(id)
        }
        None => None,
    };
    // A plate may be padded with blanks beyond its own limit; what travels on has to stay bounded all the same.
    if values[PLATE].len() > MAX_TEXT_BYTES {
        return Err(ReadingError::TextTooLong { name: NAMES[PLATE], bytes: values[PLATE].len() });
    }
    Ok(Reading { values, given_id, speed })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({"iottimestamp":"2020-07-01 12:00:00.123456","licensePlate":"4-2288B","longitude":"101.766855","latitude":"79.694526",
               "city":"West Kristopher","state":"Iowa","speed":"68"})
    }

    fn with(name: &str, json: &str) -> Vec<u8> {
        let Value::Object(mut members) = good() else { unreachable!("good() is an object") };
        members.remove(name);
        let mut text = serde_json::to_string(&members).expect("serializes");
        text.pop();
        format!("{text},\"{name}\":{json}}}").into_bytes()
    }

    #[test]
    fn reads_a_reading_in_any_order_and_ignores_unknown_members() {
        let bytes = with("topic", r#"{"a":[1,{"b":null}]}"#);
        let reading = read_reading(&bytes).expect("a reading");
        assert_eq!(reading.values[PLATE], "4-2288B");
        assert_eq!(reading.speed.mph(), 68);
        assert!(matches!(reading.values[0], Cow::Borrowed(_)), "no copy without escapes");
    }

    #[test]
    fn speeds_are_read_value_by_value() {
        for (json, mph) in [
            ("\"76\"", 76),
            ("76", 76),
            ("\"076\"", 76),
            ("\" 76\"", 76),
            ("76.0", 76),
            ("\"76.00\"", 76),
            ("0", 0),
            ("\"000076\"", 76),
            ("999", 999),
            ("\"\\u00376\"", 76),
        ] {
            assert_eq!(read_reading(&with("speed", json)).map(|r| r.speed.mph()), Ok(mph), "{json}");
        }
        for json in [
            "75.9",
            "-1",
            "true",
            "null",
            "\"NaN\"",
            "NaN",
            "\"\"",
            "\"76.\"",
            "1e2",
            "7.6e1",
            "1000",
            "[76]",
            "{\"v\":76}",
            "\"+76\"",
            "-0",
            "\"7 6\"",
        ] {
            assert!(read_reading(&with("speed", json)).is_err(), "{json}");
        }
    }

    #[test]
    fn plates_are_read_value_by_value() {
        for (json, plate) in [
            ("\"95B•140\"", "95B•140"),
            ("\" ab \"", " ab "),
            ("42", "42"),
            ("6.00E+272", "6.00E+272"),
            ("1.10", "1.10"),
            ("\"95B\\u2022140\"", "95B•140"),
        ] {
            let bytes = with("licensePlate", json);
            assert_eq!(read_reading(&bytes).expect("a reading").values[PLATE], plate, "{json}");
        }
        let (long, padded) = (format!("\"{}\"", "A".repeat(65)), format!("\"A{}\"", " ".repeat(300)));
        for json in ["null", "true", "[\"A\"]", "{}", "\"\"", "\"  \"", "\"\\ud800\"", &long, &padded] {
            assert!(read_reading(&with("licensePlate", json)).is_err(), "{json}");
        }
    }

    #[test]
    fn every_member_is_required_and_has_a_limit() {
        for name in &NAMES[..7] {
            let Value::Object(mut members) = good() else { unreachable!("good() is an object") };
            members.remove(*name);
            let bytes = serde_json::to_vec(&members).expect("serializes");
            assert_eq!(read_reading(&bytes).map(|_| ()), Err(ReadingError::Missing(name)));
            for json in ["null", "true", "[]", "{}"] {
                assert!(read_reading(&with(name, json)).is_err(), "{name} {json}");
            }
        }
        assert!(read_reading(&with("city", &format!("\"{}\"", "x".repeat(256)))).is_ok());
        assert!(read_reading(&with("city", &format!("\"{}\"", "x".repeat(257)))).is_err());
        assert!(read_reading(&with("city", "\"\"")).is_ok(), "only the plate may not be empty");
    }

    #[test]
    fn what_is_no_object_of_the_allowed_form_is_refused() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read_reading(&with("x", &deep(31))).is_ok());
        assert!(read_reading(&with("x", &deep(32))).is_err(), "33 levels with the record's own");
        assert!(read_reading(&with("x", &deep(5000))).is_err());
        let twice = |name: &str| {
            [&with(name, "\"1\"")[..], b""]
                .concat()
                .strip_suffix(b"}")
                .map(|b| [b, format!(",\"{name}\":\"1\"}}").as_bytes()].concat())
        };
        for name in ["speed", "unknown", "sp\\u0065ed"] {
            let mut bytes = twice("speed").expect("ends with a brace");
            if name != "speed" {
                bytes = String::from_utf8(with("speed", "\"1\""))
                    .expect("UTF-8")
                    .replace('}', &format!(",\"{name}\":1,\"{name}\":2}}"))
                    .into_bytes();
            }
            assert!(read_reading(&bytes).is_err(), "{name} twice");
        }
        assert!(read_reading(&with("x", r#"{"a":1,"a":2}"#)).is_err());
        for bytes in [&b""[..], b"null", b"[]", b"\"x\"", b"{", b"{}", b"{} x", b"\xff\xfe{}", b"speed=76", b"{\"a\":1,}"] {
            assert!(read_reading(bytes).is_err(), "{bytes:?}");
        }
        let mut trailing = with("x", "1");
        trailing.extend_from_slice(b"{}");
        assert!(read_reading(&trailing).is_err());
    }

    #[test]
    fn a_record_of_the_limit_is_read_and_a_longer_one_is_not() {
        let pad = |bytes: usize| with("x", &format!("\"{}\"", "y".repeat(bytes)));
        let spare = MAX_RECORD_BYTES - pad(0).len();
        assert!(read_reading(&pad(spare)).is_ok());
        assert_eq!(read_reading(&pad(spare + 1)).map(|_| ()), Err(ReadingError::TooLong { bytes: MAX_RECORD_BYTES + 1 }));
    }

    #[test]
    fn a_given_event_id_is_kept_and_a_bad_one_refused() {
        let bytes = with("eventId", "\"RTRPIIOT-b1-7\"");
        assert_eq!(read_reading(&bytes).expect("a reading").event_id().as_str(), "RTRPIIOT-b1-7");
        for json in ["\"\"", "\"a b\"", "null", "true", "{}", &format!("\"{}\"", "a".repeat(65))] {
            assert!(read_reading(&with("eventId", json)).is_err(), "{json}");
        }
    }

    #[test]
    fn golden_readings_have_the_derived_ids_that_the_device_side_expects() {
        let golden = include_str!("../../../data/golden/readings.ndjson");
        let mut n = 0;
        for line in golden.lines().filter(|line| !line.trim().is_empty()) {
            let record: Value = serde_json::from_str(line).expect("golden JSON");
            let bytes = record["json"].as_str().expect("json is a string").as_bytes();
            let reading = read_reading(bytes).expect("a golden reading");
            assert_eq!(reading.event_id().as_str(), record["eventId"].as_str().expect("eventId is a string"));
            n += 1;
        }
        assert!(n > 0, "the golden file holds records");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _verdict = read_reading(&data).is_ok();
        }

        #[test]
        fn any_texts_survive_the_trip(texts in proptest::collection::vec("\\PC{0,40}", 6), plate in "[A-Z0-9•-]{1,20}") {
            let value = json!({"iottimestamp":texts[0],"licensePlate":plate,"longitude":texts[1],"latitude":texts[2],"city":texts[3],"state":texts[4],
                               "speed":76,"note":texts[5]});
            let bytes = serde_json::to_vec(&value).expect("serializes");
            let event = read_reading(&bytes).expect("a reading").to_event();
            prop_assert_eq!((event.iottimestamp(), event.license_plate(), event.city()), (&texts[0][..], &plate[..], &texts[3][..]));
        }
    }
}
