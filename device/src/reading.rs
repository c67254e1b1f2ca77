//! One reading and the JSON that goes out for it. The device does not judge contents; that is the pipeline's work.

use serde::Serialize;

/// AWS IoT refuses larger payloads and closes the connection, and with the reading still unacknowledged it would be sent
/// again and again: <https://docs.aws.amazon.com/general/latest/gr/iot-core.html> ("message size", 128 KB).
pub(crate) const MAX_PAYLOAD_BYTES: usize = 128 * 1024;

pub(crate) const HEADER: [&str; 6] = ["licensePlate", "longitude", "latitude", "city", "state", "speed"];

/// The fields of one row, untouched, in the order of `HEADER`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) fields: [String; 6],
}

/// The order of the members is part of the contract with the readers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    iottimestamp: &'a str,
    license_plate: &'a str,
    longitude: &'a str,
    latitude: &'a str,
    city: &'a str,
    state: &'a str,
    speed: &'a str,
    event_id: &'a str,
    device_id: &'a str,
    sequence: u64,
    clock_synced: bool,
}

/// Which reading of which device it is, and whether its time can be believed.
pub(crate) struct Origin<'a> {
    pub(crate) event_id: &'a str,
    pub(crate) device_id: &'a str,
    pub(crate) sequence: u64,
    pub(crate) clock_synced: bool,
}

impl Reading {
    /// Compact JSON, raw UTF-8. `iottimestamp` is `YYYY-MM-DD HH:MM:SS.ffffff` in UTC.
    pub(crate) fn to_json(&self, iottimestamp: &str, origin: &Origin) -> Result<Vec<u8>, serde_json::Error> {
        let [license_plate, longitude, latitude, city, state, speed] = &self.fields;
        let Origin { event_id, device_id, sequence, clock_synced } = *origin;
        serde_json::to_vec(&Message {
            iottimestamp,
            license_plate,
            longitude,
            latitude,
            city,
            state,
            speed,
            event_id,
            device_id,
            sequence,
            clock_synced,
        })
    }
}

pub(crate) fn timestamp(now: jiff::Timestamp) -> String {
    now.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_golden_one_plus_its_origin() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/golden/readings.ndjson");
        let text = std::fs::read_to_string(path).unwrap();
        let mut seen = 0;
        for line in text.lines() {
            let golden: serde_json::Value = serde_json::from_str(line).unwrap();
            let value = |name: &str| golden["reading"][name].as_str().unwrap().to_owned();
            let reading = Reading { fields: HEADER.map(value) };
            let origin = Origin { event_id: "pi-b1-7", device_id: "pi", sequence: 7, clock_synced: false };
            let sent = reading.to_json(&value("iottimestamp"), &origin).unwrap();
            let expected = golden["json"].as_str().unwrap().strip_suffix('}').unwrap();
            let expected = format!(r#"{expected},"eventId":"pi-b1-7","deviceId":"pi","sequence":7,"clockSynced":false}}"#);
            assert_eq!(String::from_utf8(sent).unwrap(), expected);
            seen += 1;
        }
        assert!(seen >= 6);
    }

    #[test]
    fn time_stamps_always_have_six_digits_after_the_point() {
        let at = |text: &str| timestamp(text.parse().unwrap());
        assert_eq!(at("2020-07-01T12:00:00.123456789Z"), "2020-07-01 12:00:00.123456");
        assert_eq!(at("2020-07-01T12:00:00+02:00"), "2020-07-01 10:00:00.000000");
    }
}
