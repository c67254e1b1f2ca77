//! The registered owner of a plate, and the number to text.

use std::fmt;

/// A driver as the warehouse has him. Debug output shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Driver {
    /// First name.
    pub first_name: Box<str>,
    /// Last name.
    pub last_name: Box<str>,
    /// The number to text, as the warehouse has it; [`PhoneNumber::parse`] decides whether it can be used.
    pub myphone: Box<str>,
}

/// A valid telephone number in E.164 form, such as `+12025550123`. Debug output shows its last two digits only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber(Box<str>);

/// The text is no valid number; it is kept out of the message because messages are logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("myphone is not a valid telephone number")]
pub struct PhoneNumberError;

impl PhoneNumber {
    /// Reads a number, taking one without a country code as North American (+1).
    ///
    /// # Errors
    /// When libphonenumber's rules do not know the number as valid.
    pub fn parse(text: &str) -> Result<Self, PhoneNumberError> {
        let number = phonenumber::parse(Some(phonenumber::country::Id::US), text.trim()).map_err(|_| PhoneNumberError)?;
        if !phonenumber::is_valid(&number) {
            return Err(PhoneNumberError);
        }
        Ok(Self(number.format().mode(phonenumber::Mode::E164).to_string().into_boxed_str()))
    }

    /// The number in E.164 form.
    #[must_use]
    pub fn as_e164(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driver(…)")
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…{}", &self.0[self.0.len().saturating_sub(2)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_e164_with_plus_one_by_default() {
        for text in ["2025550123", " (202) 555-0123 ", "+1 202 555 0123", "1-202-555-0123", "202.555.0123\r"] {
            assert_eq!(
                PhoneNumber::parse(text).map(|number| number.as_e164().to_owned()),
                Ok("+12025550123".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "n/a", "12345", "0000000000", "+1 202 555 01", "202555012345678"] {
            assert!(PhoneNumber::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_output_masks_people() {
        let driver = Driver { first_name: "Ada".into(), last_name: "Example".into(), myphone: "2025550123".into() };
        assert_eq!(format!("{driver:?}"), "Driver(…)");
        assert_eq!(format!("{:?}", PhoneNumber::parse("2025550123").expect("a number")), "…23");
    }
}
