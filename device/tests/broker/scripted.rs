//! A broker that speaks just enough MQTT over TLS to misbehave in ways that a real one cannot be told to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the broker does on one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// Notes each message, then acknowledges it.
    Honest,
    /// Hangs up before it has said anything.
    HangsUp,
    /// Refuses for now, as a broker that is starting does.
    NotReady,
    /// Says that it remembers the session, and knows nothing of it.
    ClaimsSession,
    /// Takes everything in and never acknowledges.
    NeverAcknowledges,
    /// Waits until nothing more comes, then acknowledges the youngest first.
    YoungestFirst,
    /// Acknowledges all but the message of this number.
    Skips(u32),
    /// Acknowledges everything twice.
    Twice,
    /// Acknowledges what was never sent.
    Unasked,
    /// Hangs up after so many bytes, in the middle of whatever comes.
    CutsAfter(usize),
    /// Notes a message, sends half of its acknowledgement and hangs up.
    HalfAcknowledges,
    /// Answers a message with bytes that are no MQTT.
    Babbles,
}

/// Payloads in the order of their acknowledgement.
pub(crate) type Noted = Arc<Mutex<Vec<Vec<u8>>>>;

/// Serves connections one after the other, each in its manner and all further ones honestly.
pub(crate) fn serve(folder: &Path, listener: TcpListener, manners: Vec<Manner>) -> Noted {
    let noted = Noted::default();
    let config = tls(folder);
    let notes = Arc::clone(&noted);
    std::thread::spawn(move || {
        let mut manners = manners.into_iter();
        for stream in listener.incoming().map_while(Result::ok) {
            let manner = manners.next().unwrap_or(Manner::Honest);
            let note = |payload: &[u8]| notes.lock().unwrap().push(payload.to_vec());
            // Every end of a connection is a fault of the script or the device hanging up.
            if let Ok(mut connection) = Connection::new(&config, stream, manner) {
                drop(connection.run(note));
                connection.end();
            }
        }
    });
    noted
}

/// An honest broker in a process of its own, which can be killed: each message is in a file before it is acknowledged.
pub(crate) struct BrokerProcess {
    folder: PathBuf,
    port: u16,
    child: Child,
}

const FOLDER: &str = "SPEEDTRAP_TEST_BROKER_FOLDER";
const PORT: &str = "SPEEDTRAP_TEST_BROKER_PORT";

impl BrokerProcess {
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        Self { folder: folder.to_owned(), port, child: spawn(folder, port) }
    }

    /// `kill -9`, and a new one at once.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.folder, self.port);
    }

    pub(crate) fn noted(&self) -> Vec<Vec<u8>> {
        let text = std::fs::read(self.folder.join("noted")).unwrap_or_default();
        text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// This test program itself, asked to be the broker.
fn spawn(folder: &Path, port: u16) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_broker_process_when_asked_to_be_one", "--nocapture"]);
    command.env(FOLDER, folder).env(PORT, port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "the broker process did not start");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    child
}

/// Does not return if this process was asked to be a broker.
pub(crate) fn be_a_broker_if_asked() {
    let (Ok(folder), Ok(port)) = (std::env::var(FOLDER), std::env::var(PORT)) else { return };
    let folder = PathBuf::from(folder);
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    let file = OpenOptions::new().create(true).append(true).open(folder.join("noted")).unwrap();
    let config = tls(&folder);
    for stream in listener.incoming().map_while(Result::ok) {
        let (config, file) = (Arc::clone(&config), file.try_clone().unwrap());
        std::thread::spawn(move || {
            let note = |payload: &[u8]| append(&file, payload);
            drop(Connection::new(&config, stream, Manner::Honest).and_then(|mut connection| connection.run(note)));
        });
    }
}

/// One write, so that a kill leaves all of it or nothing.
fn append(mut file: &File, payload: &[u8]) {
    file.write_all(&[payload, b"\n"].concat()).unwrap();
}

fn tls(folder: &Path) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(folder.join("broker.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("broker.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

struct Connection {
    link: StreamOwned<ServerConnection, TcpStream>,
    manner: Manner,
    bytes_left: usize,
    unacknowledged: Vec<(u16, Vec<u8>)>,
    n_messages: u32,
}

impl Connection {
    fn new(config: &Arc<ServerConfig>, stream: TcpStream, manner: Manner) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        if matches!(manner, Manner::YoungestFirst) {
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        }
        let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let bytes_left = if let Manner::CutsAfter(bytes) = manner { bytes } else { usize::MAX };
        Ok(Self { link: StreamOwned::new(session, stream), manner, bytes_left, unacknowledged: Vec::new(), n_messages: 0 })
    }

    fn run(&mut self, mut note: impl FnMut(&[u8])) -> io::Result<()> {
        if matches!(self.manner, Manner::HangsUp) {
            return Ok(());
        }
        loop {
            let (kind, body) = self.packet(&mut note)?;
            match kind >> 4 {
                1 => match self.manner {
                    Manner::NotReady => self.link.write_all(&[0x20, 2, 0, 3])?,
                    Manner::ClaimsSession => self.link.write_all(&[0x20, 2, 1, 0])?,
                    _ => self.link.write_all(&[0x20, 2, 0, 0])?,
                },
                3 => self.publish(kind, &body, &mut note)?,
                12 => self.link.write_all(&[0xD0, 0])?,
                _ => return Ok(()),
            }
        }
    }

    /// Lets what was acknowledged arrive before the link goes: closing with something unread would reset it, which takes answers back.
    fn end(self) {
        let mut socket = self.link.sock;
        let gone = socket.shutdown(Shutdown::Write).and_then(|()| socket.set_read_timeout(Some(Duration::from_millis(50))));
        drop(gone.and_then(|()| io::copy(&mut socket, &mut io::sink())));
    }

    fn publish(&mut self, kind: u8, body: &[u8], note: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        if kind & 0b0110 == 0 {
            return Ok(());
        }
        let id = u16::from_be_bytes([body[topic + 2], body[topic + 3]]);
        let payload = &body[topic + 4..];
        self.n_messages += 1;
        match self.manner {
            Manner::NeverAcknowledges => Ok(()),
            Manner::YoungestFirst => {
                self.unacknowledged.push((id, payload.to_vec()));
                Ok(())
            }
            Manner::Skips(number) if number == self.n_messages => Ok(()),
            Manner::Twice => {
                note(payload);
                self.acknowledge(id)?;
                self.acknowledge(id)
            }
            Manner::Unasked => self.acknowledge(id.wrapping_add(30)),
            Manner::HalfAcknowledges => {
                note(payload);
                self.link.write_all(&[0x40, 2, id.to_be_bytes()[0]])?;
                Err(ErrorKind::ConnectionAborted.into())
            }
            Manner::Babbles => self.link.write_all(&[0xFF; 40]),
            _ => {
                note(payload);
                self.acknowledge(id)
            }
        }
    }

    fn acknowledge(&mut self, id: u16) -> io::Result<()> {
        let [high, low] = id.to_be_bytes();
        self.link.write_all(&[0x40, 2, high, low])
    }

    fn packet(&mut self, note: &mut impl FnMut(&[u8])) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.byte(note)?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.byte(note)?);
            length |= (byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let body = (0..length).map(|_| self.byte(note)).collect::<io::Result<_>>()?;
        Ok((kind, body))
    }

    fn byte(&mut self, note: &mut impl FnMut(&[u8])) -> io::Result<u8> {
        self.bytes_left = self.bytes_left.checked_sub(1).ok_or(ErrorKind::ConnectionAborted)?;
        let mut byte = [0];
        loop {
            match self.link.read_exact(&mut byte) {
                Ok(()) => return Ok(byte[0]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    while let Some((id, payload)) = self.unacknowledged.pop() {
                        note(&payload);
                        self.acknowledge(id)?;
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}
