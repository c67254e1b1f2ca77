//! What must hold however the nodes were treated: every reading that went in has its effects, each plate's in their order, and
//! what was done more than once is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::evidence::Evidence;
use crate::sandbox::Sandbox;
use crate::traffic::{Sent, Traffic};

/// What was done more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// Records on the out-stream.
    pub published: usize,
    pub texts: usize,
}

/// Waits until nothing is left to do, and sees that nothing is lost; gives what was found.
///
/// # Errors
/// With what is not as it must be.
pub async fn settled(sandbox: &Sandbox, cluster: &Cluster<'_>, traffic: &Traffic, limit: Duration) -> Result<Evidence> {
    cluster.idle(limit).await?;
    let found = sandbox.reconciled(&traffic.expected(), limit).await.with_context(|| cluster.logs())?;
    let others: Vec<_> = found.letters.iter().filter(|letter| letter.stage != "notify").collect();
    ensure!(others.is_empty(), "good readings became dead letters: {others:?}");
    let sent = traffic.sent();
    each_id_has_its_effects(traffic, &sent, &found)?;
    plates_keep_their_order(&sent, &found)?;
    Ok(found)
}

impl Repeats {
    /// Counts them.
    #[must_use]
    pub fn of(found: &Evidence) -> Self {
        Self { published: found.published_again, texts: found.repeated_texts() }
    }
}

fn each_id_has_its_effects(traffic: &Traffic, sent: &[Sent], found: &Evidence) -> Result<()> {
    let violations: BTreeMap<&str, &Sent> =
        sent.iter().filter(|reading| reading.is_violation()).map(|reading| (reading.event_id.as_str(), reading)).collect();
    let stored: BTreeSet<&str> = found.stored.keys().map(String::as_str).collect();
    ensure!(stored == violations.keys().copied().collect(), "{} items for {} violations", stored.len(), violations.len());
    for (event_id, stored) in &found.stored {
        let reading = violations[event_id.as_str()];
        ensure!(stored.violation == reading.values && stored.iottimestamp == reading.iottimestamp, "{event_id} was changed");
    }
    let is_known = |reading: &&Sent| traffic.drivers.contains_key(&reading.values[0].trim().to_uppercase());
    let known: BTreeSet<&str> = violations.values().copied().filter(is_known).map(|reading| reading.event_id.as_str()).collect();
    let published: BTreeSet<&str> = found.published.keys().map(String::as_str).collect();
    ensure!(published == known, "{} published for {} violations of known drivers", published.len(), known.len());
    Ok(())
}

/// The first publications of each plate's readings stand in the order in which they were sent. Repeats after a crash begin
/// again at the last checkpoint, so only they may go back.
fn plates_keep_their_order(sent: &[Sent], found: &Evidence) -> Result<()> {
    let order: BTreeMap<&str, usize> = sent.iter().enumerate().map(|(n, reading)| (reading.event_id.as_str(), n)).collect();
    let mut last = BTreeMap::<&str, (usize, &str)>::new();
    let mut seen = BTreeSet::new();
    for arrival in &found.arrivals {
        if !seen.insert(arrival.event_id.as_str()) {
            continue;
        }
        let n = *order.get(arrival.event_id.as_str()).with_context(|| format!("{} was never sent", arrival.event_id))?;
        if let Some((before, event_id)) = last.insert(&arrival.plate, (n, &arrival.event_id)) {
            ensure!(before < n, "{} was published after {event_id}, which was sent later", arrival.event_id);
        }
    }
    Ok(())
}
