//! What a device may do: connect under its own name, publish readings and its own status, and hear its own test.

use serde_json::json;

/// The topic of readings, which the IoT rule carries into the stream.
pub(super) const READINGS: &str = "rtr/iot/trafficdata";

/// The policy of a device.
pub(super) fn name(device: &str) -> String {
    format!("speedtrap-device-{device}")
}

/// The policy's document. `prefix` is what the ARNs of this account and region begin with, as `arn:aws:iot:us-east-1:123456789012:`.
pub(super) fn document(prefix: &str, device: &str) -> String {
    let topic = |topic: &str| format!("{prefix}topic/{topic}");
    let (status, test) = (format!("rtr/iot/status/{device}"), format!("rtr/iot/selftest/{device}"));
    let allow = |action: &str, resources: &[String]| json!({"Effect": "Allow", "Action": action, "Resource": resources});
    json!({
        "Version": "2012-10-17",
        "Statement": [
            allow("iot:Connect", &[format!("{prefix}client/{device}")]),
            allow("iot:Publish", &[topic(READINGS), topic(&status), topic(&test)]),
            allow("iot:RetainPublish", &[topic(&status)]),
            allow("iot:Subscribe", &[format!("{prefix}topicfilter/{test}")]),
            allow("iot:Receive", &[topic(&test)]),
        ],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn nothing_is_allowed_to_all_and_only_readings_are_shared() {
        let text = document("arn:aws:iot:us-east-1:123456789012:", "PI-07");
        let document: Value = serde_json::from_str(&text).expect("the document is JSON");
        let statements = document["Statement"].as_array().expect("it has statements");
        let resources = statements.iter().flat_map(|statement| statement["Resource"].as_array().into_iter().flatten());
        for resource in resources.filter_map(Value::as_str) {
            assert!(!resource.contains(['*', '?', '$', '+', '#']), "{resource}");
            assert!(resource.ends_with("/PI-07") || resource.ends_with(":topic/rtr/iot/trafficdata"), "{resource}");
        }
        assert!(statements.iter().all(|statement| statement["Action"] != "iot:*"), "{text}");
    }
}
