//! Licence plates: as received for the outputs, as a key for comparison.

use std::fmt;

/// A licence plate exactly as it was received. Its trimmed form has 1 to 64 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LicensePlate(Box<str>);

/// What two plates are compared by: trimmed and upper-cased.
///
/// Upper-casing is Unicode's full mapping (`ß` becomes `SS`), the same on every node.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlateKey(Box<str>);

/// Why a text is no plate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlateError {
    /// Nothing is left after trimming.
    #[error("licensePlate is empty")]
    Empty,
    /// Longer than [`LicensePlate::MAX_BYTES`] after trimming.
    #[error("licensePlate has {bytes} bytes, more than {}", LicensePlate::MAX_BYTES)]
    TooLong {
        /// Bytes after trimming.
        bytes: usize,
    },
}

impl LicensePlate {
    /// Longest plate, in bytes after trimming. Kinesis allows 256 for the partition key made from it
    /// (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html>); real plates have at most 10 characters.
    pub const MAX_BYTES: usize = 64;

    /// Checks the limits of a plate without copying it.
    ///
    /// # Errors
    /// When it is empty or too long after trimming.
    pub fn check(text: &str) -> Result<(), PlateError> {
        match text.trim().len() {
            0 => Err(PlateError::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(PlateError::TooLong { bytes }),
            _ => Ok(()),
        }
    }

    /// Takes a plate as received.
    ///
    /// # Errors
    /// When it is empty or too long after trimming.
    pub fn parse(text: &str) -> Result<Self, PlateError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// The plate as received, blanks and case included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that it is compared by.
    #[must_use]
    pub fn key(&self) -> PlateKey {
        PlateKey::of(&self.0)
    }
}

impl PlateKey {
    /// The key of any plate text, also one read from the warehouse.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(text.trim().to_uppercase().into_boxed_str())
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A plate points at a person, so debug output shows its first three characters only.
impl fmt::Debug for LicensePlate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked(&self.0, f)
    }
}

impl fmt::Debug for PlateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked(&self.0, f)
    }
}

fn masked(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&text.chars().take(3).collect::<String>())?;
    f.write_str("…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_counted_after_trimming_and_in_bytes() {
        assert_eq!(LicensePlate::parse(" \t"), Err(PlateError::Empty));
        assert!(LicensePlate::parse(&format!("  {}  ", "A".repeat(64))).is_ok());
        assert_eq!(LicensePlate::parse(&"A".repeat(65)), Err(PlateError::TooLong { bytes: 65 }));
        assert_eq!(LicensePlate::parse(&"•".repeat(22)), Err(PlateError::TooLong { bytes: 66 }));
    }

    #[test]
    fn keys_compare_trimmed_and_upper_cased_while_the_plate_stays_as_received() {
        let plate = LicensePlate::parse(" 4-2288b ").expect("a plate");
        assert_eq!(plate.as_str(), " 4-2288b ");
        assert_eq!(plate.key(), PlateKey::of("4-2288B"));
        assert_eq!(PlateKey::of("95b•140").as_str(), "95B•140");
    }

    #[test]
    fn debug_output_masks_the_plate() {
        let plate = LicensePlate::parse("4-2288B").expect("a plate");
        assert_eq!(format!("{plate:?}"), "4-2…");
    }
}
