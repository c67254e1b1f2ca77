//! Makes findings of suspicions: one has to last before it is told, and is told until nothing has spoken for it for a while.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Finding, Suspicion};

/// A finding that nothing speaks for any more is told for so long, so that what comes and goes stays in sight.
const HOLD: Duration = Duration::from_secs(2);

/// What was suspected at the last look, and what is being told.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    known: BTreeMap<String, Tracked>,
}

#[derive(Debug)]
struct Tracked {
    suspicion: Suspicion,
    first: Instant,
    since: SystemTime,
    last: Instant,
    is_told: bool,
}

impl Tracker {
    /// Takes what the rules say now; gives what is to be told, the gravest first, the oldest of those first.
    pub(crate) fn update(&mut self, now: Instant, clock: SystemTime, suspicions: Vec<Suspicion>) -> Vec<Finding> {
        for suspicion in suspicions {
            let first = || Tracked { suspicion: suspicion.clone(), first: now, since: clock, last: now, is_told: false };
            let tracked = self.known.entry(suspicion.id()).or_insert_with(first);
            tracked.last = now;
            tracked.is_told |= now.saturating_duration_since(tracked.first) >= suspicion.after;
            tracked.suspicion = suspicion;
        }
        self.known.retain(|_, tracked| {
            let gone_for = now.saturating_duration_since(tracked.last);
            gone_for.is_zero() || (tracked.is_told && gone_for < HOLD)
        });
        let mut told: Vec<(&String, &Tracked)> = self.known.iter().filter(|(_, tracked)| tracked.is_told).collect();
        told.sort_by_key(|(_, tracked)| (tracked.suspicion.severity, tracked.first));
        told.into_iter().map(|(id, tracked)| finding(id, tracked)).collect()
    }
}

fn finding(id: &str, tracked: &Tracked) -> Finding {
    let Suspicion { rule, severity, target, node, text, link, next, after: _ } = tracked.suspicion.clone();
    Finding {
        id: id.to_owned(),
        rule: rule.to_owned(),
        severity,
        target,
        node,
        since: jiff::Timestamp::try_from(tracked.since).map_or_else(|_| "unknown".to_owned(), |at| format!("{at:.3}")),
        text,
        link,
        next: next.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    const CLOCK: SystemTime = SystemTime::UNIX_EPOCH;

    fn suspicion(rule: &'static str, severity: Severity, after_s: u64) -> Suspicion {
        Suspicion::new(rule, severity, "it", format!("{rule}!")).after(Duration::from_secs(after_s))
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicion_is_told_when_it_has_lasted_and_until_it_has_been_gone_for_a_while() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let mut told = |at_ms: u64, is_so: bool| {
            let suspicions = if is_so { vec![suspicion("lag", Severity::Warning, 3)] } else { Vec::new() };
            !tracker.update(start + Duration::from_millis(at_ms), CLOCK, suspicions).is_empty()
        };
        for (at_ms, is_so, is_told) in [
            (0, true, false),
            (2_900, true, false),
            (3_100, false, false),
            (3_200, true, false),
            (6_000, true, false),
            (6_300, true, true),
            (7_000, false, true),
            (8_000, true, true),
            (9_900, false, true),
            (10_100, false, false),
            (10_200, true, false),
        ] {
            assert_eq!(told(at_ms, is_so), is_told, "at {at_ms} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gravest_comes_first_and_keeps_its_id_and_its_beginning() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let both = || vec![suspicion("lag", Severity::Warning, 0), suspicion("leak", Severity::Critical, 0).on("node-1")];
        let first = tracker.update(start, CLOCK, both());
        assert_eq!(first.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["leak:node-1:it", "lag:all:it"]);
        let later = CLOCK + Duration::from_secs(60);
        assert_eq!(tracker.update(start + Duration::from_secs(60), later, both()), first);
        assert_eq!(first[0].since, "1970-01-01T00:00:00.000Z");
    }
}
