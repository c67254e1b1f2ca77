//! HTTPS by hand, as no client would speak it: with the headers that a test wants, and streams that are read as they come.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(20);

/// An answer whose body has not been read.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    body: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// Asks the server at `url`, whose certificate an authority in `ca` must have signed.
///
/// # Errors
/// When it cannot be reached, cannot be trusted, or speaks no HTTP.
pub fn ask(ca: &Path, url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let authority = url.strip_prefix("https://").context("no https address")?;
    let address: SocketAddr = authority.parse().context("no address")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::from(address.ip()))?;
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    let host = headers.iter().find(|(name, _)| *name == "host").map_or(authority, |(_, host)| host);
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        request += &format!("{name}: {value}\r\n");
    }
    // A server that refuses a long body may close before it has read all of it; what it answers is there nevertheless.
    let _cut_short = stream.write_all(format!("{request}\r\n{body}").as_bytes()).and_then(|()| stream.flush());
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).context("no status line")?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("no status: {line}"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        answer.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    Ok(Answer { status, headers, body: answer })
}

impl Answer {
    /// A header, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(mut self) -> Result<serde_json::Value> {
        let length: usize = self.header("content-length").parse().context("no content-length")?;
        let mut body = vec![0; length];
        self.body.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// The next line of a stream; `None` at its end.
    ///
    /// # Errors
    /// When nothing comes for long.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        match self.body.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line)),
            // A process that ends closes its sockets without a farewell of TLS.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
