//! Devices that an operator registers: their kit connects them and nobody else, until they are revoked.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use speedtrap_tests::commands::{Ended, device, run};
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::endpoints::Endpoints;
use speedtrap_tests::process::Process;
use speedtrap_tests::programs;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::streams::{IN_STREAM, all_records};

/// The operator's command, called in a folder.
async fn operator(sandbox: &Sandbox, folder: &Path, arguments: &[&str]) -> Result<Ended> {
    let mut command = programs::command("speedtrap")?;
    sandbox.endpoints.aws_environment(&mut command);
    command.arg("device").args(arguments).current_dir(folder);
    run(command).await
}

/// What a device does with a kit: the settings in it, and files beside them.
fn with_kit(endpoints: &Endpoints, kit: &Path) -> Result<Endpoints> {
    let text = fs::read_to_string(kit.join("speedtrap-device.toml"))?;
    let settings: BTreeMap<&str, &str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(" = ").map(|(key, value)| (key, value.trim_matches('"'))).context("no setting"))
        .collect::<Result<_>>()?;
    let get = |key: &str| settings.get(key).copied().with_context(|| format!("no `{key}` in {text}"));
    let mut endpoints = endpoints.clone();
    let mqtt = &mut endpoints.mqtt;
    (mqtt.host, mqtt.port) = (get("endpoint")?.to_owned(), get("port")?.parse()?);
    (mqtt.client_id, mqtt.topic) = (get("client_id")?.to_owned(), get("topic")?.to_owned());
    (mqtt.ca, mqtt.cert, mqtt.key) = (kit.join(get("root_ca")?), kit.join(get("cert")?), kit.join(get("key")?));
    Ok(endpoints)
}

/// The end of a device that publishes some readings.
async fn publish(endpoints: &Endpoints, count: u32) -> Result<Ended> {
    let mut command = device(endpoints, &programs::workspace().join("data/samples/readings.csv"))?;
    command.args(["--count", &count.to_string(), "--connect-timeout", "3"]);
    run(command).await
}

/// The ids of all events on the in-stream that a device made.
async fn arrived_from(sandbox: &Sandbox, device: &str) -> Result<usize> {
    let mut count = 0;
    for record in all_records(&sandbox.clients.kinesis, IN_STREAM).await? {
        let event: Value = serde_json::from_slice(record.data.as_ref())?;
        count += usize::from(event["deviceId"] == device);
    }
    Ok(count)
}

fn refused_for_its_certificate(ended: &Ended) -> Result<()> {
    ensure!(ended.code == Some(78), "not 78: {ended:?}");
    ensure!(ended.err.contains("refused this device's certificate"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_registered_device_connects_until_it_is_revoked() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let here = tempfile::tempdir()?;
    let said = operator(&sandbox, here.path(), &["register", "PI-01", "--json"]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let said = said.json()?;
    let kit = PathBuf::from(said["folder"].as_str().context("the kit has a folder")?);
    ensure!(kit == here.path().canonicalize()?.join("PI-01") && said["client_id"] == "PI-01", "{said}");
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    ensure!(mode(&kit)? == 0o700 && mode(&kit.join("private.key"))? == 0o600);

    let first = with_kit(&sandbox.endpoints, &kit)?;
    let ended = publish(&first, 20).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    eventually("its readings are on the in-stream", Duration::from_secs(20), || async {
        let arrived = arrived_from(&sandbox, "PI-01").await?;
        ensure!(arrived == 20, "{arrived} of 20");
        Ok(())
    })
    .await?;

    // The same again changes nothing; a second kit for the same name is refused.
    let key = fs::read(kit.join("private.key"))?;
    let again = operator(&sandbox, here.path(), &["register", "PI-01"]).await?;
    ensure!(again.code == Some(0) && again.out.contains("registered already"), "{again:?}");
    ensure!(fs::read(kit.join("private.key"))? == key);
    let elsewhere = operator(&sandbox, here.path(), &["register", "PI-01", "--out", "other"]).await?;
    ensure!(elsewhere.code == Some(5) && elsewhere.err.contains("revoke PI-01"), "{elsewhere:?}");
    ensure!(!here.path().join("other").exists());

    // A kit is good for its own name and its own topics alone.
    let said = operator(&sandbox, here.path(), &["register", "PI-02", "--out", "second"]).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let second = with_kit(&sandbox.endpoints, &here.path().join("second"))?;
    let mut posing = second.clone();
    posing.mqtt.client_id = "PI-01".to_owned();
    let ended = publish(&posing, 1).await?;
    ensure!(ended.code == Some(69) && ended.err.contains("nothing was sent"), "{ended:?}");
    let mut straying = device(&second, &programs::workspace().join("data/samples/readings.csv"))?;
    straying.args(["--topic", "rtr/iot/status/PI-01", "--count", "1", "--connect-timeout", "3", "--stall-timeout", "3"]);
    let ended = run(straying).await?;
    ensure!(ended.code != Some(0), "{ended:?}");

    let listed = operator(&sandbox, here.path(), &["list", "--json"]).await?.json()?;
    let names: Vec<_> = listed["devices"].as_array().into_iter().flatten().map(|row| (&row["name"], &row["status"])).collect();
    ensure!(
        names
            == ["PI-01", "PI-02", "RTRPIIOT"]
                .map(|name| (Value::from(name), Value::from("ACTIVE")))
                .iter()
                .map(|(n, s)| (n, s))
                .collect::<Vec<_>>(),
        "{listed}"
    );

    // Revoking ends the connection that is open, and the device says why it cannot connect again.
    let mut slow = device(&first, &programs::workspace().join("data/samples/readings.csv"))?;
    slow.args(["--rate", "10", "--verbose"]);
    let mut slow = Process::start("slow-device", slow, here.path())?;
    eventually("the slow device publishes", Duration::from_secs(20), || async {
        ensure!(arrived_from(&sandbox, "PI-01").await? > 20, "nothing yet");
        Ok(())
    })
    .await?;
    let revoked = operator(&sandbox, here.path(), &["revoke", "PI-01"]).await?;
    ensure!(revoked.code == Some(0), "{revoked:?}");
    let status = slow.ended(Duration::from_secs(30)).await?;
    ensure!(status.code() == Some(78), "{status}\n{}", slow.log_tail());
    ensure!(slow.log().contains("refused this device's certificate"), "{}", slow.log_tail());
    refused_for_its_certificate(&publish(&first, 1).await?)?;
    ensure!(publish(&second, 1).await?.code == Some(0), "the other device is not concerned");

    let gone = operator(&sandbox, here.path(), &["revoke", "PI-01"]).await?;
    ensure!(gone.code == Some(4) && gone.err.contains("PI-01"), "{gone:?}");
    let in_the_way = operator(&sandbox, here.path(), &["register", "PI-01"]).await?;
    ensure!(in_the_way.code == Some(5) && in_the_way.err.contains("nothing is written over"), "{in_the_way:?}");
    let anew = operator(&sandbox, here.path(), &["register", "PI-01", "--out", "anew"]).await?;
    ensure!(anew.code == Some(0), "{anew:?}");
    ensure!(publish(&with_kit(&sandbox.endpoints, &here.path().join("anew"))?, 1).await?.code == Some(0));
    refused_for_its_certificate(&publish(&first, 1).await?)?;
    sandbox.end().await
}

#[tokio::test]
async fn only_certificates_that_are_registered_and_active_are_let_in() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let here = tempfile::tempdir()?;
    let iot = &sandbox.clients.iot;
    let with = |cert: &str, key: &str| {
        let (cert_file, key_file) = (here.path().join("cert.pem"), here.path().join("cert.key"));
        fs::write(&cert_file, cert)?;
        fs::write(&key_file, key)?;
        let mut endpoints = sandbox.endpoints.clone();
        (endpoints.mqtt.cert, endpoints.mqtt.key) = (cert_file, key_file);
        anyhow::Ok(endpoints)
    };
    let stranger = rcgen::generate_simple_self_signed(["RTRPIIOT".to_owned()])?;
    let endpoints = with(&stranger.cert.pem(), &stranger.signing_key.serialize_pem())?;
    refused_for_its_certificate(&publish(&endpoints, 1).await?)?;

    // Signed by the cloud's own authority, and not active.
    let made = iot.create_keys_and_certificate().set_as_active(false).send().await?;
    let (id, key) = (made.certificate_id().context("an id")?, made.key_pair().and_then(|pair| pair.private_key()));
    let endpoints = with(made.certificate_pem().context("a certificate")?, key.context("a key")?)?;
    refused_for_its_certificate(&publish(&endpoints, 1).await?)?;
    iot.attach_policy().policy_name("rtr-iot-device").target(made.certificate_arn().context("an ARN")?).send().await?;
    for (status, lets_in) in [("ACTIVE", true), ("REVOKED", false), ("ACTIVE", true), ("INACTIVE", false)] {
        iot.update_certificate().certificate_id(id).new_status(status.into()).send().await?;
        let ended = publish(&endpoints, 1).await?;
        if lets_in {
            ensure!(ended.code == Some(0), "{status}: {ended:?}");
        } else {
            refused_for_its_certificate(&ended).context(status)?;
        }
    }
    sandbox.end().await
}

#[tokio::test]
async fn a_registration_that_was_cut_off_is_finished_or_cleared() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let here = tempfile::tempdir()?;
    let iot = &sandbox.clients.iot;
    let certificates = async || anyhow::Ok(iot.list_certificates().send().await?.certificates().len());
    let before = certificates().await?;

    // Cut off before the certificate became active: the kit is there, and waits.
    let said = operator(&sandbox, here.path(), &["register", "PI-01", "--json"]).await?.json()?;
    let id = said["certificate_id"].as_str().context("an id")?;
    iot.update_certificate().certificate_id(id).new_status("INACTIVE".into()).send().await?;
    let kit = with_kit(&sandbox.endpoints, &here.path().join("PI-01"))?;
    refused_for_its_certificate(&publish(&kit, 1).await?)?;
    let again = operator(&sandbox, here.path(), &["register", "PI-01"]).await?;
    ensure!(again.code == Some(0), "{again:?}");
    ensure!(publish(&kit, 1).await?.code == Some(0));

    // Cut off before the kit was there: nobody has the key of that certificate, so it goes.
    iot.update_certificate().certificate_id(id).new_status("INACTIVE".into()).send().await?;
    let unfinished = here.path().join("PI-01.unfinished");
    fs::create_dir(&unfinished)?;
    fs::rename(here.path().join("PI-01/private.key"), unfinished.join("private.key"))?;
    fs::remove_dir_all(here.path().join("PI-01"))?;
    let anew = operator(&sandbox, here.path(), &["register", "PI-01"]).await?;
    ensure!(anew.code == Some(0) && anew.err.contains(id), "{anew:?}");
    ensure!(publish(&with_kit(&sandbox.endpoints, &here.path().join("PI-01"))?, 1).await?.code == Some(0));
    ensure!(!unfinished.exists() && certificates().await? == before + 1);

    // Where nothing can be written, nothing is made.
    let nowhere = operator(&sandbox, here.path(), &["register", "PI-02", "--out", "absent/PI-02"]).await?;
    ensure!(nowhere.code == Some(1) && nowhere.err.contains("absent/PI-02") && nowhere.err.contains("next:"), "{nowhere:?}");
    ensure!(certificates().await? == before + 1);
    let unknown = operator(&sandbox, here.path(), &["revoke", "PI-02"]).await?;
    ensure!(unknown.code == Some(4), "{unknown:?}");
    let bad_name = operator(&sandbox, here.path(), &["register", "a/b"]).await?;
    ensure!(bad_name.code == Some(2), "{bad_name:?}");
    sandbox.end().await
}
