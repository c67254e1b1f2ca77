//! Finds the actor that holds up its lane (pure).
//!
//! Age alone means nothing: a text may wait minutes for its turn, and an outage may last for hours. An actor is frozen when it
//! has messages and handles none, or when one call of it lasts longer than its adapter lets any call last. A lane is frozen, too,
//! when events are in it and nothing at all happens, though no actor calls or waits for anything.
//!
//! Time is counted in looks, not by the clock: a process that was stopped for a while makes one late look, and accuses nobody.

use std::time::Duration;

use crate::observe::MeterSnapshot;

/// Looks within the time after which an actor counts as frozen.
const LOOKS: u32 = 10;

/// What was seen of the actors of one generation.
#[derive(Debug)]
pub(super) struct StallWatch {
    stall_after: Duration,
    longest_call: Duration,
    actors: Vec<Watched>,
    /// Looks in a row in which no stage moved.
    quiet: u32,
}

/// An actor and what its meter says.
pub(super) type Seen = (String, MeterSnapshot);

#[derive(Debug)]
struct Watched {
    path: String,
    done: u64,
    wait_steps: u64,
    /// Looks in a row in which it had messages and handled none.
    deaf: u32,
    /// Looks in a row in which the same call lasted.
    calling: u32,
}

/// Who froze.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frozen {
    pub(super) path: String,
    pub(super) reason: String,
}

impl StallWatch {
    pub(super) fn new(stall_after: Duration, longest_call: Duration) -> Self {
        Self { stall_after, longest_call, actors: Vec::new(), quiet: 0 }
    }

    /// Time between two looks.
    pub(super) fn every(&self) -> Duration {
        self.stall_after / LOOKS
    }

    /// Takes a look at the actors of a generation, the reader first, and at how many events are in the lane.
    pub(super) fn look(&mut self, seen: Vec<Seen>, in_lane: usize) -> Option<Frozen> {
        let most_calling = LOOKS + looks(self.longest_call, self.every());
        let known = std::mem::take(&mut self.actors);
        let mut moved = known.len() != seen.len();
        let mut busy = false;
        for (at, (path, meter)) in seen.into_iter().enumerate() {
            let before = known.get(at).filter(|watched| watched.path == path);
            let handled = before.is_none_or(|before| before.done != meter.done);
            let stepped = before.is_none_or(|before| before.wait_steps != meter.wait_steps);
            let deaf = if handled || meter.depth == 0 { 0 } else { before.map_or(0, |before| before.deaf) + 1 };
            let calls = meter.waiting_for.is_some() && meter.paused.is_none() && !stepped;
            let calling = if calls { before.map_or(0, |before| before.calling) + 1 } else { 0 };
            // The reader is woken by its own timers, and reads whether or not the stages move.
            if at > 0 {
                moved |= handled || stepped;
                busy |= meter.waiting_for.is_some();
            }
            self.actors.push(Watched { path, done: meter.done, wait_steps: meter.wait_steps, deaf, calling });
        }
        self.quiet = if moved || busy || in_lane == 0 { 0 } else { self.quiet + 1 };
        let culprit = self.actors.iter().find(|actor| actor.deaf >= LOOKS || actor.calling >= most_calling);
        if let Some(actor) = culprit {
            let looks = if actor.deaf >= LOOKS { actor.deaf } else { actor.calling };
            let reason = format!("{} froze: no progress for {:?}", name(&actor.path), self.every() * looks);
            return Some(Frozen { path: actor.path.clone(), reason });
        }
        // Nobody can be named, so the blame goes to the one that let the events in.
        let reader = self.actors.first().filter(|_| self.quiet >= LOOKS)?;
        let reason = format!("lane froze: {in_lane} events in it and no progress for {:?}", self.stall_after);
        Some(Frozen { path: reader.path.clone(), reason })
    }
}

fn looks(time: Duration, every: Duration) -> u32 {
    u32::try_from(time.as_micros().div_ceil(every.as_micros().max(1))).unwrap_or(u32::MAX / 2)
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Pause;

    fn meter(depth: u64, done: u64, wait_steps: u64) -> MeterSnapshot {
        MeterSnapshot {
            depth,
            received: done + depth,
            done,
            busy: Duration::ZERO,
            waiting: Duration::ZERO,
            waiting_for: (wait_steps % 2 == 1).then_some(Duration::ZERO),
            wait_steps,
            paused: None,
            handling_for: None,
            up: Duration::ZERO,
        }
    }

    fn watch() -> StallWatch {
        StallWatch::new(Duration::from_secs(30), Duration::from_secs(60))
    }

    /// How many looks it takes until somebody is accused.
    fn looks_until(mut seen: impl FnMut(u64) -> MeterSnapshot, in_lane: usize) -> Option<(u64, Frozen)> {
        let mut watch = watch();
        let reader = |n| ("lane/shard_reader".to_owned(), meter(0, n, n * 2));
        (0..1_000).find_map(|n| {
            let stage = ("lane/violation_persister".to_owned(), seen(n));
            watch.look(vec![reader(n), stage], in_lane).map(|frozen| (n, frozen))
        })
    }

    #[test]
    fn an_actor_that_handles_nothing_for_the_whole_time_is_frozen() {
        let (looks, frozen) = looks_until(|_| meter(1, 5, 0), 1).expect("it is frozen");
        assert_eq!(looks, 10);
        assert_eq!(frozen.path, "lane/violation_persister");
        assert_eq!(frozen.reason, "violation_persister froze: no progress for 30s");
        assert_eq!(looks_until(|n| meter(7, n / 9, 0), 1), None, "one message in nine looks is progress");
    }

    #[test]
    fn a_call_is_frozen_only_after_longer_than_any_call_may_last() {
        let (looks, frozen) = looks_until(|_| meter(0, 5, 7), 1).expect("it is frozen");
        assert_eq!(looks, 30);
        assert_eq!(frozen.reason, "violation_persister froze: no progress for 90s");
        assert_eq!(looks_until(|n| meter(0, 5, 7 + n / 25 * 2), 1), None, "call after call is progress");
    }

    #[test]
    fn who_waits_on_purpose_is_not_frozen_however_long_it_lasts() {
        assert_eq!(looks_until(|_| MeterSnapshot { paused: Some(Pause::TextRate), ..meter(0, 5, 7) }, 32), None);
    }

    #[test]
    fn events_in_a_lane_that_nobody_works_on_are_found() {
        let (looks, frozen) = looks_until(|_| meter(0, 5, 8), 3).expect("it is frozen");
        assert_eq!(looks, 10);
        assert_eq!(frozen.reason, "lane froze: 3 events in it and no progress for 30s");
        assert_eq!(looks_until(|_| meter(0, 5, 8), 0), None, "an idle lane is not frozen");
    }
}
