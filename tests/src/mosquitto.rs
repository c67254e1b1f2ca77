//! A real mosquitto with mutual TLS, which can be killed and started again.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::deadline::eventually;
use crate::endpoints::Mqtt;
use crate::process::Process;

/// The topic of readings.
pub const TOPIC: &str = "rtr/iot/trafficdata";

/// A broker whose sessions outlive it.
pub struct Mosquitto {
    process: Process,
    pub port: u16,
    folder: PathBuf,
}

impl Mosquitto {
    /// Mints an authority and certificates, and starts it. Call this from the test's own thread.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let authority = authority(folder)?;
        for name in ["broker", "ingest", "device"] {
            issue(&authority, folder, name)?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let at = |name: &str| folder.join(name).display().to_string();
        // What is queued and who subscribed is saved within a second, so that a broker that is killed still knows its clients.
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\nallow_anonymous false\npersistence true\npersistence_location {}/\n\
             autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 0\nuser root\n",
            at("ca.pem"),
            at("broker.pem"),
            at("broker.key"),
            folder.display()
        );
        std::fs::write(folder.join("mosquitto.conf"), config)?;
        let process = Process::start("mosquitto", command(folder), folder)?;
        let mut broker = Self { process, port, folder: folder.to_owned() };
        broker.is_up().await?;
        Ok(broker)
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again at the same port, with what it had saved. Call this from the test's own thread.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn resume(&mut self) -> Result<()> {
        self.process = Process::start("mosquitto", command(&self.folder), &self.folder)?;
        self.is_up().await
    }

    /// A file of its folder, such as `ingest.pem`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// How a device reaches it.
    #[must_use]
    pub fn device(&self, client_id: &str) -> Mqtt {
        let (ca, cert, key) = (self.file("ca.pem"), self.file("device.pem"), self.file("device.key"));
        let (client_id, topic) = (client_id.to_owned(), TOPIC.to_owned());
        Mqtt { host: "localhost".to_owned(), port: self.port, ca, cert, key, client_id, topic }
    }

    async fn is_up(&mut self) -> Result<()> {
        let port = self.port;
        let up = eventually("mosquitto listens", Duration::from_secs(20), || async move {
            TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        });
        let up = up.await;
        self.process.check_running().context("apt-get install mosquitto, if it is missing")?;
        up
    }
}

fn command(folder: &Path) -> Command {
    // Debian keeps it where users do not look.
    let found = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(found.unwrap_or("mosquitto"));
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    command
}

fn authority(folder: &Path) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    Ok(Issuer::new(params, key))
}

fn issue(authority: &Issuer<'static, KeyPair>, folder: &Path, name: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    std::fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, authority)?.pem())?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(folder.join(format!("{name}.key")))?;
    file.write_all(key.serialize_pem().as_bytes())?;
    Ok(())
}
