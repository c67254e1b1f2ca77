//! Laying the sources over each other, one key at a time, so that every fault is found and not only the first.

use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};

use super::{ConfigFault, ConfigFaults, NodeConfig, environment};

/// Keys set by flags: section, key, value and the flag's name.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<Setting>);

/// One key set by one source.
#[derive(Debug)]
struct Setting {
    section: String,
    key: String,
    /// What the value may mean; the first one that fits its key counts.
    readings: Vec<Value>,
    origin: String,
}

impl Flags {
    /// Adds a flag, if it was given.
    #[must_use]
    pub(crate) fn with<T: Into<Value>>(mut self, section: &str, key: &str, flag: &str, value: Option<T>) -> Self {
        let setting = |value: T| Setting {
            section: section.to_owned(),
            key: key.to_owned(),
            readings: vec![value.into()],
            origin: format!("flag {flag}"),
        };
        self.0.extend(value.map(setting));
        self
    }
}

/// Reads and checks the configuration of this process.
///
/// # Errors
/// With everything that is wrong in any source.
pub(crate) fn load(file: Option<&Path>, flags: Flags) -> Result<NodeConfig, ConfigFaults> {
    let text = match file {
        None => None,
        Some(path) => Some((path, std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error))?)),
    };
    let file = text.as_ref().map(|(path, text)| (*path, text.as_str()));
    load_from(file, environment::variables(), flags)
}

fn cannot_read(path: &Path, error: &std::io::Error) -> ConfigFaults {
    ConfigFaults(vec![ConfigFault::new(path.display().to_string(), format!("cannot be read: {error}"))])
}

fn load_from(file: Option<(&Path, &str)>, variables: Vec<(String, String)>, flags: Flags) -> Result<NodeConfig, ConfigFaults> {
    let mut faults = Vec::new();
    let mut settings = match file {
        Some((path, text)) => from_file(path, text, &mut faults),
        None => Vec::new(),
    };
    settings.extend(environment::settings(variables).into_iter().map(from_variable));
    settings.extend(flags.0);

    let defaults = || Figment::from(Serialized::defaults(NodeConfig::default()));
    let mut merged = defaults();
    for setting in &settings {
        let path = format!("{}.{}", setting.section, setting.key);
        let one = |value: &Value| Serialized::default(&path, value.clone());
        let fits = |value: &Value| defaults().merge(one(value)).extract::<NodeConfig>().map_err(Box::new);
        match setting.readings.iter().find(|value| fits(value).is_ok()) {
            Some(value) => merged = merged.merge(one(value)),
            None => {
                faults.extend(setting.readings.first().and_then(|value| fits(value).err()).map(|error| setting.fault(&error)))
            }
        }
    }
    let config: NodeConfig =
        merged.extract().map_err(|error| ConfigFaults(vec![ConfigFault::new("configuration", error.to_string())]))?;
    for mut fault in config.faults() {
        let set_it = |setting: &&Setting| fault.key == format!("{}.{}", setting.section, setting.key);
        fault.origin = settings.iter().rev().find(set_it).map(|setting| setting.origin.clone());
        faults.push(fault);
    }
    if faults.is_empty() { Ok(config) } else { Err(ConfigFaults(faults)) }
}

impl Setting {
    fn fault(&self, error: &figment::Error) -> ConfigFault {
        let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let what = match &error.kind {
            // The value of a key that nobody knows may be a password, so it is not shown.
            Kind::UnknownField(name, known) if *name == self.section => format!("no such section; there are {}", quoted(known)),
            Kind::UnknownField(_, known) => format!("no such key; section `{}` has {}", self.section, quoted(known)),
            _ if ["url", "cookie"].contains(&self.key.as_str()) => "is not a text".to_owned(),
            kind => kind.to_string(),
        };
        ConfigFault { key: format!("{}.{}", self.section, self.key), what, origin: Some(self.origin.clone()) }
    }
}

fn from_file(path: &Path, text: &str, faults: &mut Vec<ConfigFault>) -> Vec<Setting> {
    let name = path.display().to_string();
    let sections: Dict = match Figment::from(Toml::string(text)).extract() {
        Ok(sections) => sections,
        Err(error) => {
            faults.push(ConfigFault::new(name, format!("is no TOML: {}", error.kind.to_string().trim_end())));
            return Vec::new();
        }
    };
    let mut settings = Vec::new();
    for (section, keys) in sections {
        let Value::Dict(_, keys) = keys else {
            let fault = ConfigFault::new(section, "is no section; every key belongs to one, such as [lane]");
            faults.push(ConfigFault { origin: Some(name.clone()), ..fault });
            continue;
        };
        let setting = |(key, value)| Setting { section: section.clone(), key, readings: vec![value], origin: name.clone() };
        settings.extend(keys.into_iter().map(setting));
    }
    settings
}

fn from_variable((section, key, text, name): (String, String, String, String)) -> Setting {
    // A variable is text; whether it is meant as one, as a number or as a list is for its key to say.
    let parsed = |text: &str| text.parse::<Value>().unwrap_or_else(|never| match never {});
    let readings = vec![Value::from(text.as_str()), parsed(&text), parsed(&format!("[{text}]"))];
    Setting { section, key, readings, origin: format!("environment {name}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::RoleName;
    use super::*;

    fn variable(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    fn load_text(text: &str, variables: Vec<(String, String)>, flags: Flags) -> Result<NodeConfig, ConfigFaults> {
        load_from(Some((Path::new("speedtrap.toml"), text)), variables, flags)
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(load_from(None, Vec::new(), Flags::default()), Ok(NodeConfig::default()));
    }

    #[test]
    fn later_sources_win() {
        let text = "[node]\nname = 'file'\n[rule]\nlimit_mph = 50\n[kinesis]\npoll_interval = '1s'\n";
        let variables = vec![variable("SPEEDTRAP_NODE__NAME", "variable"), variable("SPEEDTRAP_RULE__LIMIT_MPH", "60")];
        let flags = Flags::default().with("node", "name", "--name", Some("flag"));
        let config = load_text(text, variables, flags).expect("valid");
        assert_eq!((config.node.name.as_str(), config.rule.limit_mph), ("flag", 60));
        assert_eq!(config.kinesis.poll_interval, Duration::from_secs(1));
    }

    #[test]
    fn a_variable_is_read_as_its_key_needs() {
        let variables = vec![
            variable("SPEEDTRAP_NODE__NAME", "007"),
            variable("SPEEDTRAP_NODE__ROLES", "enrich,notify"),
            variable("SPEEDTRAP_LANE__CREDIT_BYTES", "4194304"),
            variable("SPEEDTRAP_WAREHOUSE__URL", "postgresql://u:p=[1]@host/db"),
        ];
        let config = load_from(None, variables, Flags::default()).expect("valid");
        assert_eq!((config.node.name.as_str(), config.node.roles), ("007", vec![RoleName::Enrich, RoleName::Notify]));
        assert_eq!(config.lane.credit_bytes.as_u64(), 4_194_304);
        assert_eq!(config.warehouse.url.reveal(), "postgresql://u:p=[1]@host/db");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = "stray = 1\n[lane]\ncredit_events = 0\nbatch_evnts = 3\n[rule]\nlimit_mph = 'fast'\n[nonsense]\nx = 1\n[lookup]\nknown_for = '5 parsecs'\n";
        let variables =
            vec![variable("SPEEDTRAP_DASHBOARD__LISTEN", "0.0.0.0:80"), variable("SPEEDTRAP_WAREHOUSE__PASSWORD", "hunter2")];
        let faults = load_text(text, variables, Flags::default()).expect_err("faults");
        let keys: Vec<_> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        for key in [
            "stray",
            "lane.credit_events",
            "lane.batch_evnts",
            "rule.limit_mph",
            "nonsense.x",
            "lookup.known_for",
            "dashboard.listen",
            "warehouse.password",
        ] {
            assert!(keys.contains(&key), "{key} is missing in {faults}");
        }
        let shown = faults.to_string();
        assert!(shown.contains("`0`") && shown.contains("1 to 100000"), "{shown}");
        assert!(shown.contains("environment SPEEDTRAP_DASHBOARD__LISTEN") && shown.contains("speedtrap.toml"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_told() {
        let faults = load_text("[lane\n", Vec::new(), Flags::default()).expect_err("a fault");
        assert!(faults.to_string().contains("is no TOML"), "{faults}");
    }
}
