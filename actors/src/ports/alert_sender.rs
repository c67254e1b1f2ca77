//! Sending a text message.

use async_trait::async_trait;

use super::RemoteFailure;
use crate::domain::PhoneNumber;

/// The text message service.
#[async_trait]
pub trait AlertSender: Send + Sync {
    /// Sends one text, tried once: a retry after a lost answer would text twice, so it is the caller's to decide and count.
    /// Returns the message id.
    ///
    /// # Errors
    /// By what the caller may do next.
    async fn send(&self, to: &PhoneNumber, text: &str) -> Result<String, SendError>;
}

/// Why a text was not, or may not have been, sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The service refuses this text or number for its content: it will never be sent.
    #[error("the text was refused: {0}")]
    Refused(String),
    /// It was certainly not sent; it may be tried again.
    #[error("the text was not sent: {0}")]
    NotSent(RemoteFailure),
    /// It may have been sent: the answer was lost.
    #[error("the text may have been sent: {0}")]
    Unknown(RemoteFailure),
}
