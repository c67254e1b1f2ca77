//! What the IoT rule's error action writes when it could not carry a message to the in-stream.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

/// A message that the rule could not carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The message as the device published it.
    pub payload: Bytes,
    /// Why the rule could not carry it.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    rule_name: String,
    base64_original_payload: String,
    #[serde(default)]
    failures: Vec<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    #[serde(default)]
    failed_action: String,
    #[serde(default)]
    error_message: String,
}

/// Reads an error record (<https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html>, "Error action message
/// format"). One of any other form is taken as the payload itself, so that nothing is lost.
#[must_use]
pub fn read_rule_error(data: &Bytes) -> RuleError {
    let read = serde_json::from_slice::<Wire>(data).ok().and_then(|wire| {
        let payload = STANDARD.decode(&wire.base64_original_payload).ok()?;
        let failures: Vec<String> =
            wire.failures.iter().map(|failure| format!("{}: {}", failure.failed_action, failure.error_message)).collect();
        Some(RuleError {
            payload: payload.into(),
            reason: format!("IoT rule {} failed: {}", wire.rule_name, failures.join("; ")),
        })
    });
    read.unwrap_or_else(|| RuleError { payload: data.clone(), reason: "not an error record of an IoT rule".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_payload_comes_back_byte_by_byte() {
        let record = Bytes::from(format!(
            r#"{{"ruleName":"rtr_iot_trafficdata","topic":"t","base64OriginalPayload":"{}","failures":[{{"failedAction":"KinesisAction","failedResource":"s","errorMessage":"no plate"}}]}}"#,
            STANDARD.encode(b"\xff\x00 not json")
        ));
        let error = read_rule_error(&record);
        assert_eq!(error.payload, Bytes::from_static(b"\xff\x00 not json"));
        assert_eq!(error.reason, "IoT rule rtr_iot_trafficdata failed: KinesisAction: no plate");
    }

    #[test]
    fn any_other_record_is_kept_as_it_is() {
        for bytes in [&b"{}"[..], b"nonsense", br#"{"base64OriginalPayload":"%%"}"#] {
            assert_eq!(read_rule_error(&Bytes::copy_from_slice(bytes)).payload, bytes);
        }
    }
}
