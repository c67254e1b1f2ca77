//! Settings of a file and of the environment, laid under those of the command line.
//!
//! Each setting is a flag of `publish`, so its name, its check and its default stand in one place: what file and environment
//! say becomes flags behind those that were given. A setting gives way to a flag that excludes it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, ValueHint};

const ENVIRONMENT: &str = "SPEEDTRAP_DEVICE_";
/// Flags that belong to a call and not to a device.
const NOT_SETTINGS: [&str; 5] = ["config", "help", "json", "verbose", "version"];

/// All that is wrong with the settings, and which command was called with them.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) command: String,
    pub(crate) faults: Vec<String>,
}

struct Setting {
    key: String,
    value: String,
    /// Where it stands, for messages.
    origin: String,
}

/// The arguments with what the settings add to them. Wrong arguments are left as they are, for clap to tell.
pub(crate) fn layered(
    command: &Command,
    mut arguments: Vec<OsString>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<OsString>, Faults> {
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(&arguments) else { return Ok(arguments) };
    let Some((name, given)) = matches.subcommand() else { return Ok(arguments) };
    let (Some(called), Some(publish)) = (command.find_subcommand(name), command.find_subcommand("publish")) else {
        return Ok(arguments);
    };
    let is_given = |arg: &&Arg| given.value_source(arg.get_id().as_str()) == Some(clap::parser::ValueSource::CommandLine);
    let mut decided: BTreeSet<String> = called.get_arguments().filter(is_given).filter_map(key).collect();

    let mut faults = Vec::new();
    let (config_in_environment, environment) = from_environment(environment, &mut faults);
    let flag = given.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    let config = flag.or(config_in_environment.map(PathBuf::from));
    let file = config.as_deref().map_or_else(Vec::new, |path| from_file(path, publish, &mut faults));
    for layer in [environment, file] {
        let above = decided.clone();
        for setting in layer {
            let Some(arg) = find(publish, &setting.key) else {
                faults.push(format!("{}: there is no setting `{}`", setting.origin, setting.key));
                continue;
            };
            let flag = match to_flag(command, arg, &setting) {
                Ok(flag) => flag,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            let excluded = publish.get_arg_conflicts_with(arg).into_iter().filter_map(key).any(|other| above.contains(&other));
            let is_known = find(called, &setting.key).is_some();
            if is_known && !excluded && decided.insert(setting.key) {
                arguments.extend(flag);
            }
        }
    }
    if let Some(path) = config.filter(|_| faults.is_empty()) {
        let missing =
            called.get_arguments().filter(|arg| arg.is_required_set()).filter_map(key).filter(|key| !decided.contains(key));
        faults.extend(missing.map(|key| format!("{}: `{key}` is missing", path.display())));
    }
    if faults.is_empty() { Ok(arguments) } else { Err(Faults { command: name.to_owned(), faults }) }
}

/// The name of a flag in the file.
fn key(arg: &Arg) -> Option<String> {
    let long = arg.get_long()?;
    (!NOT_SETTINGS.contains(&long)).then(|| long.replace('-', "_"))
}

/// The flag of that name in the file.
fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| key(arg).as_deref() == Some(name))
}

/// The place of the file, and the settings.
fn from_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    faults: &mut Vec<String>,
) -> (Option<String>, Vec<Setting>) {
    let mut config = None;
    let mut settings = Vec::new();
    for (name, value) in variables {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(ENVIRONMENT)).map(str::to_lowercase) else { continue };
        let origin = format!("environment variable {ENVIRONMENT}{}", key.to_uppercase());
        match value.into_string() {
            Ok(value) if key == "config" => config = Some(value),
            Ok(value) => settings.push(Setting { key, value, origin }),
            Err(_) => faults.push(format!("{origin}: it is not valid UTF-8")),
        }
    }
    (config, settings)
}

/// Paths in the file are relative to it, so that a connection kit can lie anywhere.
fn from_file(path: &Path, publish: &Command, faults: &mut Vec<String>) -> Vec<Setting> {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => {
            faults.push(format!("{shown}: the file cannot be read ({e}); check --config"));
            return Vec::new();
        }
    };
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(e) => {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            faults.push(format!("{shown}: line {}: {}", before.matches('\n').count() + 1, e.message()));
            return Vec::new();
        }
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_path = |name: &str| find(publish, name).is_some_and(|arg| arg.get_value_hint() == ValueHint::AnyPath);
    let mut settings = Vec::new();
    for (key, value) in table {
        let value = match value {
            // `-` is standard input.
            toml::Value::String(text) if text != "-" && is_path(&key) => folder.join(text).display().to_string(),
            toml::Value::String(text) => text,
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
            _ => {
                faults.push(format!("{shown}: `{key}` must be a text, a number, true or false"));
                continue;
            }
        };
        settings.push(Setting { key, value, origin: shown.to_string() });
    }
    settings
}

/// The flag that says the same, if the value passes its check.
fn to_flag(command: &Command, arg: &Arg, setting: &Setting) -> Result<Option<OsString>, String> {
    let Setting { key, value, origin } = setting;
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value.as_str() {
            "true" | "1" => Ok(Some(format!("--{long}").into())),
            "false" | "0" => Ok(None),
            _ => Err(format!("{origin}: `{key}` is `{value}`, and must be true or false")),
        };
    }
    let flag = OsString::from(format!("--{long}={value}"));
    let alone = [OsString::from(command.get_name()), OsString::from("publish"), flag.clone()];
    match command.clone().try_get_matches_from(alone) {
        // Other flags are missing, which shows that this one is good.
        Err(e) if !matches!(e.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) => {
            let why = e.to_string();
            let why = why.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("{origin}: `{key}`: {why}"))
        }
        _ => Ok(Some(flag)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::config::Cli;

    const KIT: &str = "endpoint = \"broker.example\"\nport = 443\nclient_id = \"PI-07\"\nroot_ca = \"ca.pem\"\n\
                       cert = \"certificate.pem\"\nkey = \"private.key\"\nfile = \"/var/lib/readings.csv\"\n";

    fn layers(config: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("speedtrap-device.toml");
        std::fs::write(&path, config).unwrap();
        let mut arguments = vec!["speedtrap-device".into(), "publish".into(), "--config".into(), path.into_os_string()];
        arguments.extend(flags.iter().map(OsString::from));
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let layered = layered(&Cli::command(), arguments, environment).map_err(|faults| faults.faults)?;
        let shown = layered.iter().map(|argument| argument.to_string_lossy().replace(&*folder.path().to_string_lossy(), "KIT"));
        let shown: Vec<_> = shown.collect();
        assert!(Cli::try_parse_from(&shown).is_ok(), "{shown:?}");
        Ok(shown)
    }

    #[test]
    fn flags_go_over_environment_over_file() {
        let environment = [("SPEEDTRAP_DEVICE_PORT", "8884"), ("SPEEDTRAP_DEVICE_RATE", "5"), ("HOME", "/root")];
        let layered = layers(KIT, &environment, &["--rate", "7"]).unwrap();
        assert!(layered.contains(&"--port=8884".to_owned()) && !layered.contains(&"--port=443".to_owned()), "{layered:?}");
        assert!(!layered.contains(&"--rate=5".to_owned()), "{layered:?}");
        for expected in ["--root-ca=KIT/ca.pem", "--key=KIT/private.key", "--file=/var/lib/readings.csv", "--client-id=PI-07"] {
            assert!(layered.contains(&expected.to_owned()), "{expected} in {layered:?}");
        }
    }

    #[test]
    fn a_setting_gives_way_to_a_flag_that_excludes_it() {
        let layered = layers(KIT, &[], &["--sensor", "-"]).unwrap();
        assert!(!layered.iter().any(|argument| argument.starts_with("--file")), "{layered:?}");
    }

    #[test]
    fn switches_and_numbers_have_the_types_of_toml() {
        let layered = layers(&format!("{KIT}loop = true\nrate = 2.5\ncount = 3\n"), &[], &[]).unwrap();
        for expected in ["--loop", "--rate=2.5", "--count=3"] {
            assert!(layered.contains(&expected.to_owned()), "{expected} in {layered:?}");
        }
        assert!(!layers(&format!("{KIT}loop = false\n"), &[], &[]).unwrap().contains(&"--loop".to_owned()));
    }

    #[test]
    fn all_faults_are_told_together() {
        let config = "endpiont = \"x\"\nport = 99999\ntopic = \"a/#\"\nloop = \"maybe\"\nroot_ca = [1]\n";
        let environment = [("SPEEDTRAP_DEVICE_TRIGGER", "telepathy"), ("SPEEDTRAP_DEVICE_RATES", "1")];
        let faults = layers(config, &environment, &[]).unwrap_err();
        let named = ["endpiont", "port", "topic", "loop", "root_ca", "TRIGGER", "RATES"];
        assert_eq!(faults.len(), named.len(), "{faults:#?}");
        for name in named {
            assert!(faults.iter().any(|fault| fault.contains(name)), "{name} in {faults:#?}");
        }
        assert!(layers("endpoint = ", &[], &[]).unwrap_err()[0].contains("line 1"));
        let missing = layers("endpoint = \"x\"\n", &[], &["--file", "r.csv"]).unwrap_err();
        assert_eq!(missing.len(), 3, "{missing:?}");
        assert!(missing.iter().all(|fault| fault.ends_with("is missing")), "{missing:?}");
    }

    #[test]
    fn the_file_in_deploy_shows_every_setting_at_its_default() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/device/speedtrap-device.toml")).unwrap();
        let shown = text.lines().filter_map(|line| line.trim_start_matches('#').split_once(" = "));
        let shown: Vec<_> = shown.filter(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
        let command = Cli::command();
        let publish = command.find_subcommand("publish").unwrap();
        let keys: BTreeSet<String> = publish.get_arguments().filter_map(key).collect();
        assert_eq!(shown.iter().map(|(key, _)| (*key).to_owned()).collect::<BTreeSet<_>>(), keys);
        for (name, value) in shown {
            let arg = find(publish, name).unwrap();
            let value = value.trim_matches('"');
            match arg.get_default_values().first() {
                Some(default) if !matches!(arg.get_action(), ArgAction::SetTrue) => assert_eq!(default, value, "{name}"),
                _ => {}
            }
        }
    }
}
