//! The file of tokens: who may ask the API, and for what. It holds digests only, one JSON object a line, and is read again when it
//! changes, so that a revoked token is refused a second later.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::api::Role;

/// How often the file is looked at while somebody asks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest file: about 5,000 tokens, of which each is compared with what a request brings.
const MOST_BYTES: u64 = 1 << 20;
/// What every token begins with, so that those who search for leaked secrets know one when they see it.
const PREFIX: &str = "speedtrap_";

/// One token, as the file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenEntry {
    /// Whose it is; what the audit log calls them.
    pub(crate) name: String,
    /// What it is good for.
    pub(crate) role: Role,
    /// SHA-256 of the token. A token has 256 random bits, so nothing slower is needed to keep it from being guessed.
    sha256: Fingerprint,
    /// When it was made.
    pub(crate) created: String,
}

/// SHA-256 of a token, in hex where it is written.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Fingerprint([u8; 32]);

/// All tokens that are good.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tokens(Vec<TokenEntry>);

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenFault {
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

/// The file while a node runs.
pub(crate) struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    looked: Instant,
    stamp: Option<Stamp>,
    tokens: Result<Arc<Tokens>, TokenFault>,
}

/// What changes with the contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
    mode: u32,
}

impl TokenEntry {
    /// What the token is told apart by.
    pub(crate) const fn fingerprint(&self) -> Fingerprint {
        self.sha256
    }
}

impl Fingerprint {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl Tokens {
    /// Reads a file that nobody but its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or a line is no token.
    pub(crate) fn read(path: &Path) -> Result<Self, TokenFault> {
        read_stamped(path).map(|(tokens, _)| tokens)
    }

    /// Whose a token is. Takes as long for a wrong one as for a right one.
    pub(crate) fn find(&self, token: &str) -> Option<&TokenEntry> {
        self.of(Fingerprint::of(token))
    }

    /// The entry of a token that was found before, if it is still good.
    pub(crate) fn of(&self, fingerprint: Fingerprint) -> Option<&TokenEntry> {
        let same = |entry: &&TokenEntry| bool::from(entry.sha256.0.ct_eq(&fingerprint.0));
        // Every entry is compared: where a match stands must not show in the time.
        self.0.iter().filter(same).fold(None, |_, entry| Some(entry))
    }

    /// All of them, in the file's order.
    pub(crate) fn entries(&self) -> &[TokenEntry] {
        &self.0
    }
}

impl TokenFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// See [`Tokens::read`].
    pub(crate) fn open(path: &Path) -> Result<Self, TokenFault> {
        let (tokens, stamp) = read_stamped(path)?;
        let known = Known { looked: Instant::now(), stamp: Some(stamp), tokens: Ok(Arc::new(tokens)) };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// The tokens as the file has them now. While it cannot be read nobody is let in: what was revoked must not come back.
    ///
    /// # Errors
    /// See [`Tokens::read`].
    pub(crate) fn current(&self) -> Result<Arc<Tokens>, TokenFault> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK_EVERY {
            known.looked = Instant::now();
            let stamp = std::fs::metadata(&self.path).ok().map(|meta| Stamp::of(&meta));
            if stamp.is_none() || stamp != known.stamp {
                let (tokens, stamp) = match read_stamped(&self.path) {
                    Ok((tokens, stamp)) => (Ok(Arc::new(tokens)), Some(stamp)),
                    Err(fault) => (Err(fault), None),
                };
                if tokens != known.tokens {
                    log_change(&tokens);
                }
                *known = Known { looked: known.looked, stamp, tokens };
            }
        }
        known.tokens.clone()
    }
}

fn log_change(tokens: &Result<Arc<Tokens>, TokenFault>) {
    match tokens {
        Ok(tokens) => tracing::info!(tokens = tokens.0.len(), "the file of tokens was read again"),
        Err(fault) => tracing::error!(%fault, "nobody is let in until the file of tokens can be read"),
    }
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self { modified: meta.modified().ok(), bytes: meta.len(), inode: meta.ino(), mode: meta.permissions().mode() }
    }
}

fn read_stamped(path: &Path) -> Result<(Tokens, Stamp), TokenFault> {
    let fault = |what: String| TokenFault { file: path.to_owned(), what };
    let mut file = File::open(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let meta = file.metadata().map_err(|error| fault(format!("cannot be read: {error}")))?;
    let mode = meta.permissions().mode() & 0o777;
    if !meta.is_file() {
        return Err(fault("is no file".to_owned()));
    }
    if mode & 0o077 != 0 {
        return Err(fault(format!("has mode {mode:04o}, so others may read it or write to it; `chmod 600` it")));
    }
    if meta.len() > MOST_BYTES {
        return Err(fault(format!("is longer than {MOST_BYTES} bytes")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let mut tokens = Tokens::default();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // What serde says may quote the line, and somebody may have put a token there.
        let entry: TokenEntry = serde_json::from_str(line).map_err(|_| {
            fault(format!("line {} is no token; `speedtrap token new` writes them: name, role, sha256, created", n + 1))
        })?;
        if tokens.0.iter().any(|other| other.name == entry.name) {
            return Err(fault(format!("line {}: there are two tokens of the name `{}`", n + 1, entry.name)));
        }
        tokens.0.push(entry);
    }
    Ok((tokens, Stamp::of(&meta)))
}

/// Makes a token and keeps its digest; the file is made if there is none. The token itself is nowhere but in the answer.
///
/// # Errors
/// When the file cannot be read or written; `AlreadyExists` if there is a token of that name.
pub(crate) fn add(path: &Path, name: &str, role: Role) -> io::Result<String> {
    let _alone = lock(path)?;
    let mut entries = entries_of(path)?;
    if entries.iter().any(|entry| entry.name == name) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a token of the name `{name}`")));
    }
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let created = format!("{:.0}", jiff::Timestamp::now());
    entries.push(TokenEntry { name: name.to_owned(), role, sha256: Fingerprint::of(&token), created });
    replace(path, &entries)?;
    Ok(token)
}

/// Takes a token out of the file.
///
/// # Errors
/// When the file cannot be read or written; `NotFound` if there is no token of that name.
pub(crate) fn revoke(path: &Path, name: &str) -> io::Result<()> {
    let _alone = lock(path)?;
    let mut entries = entries_of(path)?;
    let before = entries.len();
    entries.retain(|entry| entry.name != name);
    if entries.len() == before {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no token of the name `{name}`")));
    }
    replace(path, &entries)
}

/// Keeps others from changing the file, which is replaced as a whole, at the same time: what one revokes, another must not bring
/// back.
fn lock(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

fn entries_of(path: &Path) -> io::Result<Vec<TokenEntry>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    Tokens::read(path).map(|tokens| tokens.0).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault.to_string()))
}

/// Puts a new file in the old one's place, so that no reader meets half of it.
fn replace(path: &Path, entries: &[TokenEntry]) -> io::Result<()> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    // One that a crash left behind may have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
    for entry in entries {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
    }
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.file.display(), self.what)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0.iter().fold(Self::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return Err("no SHA-256 in hex");
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).map_err(|_| "no SHA-256 in hex")?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tokens: &Tokens) -> Vec<(&str, Role)> {
        tokens.entries().iter().map(|entry| (entry.name.as_str(), entry.role)).collect()
    }

    #[test]
    fn a_token_is_found_until_it_is_revoked_and_stands_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let reads = add(&path, "reader", Role::Viewer).expect("made");
        let acts = add(&path, "desk", Role::Operator).expect("made");
        assert_eq!(add(&path, "desk", Role::Admin).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        let tokens = Tokens::read(&path).expect("readable");
        assert_eq!(names(&tokens), [("reader", Role::Viewer), ("desk", Role::Operator)]);
        assert_eq!(tokens.find(&reads).map(|entry| entry.role), Some(Role::Viewer));
        for wrong in ["", "speedtrap_", &acts[..acts.len() - 1], &format!("{acts} ")] {
            assert_eq!(tokens.find(wrong), None, "{wrong}");
        }
        let kept = std::fs::read_to_string(&path).expect("readable");
        let secret = reads.strip_prefix(PREFIX).expect("the prefix");
        assert!(secret.len() == 43 && !kept.contains(secret) && !format!("{tokens:?}").contains(&kept[60..90]), "{kept}");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        revoke(&path, "reader").expect("revoked");
        assert_eq!(revoke(&path, "reader").expect_err("gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(names(&Tokens::read(&path).expect("readable")), [("desk", Role::Operator)]);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_others_may_read_or_that_holds_something_else_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        assert!(Tokens::read(&path).expect_err("absent").what.contains("cannot be read"));
        add(&path, "desk", Role::Admin).expect("made");
        for mode in [0o640, 0o604, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
            assert!(Tokens::read(&path).expect_err("too open").what.contains("chmod 600"), "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        let good = std::fs::read_to_string(&path).expect("readable");
        for (text, word) in [
            (format!("{good}speedtrap_a-secret\n"), "line 2"),
            (format!("{good}{good}"), "two tokens of the name `desk`"),
            (good.replace("admin", "root"), "line 1"),
            (good.replace("\"sha256\":\"", "\"sha256\":\"zz"), "line 1"),
        ] {
            std::fs::write(&path, text).expect("written");
            let fault = Tokens::read(&path).expect_err("a fault").to_string();
            assert!(fault.contains(word) && !fault.contains("a-secret"), "{fault}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_within_a_second_and_an_unreadable_file_lets_nobody_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let first = add(&path, "first", Role::Admin).expect("made");
        let file = TokenFile::open(&path).expect("opened");
        let second = add(&path, "second", Role::Viewer).expect("made");
        assert!(file.current().expect("readable").find(&second).is_none(), "it looks once a second");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(file.current().expect("readable").find(&second).is_some());
        revoke(&path, "first").expect("revoked");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(file.current().expect("readable").find(&first).is_none());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(file.current().is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(file.current().expect("mended").find(&second).is_some());
        std::fs::remove_file(&path).expect("removed");
        tokio::time::advance(LOOK_EVERY).await;
        assert!(file.current().is_err());
    }
}
