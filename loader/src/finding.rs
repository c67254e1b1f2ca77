//! What can be found wrong with a row, and how bad it is (pure).

use serde::Serialize;

/// One kind of fault of a row or of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finding {
    Ragged,
    UnclosedQuote,
    TextAfterQuote,
    LineTooLong,
    /// Files were put together, each with its header.
    RepeatedHeader,
    Undecodable,
    NulByte,
    EmptyPlate,
    TooLong,
    /// The warehouse did not take it.
    Refused,
    EmptyValue,
    BadEmail,
    BadPhoneNumber,
    InvalidMyphone,
    ShortZip,
    ExcelDamage,
    ControlCharacter,
    ReplacementCharacter,
}

/// What becomes of a row with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// It is put into the quarantine.
    Error,
    /// It is loaded and counted.
    Warn,
}

impl Finding {
    pub(crate) const ALL: [Self; 18] = [
        Self::Ragged,
        Self::UnclosedQuote,
        Self::TextAfterQuote,
        Self::LineTooLong,
        Self::RepeatedHeader,
        Self::Undecodable,
        Self::NulByte,
        Self::EmptyPlate,
        Self::TooLong,
        Self::Refused,
        Self::EmptyValue,
        Self::BadEmail,
        Self::BadPhoneNumber,
        Self::InvalidMyphone,
        Self::ShortZip,
        Self::ExcelDamage,
        Self::ControlCharacter,
        Self::ReplacementCharacter,
    ];

    /// Its name in contracts, reports and the quarantine.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ragged => "ragged",
            Self::UnclosedQuote => "unclosed_quote",
            Self::TextAfterQuote => "text_after_quote",
            Self::LineTooLong => "line_too_long",
            Self::RepeatedHeader => "repeated_header",
            Self::Undecodable => "undecodable",
            Self::NulByte => "nul_byte",
            Self::EmptyPlate => "empty_plate",
            Self::TooLong => "too_long",
            Self::Refused => "refused",
            Self::EmptyValue => "empty_value",
            Self::BadEmail => "bad_email",
            Self::BadPhoneNumber => "bad_phone_number",
            Self::InvalidMyphone => "invalid_myphone",
            Self::ShortZip => "short_zip",
            Self::ExcelDamage => "excel_damage",
            Self::ControlCharacter => "control_character",
            Self::ReplacementCharacter => "replacement_character",
        }
    }

    /// The finding of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|finding| finding.name() == name)
    }

    /// True if no warehouse could hold such a row, so that no contract can let it pass.
    pub(crate) fn is_always_an_error(self) -> bool {
        self <= Self::Refused
    }

    /// How bad it is unless the contract says otherwise.
    pub(crate) fn usual_severity(self) -> Severity {
        if self <= Self::EmptyValue { Severity::Error } else { Severity::Warn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_serialised_form() {
        for finding in Finding::ALL {
            assert_eq!(serde_json::to_value(finding).unwrap(), finding.name());
            assert_eq!(Finding::named(finding.name()), Some(finding));
        }
    }
}
