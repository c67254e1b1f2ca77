//! Whether a stored record is about one plate. Records that became dead letters are often broken, so what cannot be read is told apart
//! from what is about somebody else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use speedtrap_actors::domain::PlateKey;

/// Records inside records: a change of a table holds an item, an error of the IoT rule holds what a device sent.
const MOST_DEPTH: usize = 32;

/// Whom a record is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About {
    /// This plate; with the event's id if the record has one.
    This(Option<String>),
    /// Another plate, or none.
    Another,
    /// It cannot be told, but the plate's characters are in it.
    Perhaps,
}

pub(super) fn about(record: &[u8], plate: &PlateKey) -> About {
    let read = serde_json::from_slice::<Value>(record).ok();
    if let Some(value) = &read {
        if names(value, plate, 0) {
            return About::This(event_id(value));
        }
        if let Some(original) = original(value) {
            return about(&original, plate);
        }
    }
    // Of two members with one name a reader keeps the last, so a readable record may still hold the plate.
    let text = String::from_utf8_lossy(record).to_uppercase();
    if text.contains(plate.as_str()) { About::Perhaps } else { About::Another }
}

fn names(value: &Value, plate: &PlateKey, depth: usize) -> bool {
    match value {
        _ if depth > MOST_DEPTH => false,
        Value::Object(members) => {
            members.get("licensePlate").and_then(text).is_some_and(|found| PlateKey::of(&found) == *plate)
                || members.values().any(|member| names(member, plate, depth + 1))
        }
        Value::Array(values) => values.iter().any(|value| names(value, plate, depth + 1)),
        _ => false,
    }
}

/// A string or number, also as DynamoDB writes it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(typed) => typed.get("S").or_else(|| typed.get("N")).and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

fn event_id(value: &Value) -> Option<String> {
    match value {
        Value::Object(members) => members.get("eventId").and_then(text).or_else(|| members.values().find_map(event_id)),
        _ => None,
    }
}

/// What a device sent, if this is an error of the IoT rule.
fn original(value: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(value.get("base64OriginalPayload")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(record: &str) -> About {
        about(record.as_bytes(), &PlateKey::of("4-2288B"))
    }

    #[test]
    fn a_plate_is_found_in_every_form_that_a_letter_has() {
        let this = |id: Option<&str>| About::This(id.map(str::to_owned));
        assert_eq!(of(r#"{"licensePlate":" 4-2288b ","speed":"x"}"#), this(None));
        assert_eq!(of(r#"{"licensePlate":"4-2288B","eventId":"e-1"}"#), this(Some("e-1")));
        let image = r#"{"dynamodb":{"NewImage":{"licensePlate":{"S":"4-2288B"},"eventId":{"S":"e-2"}}}}"#;
        assert_eq!(of(image), this(Some("e-2")));
        let error = format!(r#"{{"base64OriginalPayload":"{}"}}"#, STANDARD.encode(r#"{"licensePlate":"4-2288B"}"#));
        assert_eq!(of(&error), this(None));
        assert_eq!(about(br#"{"licensePlate":12345}"#, &PlateKey::of("12345")), this(None));
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_what_is_about_another() {
        assert_eq!(of(r#"{"licensePlate":"4-2288B","#), About::Perhaps);
        assert_eq!(of(r#"{"licensePlate":"4-2288B","licensePlate":"X"}"#), About::Perhaps);
        assert_eq!(of(r#"{"licensePlate":"4-2289B"}"#), About::Another);
        assert_eq!(of("nonsense"), About::Another);
        assert_eq!(about(b"\xff 4-2288b \xff", &PlateKey::of("4-2288B")), About::Perhaps);
    }

    #[test]
    fn a_longer_plate_is_another_one() {
        assert_eq!(of(r#"{"licensePlate":"14-2288BC"}"#), About::Perhaps, "its characters are in it, so somebody looks");
    }
}
