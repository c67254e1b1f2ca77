//! The contracts of [`AlertLedger`] and [`AlertSender`].

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::domain::PhoneNumber;
use crate::ports::{AlertLedger, AlertSender, Claim, ClaimLost, MarkError};

/// Runs against an empty ledger.
///
/// # Panics
/// When the contract is broken.
pub async fn alert_ledger_contract(ledger: Arc<dyn AlertLedger>) {
    let lost = Err(MarkError::Lost(ClaimLost));
    let claim = async |event: &str, owner: &str| ledger.claim(event, owner).await.expect("the ledger answers");

    assert_eq!(claim("event-1", "node-1").await, Claim::Granted);
    assert_eq!(claim("event-1", "node-1").await, Claim::Granted, "our own claim is a lost answer");
    match claim("event-1", "node-2").await {
        Claim::Held { owner, age } => {
            assert_eq!(owner, "node-1");
            assert!(age < Duration::from_secs(60), "{age:?}");
        }
        other => panic!("a claim of another node is {other:?}"),
    }
    assert_eq!(ledger.take_over("event-1", "node-3", "node-2").await, lost, "not held by that owner");
    assert_eq!(ledger.take_over("event-1", "node-1", "node-2").await, Ok(()));
    assert_eq!(ledger.mark_sent("event-1", "node-1", "m-1").await, lost, "the old owner lost it");
    assert_eq!(ledger.mark_failed("event-1", "node-1").await, lost);
    assert_eq!(ledger.mark_sent("event-1", "node-2", "m-2").await, Ok(()));
    assert_eq!(ledger.mark_sent("event-1", "node-2", "m-2").await, Ok(()), "a repeated mark is our own");
    assert_eq!(ledger.mark_failed("event-1", "node-2").await, lost, "sent is final");
    for owner in ["node-1", "node-2"] {
        assert_eq!(claim("event-1", owner).await, Claim::AlreadySent);
    }

    assert_eq!(claim("event-2", "node-1").await, Claim::Granted);
    assert_eq!(ledger.mark_failed("event-2", "node-1").await, Ok(()));
    assert_eq!(claim("event-2", "node-2").await, Claim::Granted, "a failed one may be claimed again");
    assert_eq!(ledger.mark_sent("event-2", "node-1", "m-3").await, lost);

    assert_eq!(ledger.mark_sent("event-none", "node-1", "m-4").await, lost);
    let owners: Vec<_> = (0..20).map(|n| format!("node-{n}")).collect();
    let claims = join_all(owners.iter().map(|owner| claim("event-3", owner))).await;
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::Granted).count(), 1, "one of many is granted");
}

/// Sends two texts to one number. Returns their message ids.
///
/// # Panics
/// When the contract is broken.
pub async fn alert_sender_contract(sender: Arc<dyn AlertSender>, to: &PhoneNumber, texts: [&str; 2]) -> [String; 2] {
    let first = sender.send(to, texts[0]).await.expect("a text is sent");
    let second = sender.send(to, texts[1]).await.expect("a text is sent");
    assert!(!first.is_empty() && first != second, "each text has a message id of its own");
    [first, second]
}
