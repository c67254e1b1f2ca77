//! Messages of PostgreSQL's protocol, as far as the stand-in must understand them
//! (<https://www.postgresql.org/docs/15/protocol-message-formats.html>).

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Far above what a loader sends; a length beyond it is no message.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn new(tag: u8, body: Vec<u8>) -> Self {
        Self { tag, body }
    }

    /// A simple query.
    pub(super) fn query(sql: &str) -> Self {
        Self::new(b'Q', c_string(sql))
    }

    /// An unnamed statement without parameters.
    pub(super) fn parse(sql: &str) -> Self {
        let mut body = c_string("");
        body.extend(c_string(sql));
        body.extend([0, 0]);
        Self::new(b'P', body)
    }

    /// An error with its code; `detail` may be empty.
    pub(super) fn error(code: &str, message: &str, detail: &str) -> Self {
        let mut body = Vec::new();
        for (field, text) in [(b'S', "ERROR"), (b'C', code), (b'M', message), (b'D', detail)] {
            if !text.is_empty() {
                body.push(field);
                body.extend(c_string(text));
            }
        }
        body.push(0);
        Self::new(b'E', body)
    }

    /// What a statement did.
    pub(super) fn command_complete(tag: &str) -> Self {
        Self::new(b'C', c_string(tag))
    }

    /// Reads the next message; `None` once the other side is gone.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let tag = from.read_u8().await.ok()?;
        let body = read_body(from).await.ok()?;
        Some(Self { tag, body })
    }

    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        let mut bytes = Vec::with_capacity(self.body.len() + 5);
        bytes.push(self.tag);
        bytes.extend(length(&self.body));
        bytes.extend(&self.body);
        Ok(to.write_all(&bytes).await?)
    }

    /// The text of an error's field.
    pub(super) fn field(&self, wanted: u8) -> Option<String> {
        let mut rest = self.body.as_slice();
        while let Some((&field, text)) = rest.split_first() {
            let (text, behind) = split_c_string(text)?;
            if field == wanted {
                return Some(text);
            }
            rest = behind;
        }
        None
    }

    /// The columns of a row in text form.
    pub(super) fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        let mut rest = self.body.get(2..).unwrap_or_default();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let (value, behind) = behind.split_at(length.min(behind.len()));
            columns.push(String::from_utf8_lossy(value).into_owned());
            rest = behind;
        }
        columns
    }
}

/// The first message of a connection, which has no tag.
pub(super) async fn read_startup(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    read_body(from).await
}

pub(super) async fn write_startup(to: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> Result<()> {
    to.write_all(&length(body)).await?;
    Ok(to.write_all(body).await?)
}

/// Text and what stands behind it.
pub(super) fn split_c_string(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 1..]))
}

pub(super) fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).expect("messages are short").to_be_bytes()
}

async fn read_body(from: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await?)?.checked_sub(4).context("a message is shorter than its length")?;
    ensure!(length <= MOST_BYTES, "a message of {length} bytes");
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Ok(body)
}
