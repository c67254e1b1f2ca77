//! Showing a configuration, secrets masked.

use std::fmt::Write as _;

use serde_json::Value;

use super::NodeConfig;

/// The commented file that lists every key at its default.
pub(crate) const DEFAULTS: &str = include_str!("../../../deploy/speedtrap.toml");

/// The configuration as one JSON object.
pub(crate) fn to_json(config: &NodeConfig) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

/// The configuration as TOML, as it could stand in a file.
pub(crate) fn to_toml(config: &NodeConfig) -> String {
    let mut out = String::new();
    let Value::Object(sections) = to_json(config) else { return out };
    for (section, keys) in sections {
        let Value::Object(keys) = keys else { continue };
        let gap = if out.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _infallible = writeln!(out, "{gap}[{section}]");
        for (key, value) in keys {
            // The values are texts, whole numbers and lists of texts, which TOML writes as JSON does.
            let _infallible = writeln!(out, "{key} = {value}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use figment::Figment;
    use figment::providers::{Format, Toml};
    use figment::value::Dict;

    use super::super::warehouse::Secret;
    use super::*;

    fn read(text: &str) -> NodeConfig {
        Figment::from(Toml::string(text)).extract().expect("a configuration")
    }

    fn keys(text: &str) -> BTreeSet<String> {
        let sections: Dict = Figment::from(Toml::string(text)).extract().expect("TOML");
        let keys_of = |(section, keys): (String, figment::value::Value)| {
            let keys = keys.into_dict().expect("a section").into_keys();
            keys.map(move |key| format!("{section}.{key}")).collect::<Vec<_>>()
        };
        sections.into_iter().flat_map(keys_of).collect()
    }

    #[test]
    fn the_file_of_defaults_lists_every_key_at_its_default() {
        assert_eq!(read(DEFAULTS), NodeConfig::default());
        assert_eq!(keys(DEFAULTS), keys(&to_toml(&NodeConfig::default())));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let mut config = NodeConfig::default();
        config.notify.template = "a \"quoted\" \\ text\nof two lines: ü".into();
        assert_eq!(read(&to_toml(&config)), config);
    }

    #[test]
    fn secrets_are_masked() {
        let mut config = NodeConfig::default();
        config.warehouse.url = Secret::from("postgresql://u:hunter2@h/d".to_owned());
        config.cluster.cookie = Secret::from("correct-hunter2-battery".to_owned());
        for shown in [to_toml(&config), to_json(&config).to_string(), format!("{config:?}")] {
            assert!(!shown.contains("hunter2") && shown.contains("***"), "{shown}");
        }
    }
}
