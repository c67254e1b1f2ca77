//! Speeds in miles an hour, read from the text of a reading without ever passing through a float.

use std::fmt;

/// A speed of 0 to 999 mph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpeedMph(u16);

/// The text is no speed: it must be 1 to 3 digits after leading zeros, optionally followed by `.0…`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("speed `{text}` is not a whole number of 0 to 999")]
pub struct SpeedError {
    /// The first 32 characters of what was found.
    pub text: String,
}

impl SpeedMph {
    /// Reads a speed from text: `076`, ` 76` and `76.0` are 76; `75.9`, `-1`, `+76` and `1e2` are none.
    ///
    /// # Errors
    /// When the text has any other form.
    pub fn parse(text: &str) -> Result<Self, SpeedError> {
        read(text.trim()).map(Self).ok_or_else(|| SpeedError { text: text.chars().take(32).collect() })
    }

    /// Takes a number of miles an hour up to 999.
    #[must_use]
    pub const fn new(mph: u16) -> Option<Self> {
        if mph <= 999 { Some(Self(mph)) } else { None }
    }

    /// Miles an hour.
    #[must_use]
    pub const fn mph(self) -> u16 {
        self.0
    }
}

fn read(text: &str) -> Option<u16> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    if fraction.is_some_and(|zeros| zeros.is_empty() || zeros.bytes().any(|b| b != b'0')) {
        return None;
    }
    if whole.is_empty() || whole.bytes().any(|b| !b.is_ascii_digit()) {
        return None;
    }
    let digits = whole.trim_start_matches('0');
    match digits.len() {
        0 => Some(0),
        1..=3 => digits.parse().ok(),
        _ => None,
    }
}

impl fmt::Display for SpeedMph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_numbers_in_every_allowed_form() {
        for (text, mph) in [
            ("76", 76),
            ("076", 76),
            (" 76", 76),
            ("76 ", 76),
            ("76.0", 76),
            ("76.000", 76),
            ("0", 0),
            ("000", 0),
            ("999", 999),
            ("0000999", 999),
            ("7", 7),
        ] {
            assert_eq!(SpeedMph::parse(text), Ok(SpeedMph(mph)), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "", " ", "75.9", "76.", ".0", "-1", "+76", "1e2", "7 6", "NaN", "true", "1000", "٧٦", "0x4c", "76,0", "76.00001",
            "76.0.0",
        ] {
            assert!(SpeedMph::parse(text).is_err(), "{text}");
        }
    }
}
