//! Which events were texted: claimed before the text is sent, marked after.

use std::time::Duration;

use async_trait::async_trait;

use super::RemoteFailure;

/// The table that keeps a text from being sent twice.
#[async_trait]
pub trait AlertLedger: Send + Sync {
    /// Claims an event for `owner`, unless somebody claimed it before. A claim marked failed may be claimed again.
    ///
    /// # Errors
    /// When the ledger does not answer within its budget; a lost answer shows as a claim held by `owner` at the next try.
    async fn claim(&self, event_id: &str, owner: &str) -> Result<Claim, RemoteFailure>;

    /// Takes a claim over from an owner that is gone. Fails with [`MarkError::Lost`] when the claim changed meanwhile.
    ///
    /// # Errors
    /// When it changed, or the ledger does not answer.
    async fn take_over(&self, event_id: &str, from: &str, to: &str) -> Result<(), MarkError>;

    /// Notes that the text was accepted under this message id.
    ///
    /// # Errors
    /// When the claim is not `owner`'s any more, or the ledger does not answer.
    async fn mark_sent(&self, event_id: &str, owner: &str, message_id: &str) -> Result<(), MarkError>;

    /// Notes that the text can never be sent.
    ///
    /// # Errors
    /// When the claim is not `owner`'s any more, or the ledger does not answer.
    async fn mark_failed(&self, event_id: &str, owner: &str) -> Result<(), MarkError>;
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is ours: send.
    Granted,
    /// The text was sent before.
    AlreadySent,
    /// Somebody claimed it and has not marked it yet.
    Held {
        /// Who.
        owner: String,
        /// For how long.
        age: Duration,
    },
}

/// The claim is somebody else's now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the claim changed hands")]
pub struct ClaimLost;

/// Why a claim could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// It is somebody else's now.
    #[error(transparent)]
    Lost(#[from] ClaimLost),
    /// A failure outside the claim.
    #[error(transparent)]
    Remote(#[from] RemoteFailure),
}
