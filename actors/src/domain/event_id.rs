//! The name of one reading: given by the device, or derived from the reading itself.

use std::fmt;

use sha2::{Digest, Sha256};

/// 1 to 64 characters of `[A-Za-z0-9._-]`, unique for each reading however often it is delivered.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Box<str>);

/// The text is no event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("eventId is not 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `-`")]
pub struct EventIdError;

impl EventId {
    /// Checks a given id without copying it.
    ///
    /// # Errors
    /// When its length or a character is not allowed.
    pub fn check(text: &str) -> Result<(), EventIdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) { Ok(()) } else { Err(EventIdError) }
    }

    /// Takes a given id.
    ///
    /// # Errors
    /// When its length or a character is not allowed.
    pub fn parse(text: &str) -> Result<Self, EventIdError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// Derives the id of a reading that carries none: lowercase hex of the first 16 bytes of SHA-256 over its seven values
    /// as received, each written `<byte length>:<value>`. A repeated delivery of the same reading gets the same id.
    #[must_use]
    pub fn derive(values: [&str; 7]) -> Self {
        let mut hash = Sha256::new();
        for value in values {
            hash.update(value.len().to_string());
            hash.update(":");
            hash.update(value);
        }
        Self(hex_of_first_16(&hash.finalize()).into_boxed_str())
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lowercase hex of the first 16 bytes of a hash.
pub(crate) fn hex_of_first_16(hash: &[u8]) -> String {
    use fmt::Write;
    hash.iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_ids_have_1_to_64_allowed_characters() {
        assert!(EventId::parse("RTRPIIOT-k2x9-17").is_ok());
        assert!(EventId::parse(&"a".repeat(64)).is_ok());
        for bad in ["", "a b", "é", "a/b", &"a".repeat(65)] {
            assert_eq!(EventId::parse(bad), Err(EventIdError), "{bad}");
        }
    }

    #[test]
    fn derived_ids_tell_apart_what_plain_joining_would_not() {
        let one = EventId::derive(["a", "bc", "", "", "", "", ""]);
        let other = EventId::derive(["ab", "c", "", "", "", "", ""]);
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 32);
    }
}
