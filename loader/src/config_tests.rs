//! Where values come from, and what is said about wrong ones.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loader.toml");
    std::fs::write(&file, "max_restarts = 1\n[firehose]\nstream = \"mine\"\nrecord_bytes = \"300KiB\"\n[s3]\npoll = \"2s\"\n")
        .unwrap();
    let pairs = [
        ("SPEEDTRAP_LOADER_ACCOUNT", "000000000042"),
        ("SPEEDTRAP_LOADER_FIREHOSE__STREAM", "other"),
        ("SPEEDTRAP_LOADER_FIREHOSE__IN_FLIGHT", "4"),
        ("SPEEDTRAP_LOADER_WAREHOUSE__URL", "postgresql://u:p@h/d"),
        ("UNRELATED", "x"),
    ];
    let config = LoaderConfig::read(Some(&file), environment(&pairs)).unwrap();
    assert_eq!((config.firehose.stream.as_str(), config.firehose.in_flight, config.max_restarts), ("other", 4, 1));
    assert_eq!((config.firehose.record_bytes, config.s3.poll), (ByteSize::kib(300), Duration::from_secs(2)));
    assert_eq!(config.bucket(), "rtr-iot-drivers-000000000042");
    config.validate(&AwsEnvironment::default()).unwrap();
}

#[test]
fn unknown_keys_and_wrong_types_are_named_without_their_values() {
    let said = |pairs: &[(&str, &str)]| LoaderConfig::read(None, environment(pairs)).unwrap_err().to_string();
    assert!(said(&[("SPEEDTRAP_LOADER_FIREHOSE__STREEM", "x")]).contains("streem"));
    let said = said(&[("SPEEDTRAP_LOADER_WAREHOUSE__URL", "{hunter2=1}")]);
    assert!(said.contains("warehouse.url") && !said.contains("hunter2"), "{said}");
}

#[test]
fn all_faults_are_reported_together() {
    let mut config =
        LoaderConfig { account: "12".into(), node_urls: vec!["node:1".into()], max_restarts: 101, ..LoaderConfig::default() };
    config.firehose.record_bytes = ByteSize::mib(2);
    config.firehose.in_flight = 0;
    config.s3.poll = Duration::ZERO;
    let empty = AwsEnvironment { endpoint_url: Some(String::new()) };
    let Err(ConfigError::Faults { faults }) = config.validate(&empty) else { panic!("faults") };
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key).collect();
    let expected = [
        "account",
        "max_restarts",
        "node_urls",
        "firehose.record_bytes",
        "firehose.in_flight",
        "s3.poll",
        "warehouse.url",
        "environment AWS_ENDPOINT_URL",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn the_sample_file_holds_the_defaults() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("speedtrap-loader.toml");
    assert_eq!(LoaderConfig::read(Some(&sample), environment(&[])).unwrap(), LoaderConfig::default());
}

#[test]
fn debug_output_hides_the_password() {
    let mut config = LoaderConfig::default();
    config.warehouse.url = Some("postgresql://u:hunter2@h/d".into());
    assert!(!format!("{config:?}").contains("hunter2"));
}
