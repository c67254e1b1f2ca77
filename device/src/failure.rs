//! Why a run ended early: what happened, why, what to do next, and the exit code.

use std::process::ExitCode;

use crate::outbox::OutboxError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The readings file, or anything else given as input, cannot be used.
    #[error("{what}")]
    BadInput { what: String },
    /// Readings cannot be kept on disk.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A certificate, key or CA file cannot be used, or one side did not accept the other's certificate.
    #[error("{what}")]
    BadCredentials { what: String },
    /// A setting that this machine cannot fulfil, or faults in the configuration.
    #[error("{what}")]
    BadConfig { what: String },
    /// Wrong usage that only shows when two values are seen together.
    #[error("{what}")]
    Usage { what: String },
    /// The broker answered and said no.
    #[error("{what}")]
    Refused { what: String },
    /// No connection could be made, or kept, in time.
    #[error("{what}")]
    Unreachable { what: String },
    /// Connected, but the broker acknowledged nothing in time.
    #[error("{what}")]
    TimedOut { what: String },
    /// SIGINT or SIGTERM.
    #[error("{what}")]
    Interrupted { what: String },
}

impl Failure {
    /// Says it on standard error and gives the exit code to end with.
    pub(crate) fn tell(&self) -> ExitCode {
        eprintln!("speedtrap-device: {self}");
        ExitCode::from(self.exit_code())
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::BadInput { .. } | Self::Outbox(OutboxError::Io { .. }) => 1,
            Self::Usage { .. } | Self::Outbox(OutboxError::NoPlace) => 2,
            Self::Refused { .. } | Self::Outbox(OutboxError::InUse { .. }) => 5,
            Self::TimedOut { .. } => 6,
            Self::Unreachable { .. } => 69,
            Self::BadCredentials { .. } | Self::BadConfig { .. } => 78,
            Self::Interrupted { .. } => 130,
        }
    }
}
