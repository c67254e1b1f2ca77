//! What may be shown of a record that was put aside: who it is about is masked where it is read.

use serde_json::Value;

/// Members that name a person or point at one.
const PERSONAL: [&str; 7] = ["first_name", "last_name", "myphone", "phonenumber", "phoneNumber", "email", "address"];

/// A plate by its first three characters.
pub(crate) fn plate(text: &str) -> String {
    let mut shown: String = text.trim().chars().take(3).collect();
    shown.push('…');
    shown
}

/// The plate of a record, masked; `None` if none can be read.
pub(super) fn plate_of(payload: &[u8]) -> Option<String> {
    let record: Value = serde_json::from_slice(payload).ok()?;
    record.get("licensePlate")?.as_str().map(plate)
}

/// A record with persons masked, or what it is instead of a record.
pub(super) fn payload(bytes: &[u8]) -> Value {
    match serde_json::from_slice(bytes) {
        Ok(record @ (Value::Object(_) | Value::Array(_))) => masked(record),
        // Text that is no record may hold anything, and anybody.
        _ => Value::String(format!("{} bytes that are no JSON object", bytes.len())),
    }
}

fn masked(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(members.into_iter().map(|(name, value)| mask_member(name, value)).collect()),
        Value::Array(values) => Value::Array(values.into_iter().map(masked).collect()),
        other => other,
    }
}

fn mask_member(name: String, value: Value) -> (String, Value) {
    let value = match value {
        Value::String(text) if name == "licensePlate" => Value::String(plate(&text)),
        Value::String(_) | Value::Number(_) if PERSONAL.contains(&name.as_str()) => Value::String("…".to_owned()),
        // What DynamoDB calls a string stands one level deeper, under the name of its type.
        Value::Object(_) if name == "licensePlate" || PERSONAL.contains(&name.as_str()) => Value::String("…".to_owned()),
        other => masked(other),
    };
    (name, value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_person_is_shown_wherever_a_record_names_one() {
        let record = json!({"licensePlate": "4-2288B", "city": "Ames", "speed": 81, "first_name": "A", "myphone": 15_550_100,
            "dynamodb": {"NewImage": {"licensePlate": {"S": "4-2288B"}, "state": {"S": "Iowa"}}}, "list": [{"last_name": "B"}]});
        let shown = payload(record.to_string().as_bytes());
        let expected = json!({"licensePlate": "4-2…", "city": "Ames", "speed": 81, "first_name": "…", "myphone": "…",
            "dynamodb": {"NewImage": {"licensePlate": "…", "state": {"S": "Iowa"}}}, "list": [{"last_name": "…"}]});
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_no_record_is_not_shown_at_all() {
        assert_eq!(payload(b"A. Driver, 555-0100"), json!("19 bytes that are no JSON object"));
        assert_eq!(payload(b"\"4-2288B\""), json!("9 bytes that are no JSON object"));
        assert_eq!(
            (plate_of(b"{}"), plate_of(b"no"), plate_of(br#"{"licensePlate":" 4-2288B"}"#)),
            (None, None, Some("4-2…".into()))
        );
    }
}
