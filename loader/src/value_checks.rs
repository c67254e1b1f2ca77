//! Checks of single values (pure).

use std::collections::HashMap;

use speedtrap_actors::domain::PhoneNumber;

/// Digits of a zip code without its extension.
const ZIP_DIGITS: usize = 5;

/// What a spreadsheet shows instead of a value it could not make.
const CELL_ERRORS: [&str; 7] = ["#REF!", "#N/A", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Whether a spreadsheet left an error or hashes in the place of a value.
pub(crate) fn is_cell_error(text: &str) -> bool {
    text.starts_with('#') && (CELL_ERRORS.contains(&text) || text.len() >= 3 && text.bytes().all(|byte| byte == b'#'))
}

/// Whether a text of digits was taken as a large number: `6E272` becomes `6.00E+272`.
pub(crate) fn is_scientific(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    is_digits(whole) && is_digits(fraction) && exponent.strip_prefix(['+', '-']).is_some_and(is_digits)
}

/// Whether a plate was taken as a date: `MAR3` becomes `3-Mar`.
pub(crate) fn is_date(text: &str) -> bool {
    let Some((a, b)) = text.split_once('-') else { return false };
    let is_month = |text: &str| MONTHS.iter().any(|month| text.eq_ignore_ascii_case(month));
    let is_number = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(a) && is_month(b) || is_month(a) && is_number(b)
}

/// Whether a zip code lost its leading zeros. What is no number, such as a foreign code, is not judged.
pub(crate) fn is_short_zip(text: &str) -> bool {
    let digits = text.split_once('-').map_or(text, |(digits, _)| digits);
    !digits.is_empty() && digits.len() < ZIP_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The zip code with its lost zeros.
pub(crate) fn padded_zip(text: &str, to: usize) -> Option<String> {
    let missing = to.checked_sub(text.len()).filter(|missing| *missing > 0)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("{}{text}", "0".repeat(missing)))
}

/// Says of telephone numbers whether they are valid, as the lane that texts them will.
///
/// libphonenumber takes 45 µs for a number, so a million drivers with two each would take a minute and a half. In the forms that
/// Americans write it decides by form and first six digits (a test compares), and those come again and again.
#[derive(Debug, Default)]
pub(crate) struct PhoneNumbers {
    known: HashMap<AmericanForm, bool>,
}

/// All that libphonenumber looks at in a number written like `(202) 555-0123`, `+1-202-555-0123`, `202.555.0123x77` or `5550123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AmericanForm {
    /// `001` is not what America dials to call abroad, so that numbers with it are none.
    has_zeros: bool,
    /// Zero in numbers without it.
    area: u32,
    exchange: u32,
    extension_digits: usize,
}

impl PhoneNumbers {
    /// Whether [`PhoneNumber::parse`] takes the number.
    pub(crate) fn is_valid(&mut self, text: &str) -> bool {
        let text = text.trim();
        let Some(form) = AmericanForm::of(text) else { return PhoneNumber::parse(text).is_ok() };
        *self.known.entry(form).or_insert_with(|| PhoneNumber::parse(text).is_ok())
    }
}

impl AmericanForm {
    fn of(text: &str) -> Option<Self> {
        let (number, extension) = text.split_once('x').unwrap_or((text, ""));
        // What is longer may be no extension to the library.
        let is_extension = extension.len() <= 5 && extension.bytes().all(|byte| byte.is_ascii_digit());
        if !is_extension || extension.is_empty() && number.len() < text.len() {
            return None;
        }
        let extension_digits = extension.len();
        if number.len() == 7 {
            let (exchange, rest) = digits(number, 3)?;
            digits(rest, 4)?;
            return Some(Self { has_zeros: false, area: 0, exchange, extension_digits });
        }
        let rest = ["+1", "001", "1"].into_iter().find_map(|lead| number.strip_prefix(lead));
        let rest = rest.map_or(number, without_separator);
        let (area, rest) = match rest.strip_prefix('(') {
            Some(rest) => {
                let (area, rest) = digits(rest, 3)?;
                (area, rest.strip_prefix(')')?)
            }
            None => digits(rest, 3)?,
        };
        let (exchange, rest) = digits(without_separator(rest), 3)?;
        let (_, rest) = digits(without_separator(rest), 4)?;
        let has_zeros = number.starts_with("001");
        (rest.is_empty() && area >= 200).then_some(Self { has_zeros, area, exchange, extension_digits })
    }
}

fn without_separator(text: &str) -> &str {
    text.strip_prefix(['-', '.', ' ']).unwrap_or(text)
}

fn digits(text: &str, n: usize) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(n)?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spreadsheets_make_of_plates_is_recognised() {
        for text in ["6.00E+272", "1E+05", "1.5e-7"] {
            assert!(is_scientific(text), "{text}");
        }
        for text in ["6E272", "E+5", "A1E+5", "4-2288B", "", "1.E+5"] {
            assert!(!is_scientific(text), "{text}");
        }
        assert!(is_date("3-Mar") && is_date("MAR-95") && !is_date("MAR95") && !is_date("395-MAR") && !is_date("3-4"));
        assert!(is_cell_error("#REF!") && is_cell_error("########") && !is_cell_error("#12") && !is_cell_error("##"));
    }

    #[test]
    fn zip_codes_without_their_zeros_are_short() {
        for text in ["501", "8816", "501-1234"] {
            assert!(is_short_zip(text), "{text}");
        }
        for text in ["00501", "50301-1234", "", "K1A", "SW1A 1AA"] {
            assert!(!is_short_zip(text), "{text}");
        }
        assert_eq!(padded_zip("501", 5).as_deref(), Some("00501"));
        assert_eq!((padded_zip("50301", 5), padded_zip("K1A", 5), padded_zip("", 5)), (None, None, None));
    }

    #[test]
    fn the_quick_answer_on_telephone_numbers_is_that_of_the_library() {
        let mut numbers = PhoneNumbers::default();
        // A prime step, so that all kinds of digits come; the digits that should not matter differ from one number to the next.
        for (n, prefix) in (100_000_u32..1_000_000).step_by(9_973).enumerate() {
            let (area, exchange) = (prefix / 1_000, prefix % 1_000);
            for last in [(n as u32 * 77) % 10_000, 100] {
                for text in [
                    format!("{area}{exchange:03}{last:04}"),
                    format!("+1{area}{exchange:03}{last:04}"),
                    format!("({area}) {exchange:03}-{last:04}"),
                    format!("1-{area}.{exchange:03}.{last:04}"),
                    format!("{area}.{exchange:03}.{last:04}x{:03}", last % 1_000),
                    format!("+1-{area}-{exchange:03}-{last:04}x{last:04}0"),
                    format!("001-{area}-{exchange:03}-{last:04}"),
                    format!("001-{area}-{exchange:03}-{last:04}x{last:05}"),
                    format!("{exchange:03}{last:04}"),
                    format!("{exchange:03}{last:04}x{}", last % 10),
                ] {
                    assert_eq!(numbers.is_valid(&text), PhoneNumber::parse(&text).is_ok(), "{text}");
                }
            }
        }
        assert!(numbers.known.len() > 300, "{}", numbers.known.len());
        let odd =
            ["", "n/a", "(202 555-0100", "+442079460123", "202555010099", "+1202555010", "2025550100x", "2025550100x1234567"];
        for text in odd {
            assert_eq!(numbers.is_valid(text), PhoneNumber::parse(text).is_ok(), "{text}");
        }
    }
}
