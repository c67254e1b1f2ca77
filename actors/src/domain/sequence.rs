//! Shards and places in them.

use std::cmp::Ordering;
use std::fmt;

/// The name of a shard of a Kinesis stream or of a DynamoDB stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(Box<str>);

/// A decimal sequence number. Kinesis writes 56 digits, more than a `u128` holds, and emulators fewer, so numbers compare by
/// length and then by digits, never as plain text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SequenceNumber(Box<str>);

/// A place in a shard: a record, and the user record inside it (0 unless records are aggregated).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The record.
    pub sequence: SequenceNumber,
    /// The user record inside it.
    pub sub: u64,
}

/// The text is not a decimal number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a sequence number")]
pub struct SequenceNumberError {
    text: String,
}

impl ShardId {
    /// Takes a name as AWS gave it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SequenceNumber {
    /// Reads a decimal number; leading zeros do not count.
    ///
    /// # Errors
    /// When the text is empty or holds anything but digits.
    pub fn parse(text: &str) -> Result<Self, SequenceNumberError> {
        if text.is_empty() || text.bytes().any(|b| !b.is_ascii_digit()) {
            return Err(SequenceNumberError { text: text.chars().take(64).collect() });
        }
        Ok(Self(text.into()))
    }

    /// The number as AWS wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn digits(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.digits(), other.digits());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b)).then_with(|| self.0.len().cmp(&other.0.len()))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_order_by_value_beyond_u128() {
        let number = |text: &str| SequenceNumber::parse(text).expect("a number");
        assert!(number("41") < number("100"));
        assert!(number("9") < number("49600000000000000000000000000000000000000000000000000000"));
        assert!(
            number("49600000000000000000000000000000000000000000000000000009")
                < number("49600000000000000000000000000000000000000000000000000010")
        );
        assert!(SequenceNumber::parse("TRIM_HORIZON").is_err());
        assert!(SequenceNumber::parse("").is_err());
    }
}
