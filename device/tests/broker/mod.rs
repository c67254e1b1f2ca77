//! A real mosquitto with mutual TLS in a private folder, a subscriber that notes what arrived, and the device program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SanType, date_time_ymd,
};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

pub(crate) const TOPIC: &str = "rtr/iot/trafficdata";

const REVOKED_SERIAL: u64 = 77;

/// Payloads by event id, and how often each came.
type Arrived = Arc<Mutex<BTreeMap<String, (Value, u32)>>>;

pub(crate) struct Broker {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    process: Option<Child>,
}

impl Broker {
    /// Mints an authority and certificates for broker, device and subscriber, and starts the broker.
    pub(crate) fn start() -> Self {
        Self::start_as("broker", "")
    }

    /// With another of the certificates as the broker's own, and more lines in its configuration, in which `@` stands for the
    /// broker's folder.
    pub(crate) fn start_as(identity: &str, extra_config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("test authority");
        ca.write(folder.path(), "ca");
        ca.issue(folder.path(), "broker");
        ca.issue(folder.path(), "device");
        ca.issue(folder.path(), "subscriber");
        ca.issue_with(folder.path(), "revoked", |params| params.serial_number = Some(REVOKED_SERIAL.into()));
        ca.write_revocations(folder.path());
        ca.issue_with(folder.path(), "elsewhere", |params| {
            params.subject_alt_names = vec![SanType::DnsName("elsewhere.example".try_into().unwrap())];
        });
        ca.issue_with(folder.path(), "expired", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        ca.issue_with(folder.path(), "future", |params| params.not_before = date_time_ymd(2100, 1, 1));
        Authority::new("foreign authority").issue(folder.path(), "foreign");
        Authority::new("foreign authority").write(folder.path(), "foreign-ca");
        let port = free_port();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\nallow_anonymous false\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nuser root\n{}\n",
            at("ca.pem"),
            at(&format!("{identity}.pem")),
            at(&format!("{identity}.key")),
            folder.path().display(),
            extra_config.replace('@', &folder.path().display().to_string())
        );
        fs::write(folder.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { folder, port, process: None };
        broker.resume();
        broker
    }

    pub(crate) fn resume(&mut self) {
        let program = ["mosquitto", "/usr/sbin/mosquitto"]
            .into_iter()
            .find(|p| Command::new(p).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok());
        let Some(program) = program else {
            panic!("this test needs the MQTT broker mosquitto; install it, on Debian with `apt-get install mosquitto`");
        };
        let log = fs::File::create(self.folder.path().join("mosquitto.log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let limit = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.folder.path().join("mosquitto.log")).unwrap_or_default();
            assert!(Instant::now() < limit, "mosquitto did not start: {log}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// SIGTERM, so that what it has acknowledged is on disk: the subject is the device, not mosquitto's crash safety.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.process.take() else { return };
        signal(&child, "TERM");
        child.wait().unwrap();
    }

    /// SIGKILL: what is not on its disk is gone.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.process.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGSTOP or SIGCONT: connections stay up and nobody answers.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.as_ref().unwrap(), name);
    }

    pub(crate) fn publish(&self, extra: &[&str]) -> Command {
        self.publish_as("device", "ca", extra)
    }

    pub(crate) fn publish_as(&self, identity: &str, ca: &str, extra: &[&str]) -> Command {
        let mut command = self.publish_to(self.port, "outbox", identity, ca);
        command.args(extra);
        command
    }

    /// To any broker that has our certificates, with an outbox of its own.
    pub(crate) fn publish_to(&self, port: u16, outbox: &str, identity: &str, ca: &str) -> Command {
        let at = |name: String| self.folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap-device"));
        command.args(["publish", "--endpoint", "localhost", "--json", "--port"]).arg(port.to_string());
        command.arg("--root-ca").arg(at(format!("{ca}.pem")));
        command.arg("--cert").arg(at(format!("{identity}.pem"))).arg("--key").arg(at(format!("{identity}.key")));
        command.arg("--outbox").arg(at(outbox.to_owned()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn file(&self, name: &str, body: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("licensePlate,longitude,latitude,city,state,speed\n{body}")).unwrap();
        path
    }

    /// What is retained on a topic, if anything.
    pub(crate) fn retained(&self, topic: &str) -> Option<Value> {
        let mut options = MqttOptions::new("onlooker", "localhost", self.port);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(client_tls(self.folder.path(), "subscriber")))));
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe(topic, QoS::AtLeastOnce).unwrap();
        loop {
            // A retained message follows its subscription at once.
            match connection.recv_timeout(Duration::from_millis(500)) {
                Ok(Ok(Event::Incoming(Packet::Publish(publish)))) => return serde_json::from_slice(&publish.payload).ok(),
                Ok(Ok(_)) => {}
                Ok(Err(e)) => panic!("the onlooker lost the broker: {e}"),
                Err(_) => return None,
            }
        }
    }

    /// Subscribes with a session that outlives the broker's restart; returns once the subscription stands.
    pub(crate) fn subscribe(&self) -> Subscriber {
        let mut options = MqttOptions::new("subscriber", "localhost", self.port);
        let tls = client_tls(self.folder.path(), "subscriber");
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls)))).set_clean_session(false);
        options.set_max_packet_size(256 * 1024, 256 * 1024);
        let (client, mut connection) = Client::new(options, 10);
        let again = client.clone();
        let arrived = Arrived::default();
        let noted = Arc::clone(&arrived);
        let (ready, subscribed) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                    // A broker that was killed may have forgotten the subscription.
                    Ok(Event::Incoming(Packet::ConnAck(ack))) => match ack.session_present {
                        true => drop(ready.send(())),
                        false => drop(again.try_subscribe(TOPIC, QoS::AtLeastOnce)),
                    },
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let value: Value = serde_json::from_slice(&publish.payload).unwrap();
                        let id = value["eventId"].as_str().unwrap().to_owned();
                        noted.lock().unwrap().entry(id).or_insert((value, 0)).1 += 1;
                    }
                    Ok(Event::Incoming(Packet::Disconnect) | Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
                    Ok(_) => {}
                    // The broker is away for a moment.
                    Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
                }
            }
        });
        subscribed.recv_timeout(Duration::from_secs(20)).expect("no subscription");
        Subscriber { client, arrived, thread: Some(thread) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) struct Subscriber {
    client: Client,
    arrived: Arrived,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    pub(crate) fn count(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    pub(crate) fn wait_for(&self, n: usize) -> BTreeMap<String, (Value, u32)> {
        let limit = Instant::now() + Duration::from_secs(60);
        while self.count() < n {
            assert!(Instant::now() < limit, "{} of {n} arrived", self.count());
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.arrived.lock().unwrap().clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.client.disconnect().is_ok() {
            drop(self.thread.take().map(JoinHandle::join));
        }
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), &self.pem).unwrap();
    }

    fn write_revocations(&self, folder: &Path) {
        let revoked = RevokedCertParams {
            serial_number: REVOKED_SERIAL.into(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(folder.join("revocations.pem"), list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
    }

    fn issue(&self, folder: &Path, name: &str) {
        self.issue_with(folder, name, |_| {});
    }

    fn issue_with(&self, folder: &Path, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(folder.join(format!("{name}.pem")), cert.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn client_tls(folder: &Path, name: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap()
}

/// Takes every client in, and hangs up as soon as it publishes, as AWS IoT does when the policy forbids it.
pub(crate) fn hang_up_at_publish(folder: &Path, listener: TcpListener) {
    let chain = vec![CertificateDer::from_pem_file(folder.join("broker.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("broker.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut link = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let mut buffer = [0; 1024];
            // CONNECT, answered by a CONNACK that accepts; then whatever comes ends the connection.
            let Ok(1..) = link.read(&mut buffer) else { continue };
            if link.write_all(&[0x20, 0x02, 0x00, 0x00]).is_ok() {
                drop(link.read(&mut buffer));
            }
        }
    });
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < limit, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}

/// Exit code, the JSON on standard output (null if none) and the text on standard error.
pub(crate) fn outcome(output: &Output) -> (Option<i32>, Value, String) {
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), json, said)
}

pub(crate) fn ended(mut child: Child) -> (Option<i32>, Value, String) {
    let status = child.wait().unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    // A test may have sent it to a file.
    if let Some(mut said) = child.stderr.take() {
        said.read_to_end(&mut stderr).unwrap();
    }
    outcome(&Output { status, stdout, stderr })
}
