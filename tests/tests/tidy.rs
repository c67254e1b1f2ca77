//! What keeps the repository in shape, checked over its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::programs::workspace;

const MOST_LINES: usize = 500;
const FOLDERS: [&str; 7] = ["actors", "data", "deploy", "device", "loader", "node", "tests"];
/// Names that say nothing about what is in a file.
const EMPTY_NAMES: [&str; 6] = ["utils.rs", "util.rs", "helpers.rs", "helper.rs", "common.rs", "misc.rs"];

/// All Rust files, with paths relative to the workspace.
fn rust_files() -> Result<BTreeMap<PathBuf, String>> {
    let root = workspace();
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                files.insert(path.strip_prefix(&root)?.to_owned(), text);
            }
        }
    }
    ensure!(files.len() > 100, "only {} files were found", files.len());
    Ok(files)
}

/// The files that break a rule, in one message.
fn none_breaks(rule: &str, breaks: impl Fn(&Path, &str) -> bool) -> Result<()> {
    let files = rust_files()?;
    let found: Vec<_> = files.iter().filter(|(path, text)| breaks(path, text)).map(|(path, _)| path).collect();
    ensure!(found.is_empty(), "{rule}: {found:#?}");
    Ok(())
}

/// Code that only tests see may be as long as its tables.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.components().any(|part| part.as_os_str() == "tests") || name == "tests" || name.ends_with("_tests")
}

fn packages() -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(workspace())
        .output()?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"].as_array().cloned().context("cargo metadata lists packages")
}

#[test]
fn every_file_says_first_what_it_is_for() -> Result<()> {
    none_breaks("these files do not begin with `//! ` and a word", |_, text| {
        !text.strip_prefix("//! ").is_some_and(|rest| rest.starts_with(|first: char| first.is_alphanumeric() || first == '`'))
    })
}

#[test]
fn no_file_is_too_long_to_read() -> Result<()> {
    none_breaks("these files have more than 500 lines", |path, text| !is_test(path) && text.lines().count() > MOST_LINES)
}

#[test]
fn no_file_is_named_after_nothing() -> Result<()> {
    none_breaks("these names say nothing", |path, _| EMPTY_NAMES.iter().any(|name| path.ends_with(name)))
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_to_do() -> Result<()> {
    // Put together, so that this file does not find itself.
    let banned = [["#[ign", "ore"], ["tod", "o!("], ["unimple", "mented!("], ["#[should_", "panic"], ["TO", "DO"], ["FIX", "ME"]];
    let banned = banned.map(|parts| parts.concat());
    none_breaks("these files hold what is banned", |_, text| banned.iter().any(|word| text.contains(word)))
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let allowed: BTreeMap<&str, &[&str]> = [
        ("speedtrap-actors", &[][..]),
        ("speedtrap-data", &[]),
        ("speedtrap-device", &[]),
        ("speedtrap-local", &[]),
        ("speedtrap-loader", &["speedtrap-actors"]),
        ("speedtrap-node", &["speedtrap-actors"]),
        ("speedtrap-sql", &["speedtrap-actors", "speedtrap-node"]),
        ("speedtrap-tests", &["speedtrap-actors", "speedtrap-loader", "speedtrap-node"]),
    ]
    .into();
    let packages = packages()?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    ensure!(names == allowed.keys().copied().collect(), "the workspace has other packages: {names:?}");
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let dependencies: Vec<_> = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        for dependency in &dependencies {
            // A package may depend on itself to switch on a feature for its own tests.
            let is_ours = dependency.starts_with("speedtrap-") && *dependency != name;
            ensure!(!is_ours || allowed[name].contains(dependency), "{name} must not depend on {dependency}");
            ensure!(name == "speedtrap-sql" || *dependency != "datafusion", "{name} must stay small: no {dependency}");
            let is_aws = dependency.starts_with("aws-");
            let may_not = ["speedtrap-device", "speedtrap-local", "speedtrap-data"].contains(&name);
            ensure!(!(is_aws && may_not), "{name} must not depend on {dependency}");
        }
    }
    Ok(())
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() -> Result<()> {
    for package in packages()? {
        let manifest = PathBuf::from(package["manifest_path"].as_str().context("a package has a manifest")?);
        let text = std::fs::read_to_string(&manifest)?;
        let inherits = text.contains("[lints]\nworkspace = true");
        ensure!(inherits, "`{}` does not inherit the workspace's lints", manifest.display());
        ensure!(package["publish"].as_array().is_some_and(Vec::is_empty), "`{}` could be published", manifest.display());
    }
    Ok(())
}

#[test]
fn the_top_holds_the_rooms_and_no_other_folder() -> Result<()> {
    // Asked of git, since whoever works here has folders of his own.
    let output = Command::new("git").args(["ls-tree", "-d", "--name-only", "HEAD"]).current_dir(workspace()).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        // An archive without history has nothing to ask.
        return Ok(());
    };
    let found = String::from_utf8(output.stdout)?;
    let found: BTreeSet<&str> = found.lines().filter(|name| !name.starts_with('.')).collect();
    ensure!(found == FOLDERS.into(), "the top holds {found:?}");
    Ok(())
}

/// The names that users and operators know; a rename must be meant.
#[test]
fn names_that_others_rely_on_stand_in_template_and_configuration() -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(workspace().join(name)).with_context(|| format!("failed to read {name}"));
    let (template, config) = (read("deploy/aws/speedtrap.yaml")?, read("deploy/speedtrap.toml")?);
    let both = [
        "rtr-iot-kinesis-stream",
        "rtr-iot-kinesis-out-stream",
        "rtr-iot-kinesis-error-stream",
        "rtr-iot-speeding",
        "rtr-iot-alerts",
        "rtr-iot-dead-letters",
        "rtr-iot-dynamodb-stream",
        "rtr-iot/warehouse",
    ];
    for name in both {
        ensure!(template.contains(name) && config.contains(name), "`{name}` is missing in the template or in speedtrap.toml");
    }
    let template_only =
        ["rtr_iot_trafficdata", "rtr/iot/trafficdata", "RTRPIIOT", "rtr-iot-drivers", "rtr-iot-archive-", "rtr-iot-operators"];
    for name in template_only {
        ensure!(template.contains(name), "`{name}` is missing in the template");
    }
    for name in ["IotFastCarSensor", "rtr-iot-notify", "rtr-iot-archive", "rtr-iot-errors"] {
        ensure!(config.contains(&format!("\"{name}\"")), "`{name}` is missing in speedtrap.toml");
    }
    Ok(())
}

fn duration_s(text: &str) -> Result<u64> {
    text.trim_matches('"').trim_end_matches('s').parse().with_context(|| format!("`{text}` is no number of seconds"))
}

/// The value of a key that stands in a file once, as `key=value` or `key = value`.
fn value_of<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    let values: Vec<_> = values.map(str::trim).collect();
    ensure!(values.len() == 1, "`{key}` stands {} times", values.len());
    Ok(values[0])
}

#[test]
fn service_and_image_agree_with_the_program() -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(workspace().join(name)).with_context(|| format!("failed to read {name}"));
    let (service, image, config) =
        (read("deploy/systemd/speedtrap.service")?, read("deploy/docker/Dockerfile")?, read("deploy/speedtrap.toml")?);
    let drain = config.split_once("[drain]").context("there is a section [drain]")?.1;
    let drain = duration_s(value_of(drain.split("\n[").next().unwrap_or_default(), "timeout")?)?;
    let stop = duration_s(value_of(&service, "TimeoutStopSec")?)?;
    ensure!(stop > drain, "systemd kills after {stop} s, before drain.timeout ({drain} s) is over");
    ensure!(image.contains(&format!("--stop-timeout {stop}")), "the image's header gives another time to stop");
    ensure!(value_of(&service, "KillSignal")? == "SIGTERM" && image.contains("\nSTOPSIGNAL SIGTERM\n"));
    // Usage, refused, bad configuration: the codes of node/src/exit.rs that no restart mends.
    ensure!(value_of(&service, "RestartPreventExitStatus")? == "2 5 78" && value_of(&service, "Restart")? == "on-failure");
    ensure!(service.contains("run --config /etc/speedtrap/speedtrap.toml --name"));
    ensure!(image.contains(r#""run", "--config", "/etc/speedtrap/speedtrap.toml""#));
    let users: Vec<_> = image.lines().filter_map(|line| line.strip_prefix("USER ")).collect();
    ensure!(users == ["10001:10001"], "the image runs as {users:?}");
    for base in image.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        let tag = base.split_whitespace().next().and_then(|name| name.rsplit_once(':')).map(|(_, tag)| tag);
        ensure!(tag.is_some_and(|tag| tag.contains('.')), "`{base}` is not pinned to a version");
    }
    // Each variable that the files name is a key of the configuration.
    for word in service.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).chain(image.split([' ', '\n'])) {
        let Some((section, key)) = word.strip_prefix("SPEEDTRAP_").and_then(|word| word.split_once("__")) else { continue };
        let section =
            config.split_once(&format!("[{}]", section.to_lowercase())).with_context(|| format!("no section for {word}"))?.1;
        let key = format!("{} =", key.to_lowercase());
        ensure!(section.split("\n[").next().is_some_and(|section| section.contains(&key)), "{word} is no key");
    }
    Ok(())
}
