//! What a look for something came to.

use speedtrap_actors::ports::{RemoteFailure, SourceError};

/// What a look came to. What was not looked at to the end is never called absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look<T> {
    /// It is there.
    Found(T),
    /// It is not, though everything was looked at.
    Absent(String),
    /// It would not be there any more.
    Expired(String),
    /// It could not be looked for, or not far enough.
    Unknown(String),
}

impl<T> Look<T> {
    pub(super) fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            _ => None,
        }
    }

    /// What is said where nothing was found.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Found(_) => "",
            Self::Absent(why) | Self::Expired(why) | Self::Unknown(why) => why,
        }
    }

    /// The name used in the answer.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Absent(_) => "absent",
            Self::Expired(_) => "expired",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl<T> From<RemoteFailure> for Look<T> {
    fn from(failure: RemoteFailure) -> Self {
        Self::Unknown(failure.to_string())
    }
}

impl<T> From<SourceError> for Look<T> {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Gone(_) => Self::Expired(error.to_string()),
            error => Self::Unknown(error.to_string()),
        }
    }
}
