//! Why the program ends early, and with which exit code.

use std::fmt;

/// Exit codes shared by all Speedtrap programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Failed = 1,
    Partial = 3,
    NotFound = 4,
    Refused = 5,
    TimedOut = 6,
    BadConfig = 78,
    Interrupted = 130,
}

/// An end with a code of its own; any other error ends with [`Code::Failed`].
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) code: Code,
    message: String,
}

impl Stop {
    /// An error to return, with a message that says what is wrong and what to do.
    pub(crate) fn error(code: Code, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { code, message: message.into() })
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}

/// The exit code an error asks for, wherever in its chain.
pub(crate) fn code_of(error: &anyhow::Error) -> Code {
    error.downcast_ref::<Stop>().map_or(Code::Failed, |stop| stop.code)
}
