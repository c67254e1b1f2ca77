//! An alert ledger in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::time::Instant;

use super::Outage;
use crate::ports::{AlertLedger, Claim, ClaimLost, MarkError, RemoteFailure};

/// The fake [`AlertLedger`]. Clones share the claims.
#[derive(Clone, Default)]
pub struct MemoryAlertLedger {
    /// How its calls fail.
    pub outage: Outage,
    claims: Arc<Mutex<BTreeMap<String, MemoryClaim>>>,
}

/// One claim.
#[derive(Debug, Clone)]
pub struct MemoryClaim {
    /// How far the text is.
    pub state: MemoryClaimState,
    /// Who holds it.
    pub owner: String,
    claimed_at: Instant,
}

/// How far a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryClaimState {
    /// Claimed, not marked yet.
    Claimed,
    /// Accepted under this message id.
    Sent(String),
    /// It can never be sent.
    Failed,
}

impl MemoryAlertLedger {
    /// The claim of an event.
    #[must_use]
    pub fn claim_of(&self, event_id: &str) -> Option<MemoryClaim> {
        self.with(|claims| claims.get(event_id).cloned())
    }

    /// How many texts are marked as sent.
    #[must_use]
    pub fn n_sent(&self) -> usize {
        self.with(|claims| claims.values().filter(|claim| matches!(claim.state, MemoryClaimState::Sent(_))).count())
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, MemoryClaim>) -> T) -> T {
        change(&mut self.claims.lock().expect("no fake panics with its claims locked"))
    }

    async fn change(&self, event_id: &str, owner: &str, change: impl FnOnce(&mut MemoryClaim) + Send) -> Result<(), MarkError> {
        let held = self
            .outage
            .call(|| {
                self.with(|claims| match claims.get_mut(event_id) {
                    Some(claim) if claim.owner == owner && claim.state == MemoryClaimState::Claimed => {
                        change(claim);
                        Ok(())
                    }
                    _ => Err(ClaimLost),
                })
            })
            .await?;
        Ok(held?)
    }
}

#[async_trait]
impl AlertLedger for MemoryAlertLedger {
    async fn claim(&self, event_id: &str, owner: &str) -> Result<Claim, RemoteFailure> {
        self.outage
            .call(|| {
                self.with(|claims| {
                    let now = Instant::now();
                    let ours = MemoryClaim { state: MemoryClaimState::Claimed, owner: owner.to_owned(), claimed_at: now };
                    match claims.get(event_id) {
                        Some(MemoryClaim { state: MemoryClaimState::Sent(_), .. }) => Claim::AlreadySent,
                        Some(claim) if claim.state == MemoryClaimState::Claimed && claim.owner != owner => {
                            Claim::Held { owner: claim.owner.clone(), age: now - claim.claimed_at }
                        }
                        _ => {
                            claims.insert(event_id.to_owned(), ours);
                            Claim::Granted
                        }
                    }
                })
            })
            .await
    }

    async fn take_over(&self, event_id: &str, from: &str, to: &str) -> Result<(), MarkError> {
        if self.with(|claims| claims.get(event_id).is_some_and(|c| c.owner == to && c.state == MemoryClaimState::Claimed)) {
            return Ok(());
        }
        self.change(event_id, from, |claim| {
            to.clone_into(&mut claim.owner);
            claim.claimed_at = Instant::now();
        })
        .await
    }

    async fn mark_sent(&self, event_id: &str, owner: &str, message_id: &str) -> Result<(), MarkError> {
        let sent = MemoryClaimState::Sent(message_id.to_owned());
        if self.with(|claims| claims.get(event_id).is_some_and(|c| c.owner == owner && c.state == sent)) {
            return Ok(());
        }
        self.change(event_id, owner, |claim| claim.state = sent).await
    }

    async fn mark_failed(&self, event_id: &str, owner: &str) -> Result<(), MarkError> {
        if self.with(|claims| claims.get(event_id).is_some_and(|c| c.owner == owner && c.state == MemoryClaimState::Failed)) {
            return Ok(());
        }
        self.change(event_id, owner, |claim| claim.state = MemoryClaimState::Failed).await
    }
}
