//! How an answer of AWS is read: done, denied, missing, refused for another reason, or none at all.

use std::error::Error;
use std::fmt;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::report::Finding;
use crate::wiring;

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It was done, or could not be for a reason that only a permitted caller hears.
    Done,
    /// The caller may not.
    Denied(String),
    /// The caller is not known, or not believed.
    Unbelieved(String),
    /// There is no such thing.
    Missing,
    /// The service does not know the call, as local clouds do not know all.
    Unknown,
    /// Anything else that it said.
    Refused { code: String, message: String },
    /// No answer.
    Silent(String),
    /// Not tried, for a reason.
    Untried(&'static str),
}

const MISSING: [&str; 4] = ["ResourceNotFoundException", "NoSuchBucket", "NotFound", "StreamNotFound"];
const UNKNOWN: [&str; 5] =
    ["InvalidAction", "UnknownOperationException", "UnknownOperation", "NotImplemented", "UnsupportedOperation"];
const UNBELIEVED: [&str; 12] = [
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestTimeTooSkewed",
];

impl Told {
    /// Reads it.
    pub(super) fn of<T, E, R>(answer: &Result<T, SdkError<E, R>>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: fmt::Debug + 'static,
    {
        let Err(error) = answer else { return Self::Done };
        let Some(code) = error.code() else {
            return match error {
                // A refusal without words, as S3 answers a HEAD.
                SdkError::ServiceError(_) => Self::Refused { code: "nothing".to_owned(), message: String::new() },
                _ => Self::Silent(wiring::chain(error)),
            };
        };
        let message = error.message().unwrap_or("nothing more").to_owned();
        match code {
            code if code.contains("AccessDenied") || code.contains("Authorization") || code == "NotAuthorized" => {
                Self::Denied(message)
            }
            code if UNBELIEVED.contains(&code) => Self::Unbelieved(format!("{code}: {message}")),
            code if MISSING.contains(&code) => Self::Missing,
            code if UNKNOWN.contains(&code) => Self::Unknown,
            code => Self::Refused { code: code.to_owned(), message },
        }
    }

    /// The same, where these codes are what a permitted caller hears.
    pub(super) fn expecting(self, codes: &[&str]) -> Self {
        match self {
            Self::Refused { code, .. } if codes.contains(&code.as_str()) => Self::Done,
            told => told,
        }
    }

    /// What it means for a look that wanted an answer: `what` is the call, such as `kinesis:DescribeStreamSummary`.
    pub(super) fn finding(self, what: &str, missing: impl FnOnce() -> Finding) -> Finding {
        match self {
            Self::Done => Finding::ok("there"),
            Self::Missing => missing(),
            Self::Denied(_) => Finding::skip(format!("not known here: the caller has no permission for {what}")),
            Self::Unknown => Finding::skip(format!("not known here: the service does not know {what}")),
            Self::Untried(why) => Finding::skip(why),
            Self::Unbelieved(why) => unbelieved(&why),
            Self::Silent(why) => Finding::no_answer(why),
            Self::Refused { code, message } => Finding::fail(
                format!("{what} was answered with {code}: {message}"),
                "try again; see the AWS Health Dashboard if it stays",
            ),
        }
    }
}

/// The credentials are none that AWS takes.
pub(super) fn unbelieved(why: &str) -> Finding {
    Finding::fail(
        format!("the credentials are refused: {why}"),
        "give valid ones: AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of this machine; check the clock",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_permitted_caller_hears_counts_as_done() {
        let refused = |code: &str| Told::Refused { code: code.to_owned(), message: String::new() };
        assert_eq!(refused("ConditionalCheckFailedException").expecting(&["ConditionalCheckFailedException"]), Told::Done);
        assert_eq!(
            refused("ThrottlingException").expecting(&["ConditionalCheckFailedException"]),
            refused("ThrottlingException")
        );
        assert_eq!(Told::Denied(String::new()).expecting(&["AccessDenied"]), Told::Denied(String::new()));
    }
}
