//! Whom to dial, and when (pure).

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::flow::Backoff;

/// The addresses that other nodes take links at.
#[derive(Debug)]
pub(super) struct Redial {
    backoff: Backoff,
    targets: BTreeMap<String, Target>,
}

#[derive(Debug)]
struct Target {
    /// The node there, once it is known.
    worker: Option<String>,
    /// Addresses that this node was told to join stay; others go with their node.
    joined: bool,
    /// The socket address that the last dial reached.
    reached: Option<String>,
    tries: u32,
    due: Instant,
    dialling: bool,
}

impl Redial {
    pub(super) fn new(backoff: Backoff, join: impl Iterator<Item = String>, now: Instant) -> Self {
        let joined = |address| (address, Target::new(None, true, now));
        Self { backoff, targets: join.map(joined).collect() }
    }

    /// Notes where the nodes that are not dead take links, by worker. A new one is dialled at once.
    pub(super) fn note(&mut self, workers: &BTreeMap<String, String>, now: Instant) {
        self.targets.retain(|address, target| target.joined || workers.values().any(|other| other == address));
        for (worker, address) in workers {
            let target = self.targets.entry(address.clone()).or_insert_with(|| Target::new(None, false, now));
            // Two nodes may claim one address, such as one that is dead without anybody knowing it yet.
            let is_settled = target.worker.as_ref().is_some_and(|other| workers.get(other) == Some(address));
            if !is_settled {
                (target.worker, target.tries, target.due) = (Some(worker.clone()), 0, now);
            }
        }
    }

    /// The addresses to dial now. `is_linked` tells whether there is a link to a worker.
    pub(super) fn due(&mut self, now: Instant, is_linked: impl Fn(&str) -> bool) -> Vec<String> {
        let mut due = Vec::new();
        for (address, target) in &mut self.targets {
            let is_absent = !target.worker.as_deref().is_some_and(&is_linked);
            if is_absent && !target.dialling && target.due <= now {
                target.dialling = true;
                due.push(address.clone());
            }
        }
        due
    }

    /// Notes the end of a dial, and the socket address that it reached. Whether a link comes of it will show.
    pub(super) fn dialled(&mut self, address: &str, reached: Option<String>, now: Instant, chance: f64) {
        let Some(target) = self.targets.get_mut(address) else { return };
        target.dialling = false;
        target.reached = reached.or_else(|| target.reached.take());
        target.due = now + self.backoff.delay(target.tries, chance);
        target.tries = target.tries.saturating_add(1);
    }

    /// Notes a link: `advertised` is where the node says it takes links, `reached` what this node had dialled for it, if it did.
    pub(super) fn linked(&mut self, worker: &str, advertised: Option<&str>, reached: Option<&str>) {
        for (address, target) in &mut self.targets {
            if Some(address.as_str()) == advertised || (reached.is_some() && target.reached.as_deref() == reached) {
                target.worker = Some(worker.to_owned());
            }
            if target.worker.as_deref() == Some(worker) {
                target.tries = 0;
            }
        }
    }

    /// Notes that a link is gone: the node is dialled soon.
    pub(super) fn unlinked(&mut self, worker: &str, now: Instant, chance: f64) {
        for target in self.targets.values_mut().filter(|target| target.worker.as_deref() == Some(worker)) {
            target.due = now + self.backoff.delay(0, chance);
        }
    }
}

impl Target {
    fn new(worker: Option<String>, joined: bool, due: Instant) -> Self {
        Self { worker, joined, reached: None, tries: 0, due, dialling: false }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(4) };

    fn table(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(worker, address)| ((*worker).to_owned(), (*address).to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn absent_nodes_are_dialled_at_once_and_then_ever_more_seldom() {
        let start = Instant::now();
        let mut redial = Redial::new(BACKOFF, std::iter::empty(), start);
        redial.note(&table(&[("b#1", "h:1")]), start);
        let mut dialled = Vec::new();
        for ms in (0..20_000).step_by(100) {
            let now = start + Duration::from_millis(ms);
            for address in redial.due(now, |_| false) {
                redial.dialled(&address, None, now, 1.0);
                dialled.push(ms);
            }
        }
        assert_eq!(dialled, [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500]);
        redial.note(&table(&[("b#2", "h:1")]), start + Duration::from_secs(20));
        assert_eq!(redial.due(start + Duration::from_secs(20), |_| false), ["h:1"], "a later boot is a new node");
        assert!(redial.due(start + Duration::from_secs(60), |_| false).is_empty(), "it is being dialled");
    }

    #[tokio::test(start_paused = true)]
    async fn linked_nodes_are_left_alone_however_they_were_found() {
        let start = Instant::now();
        let mut redial = Redial::new(BACKOFF, ["name:1", "other:1"].map(str::to_owned).into_iter(), start);
        assert_eq!(redial.due(start, |_| false), ["name:1", "other:1"]);
        redial.dialled("name:1", Some("192.0.2.1:1".to_owned()), start, 1.0);
        redial.dialled("other:1", None, start, 1.0);
        redial.linked("b#1", Some("192.0.2.1:1"), Some("192.0.2.1:1"));
        redial.linked("c#1", Some("other:1"), None);
        let later = start + Duration::from_secs(9);
        assert!(redial.due(later, |worker| ["b#1", "c#1"].contains(&worker)).is_empty());
        redial.unlinked("b#1", later, 0.0);
        redial.note(&table(&[]), later);
        assert!(redial.due(later, |worker| worker == "c#1").is_empty());
        assert_eq!(redial.due(later + Duration::from_millis(250), |worker| worker == "c#1"), ["name:1"]);
    }
}
