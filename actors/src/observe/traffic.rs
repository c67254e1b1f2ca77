//! How many events came from which state and how fast, minute by minute for an hour: what the map of the dashboard shows.
//!
//! `SpeedFilter` marks each event in its batch's ticket, and the marks are added up when a written checkpoint has settled the
//! event. So an event that starts again after a restart counts once, in the minute that settled it, as in the counts of outcomes. A
//! node that dies takes its hour with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::{Reading, SpeedMph, UsState};

/// Minutes kept.
const MINUTES: usize = 60;
/// Hours kept, without states and speeds.
const HOURS: usize = 24;
/// Miles an hour of one bin.
const BIN_MPH: u16 = 5;

/// What the map needs to know of one event. An event without one is no reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficMark(Option<Judged>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Judged {
    /// The place of its state, or [`UsState::COUNT`].
    state: u8,
    bin: u8,
    is_violation: bool,
    is_off: bool,
}

/// Counts of some span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficCounts {
    /// By the place of the state; the last one holds events whose state is none.
    pub states: [Count; UsState::COUNT + 1],
    /// By the event's speed.
    pub bins: [u64; TrafficCounts::BINS],
    /// Events whose coordinates certainly lie outside the state that they name, or are none.
    pub coordinates_off: u64,
}

/// Events, and how many of them were violations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub events: u64,
    /// Those above the limit.
    pub violations: u64,
}

/// The counts of one hour by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourCount {
    /// When it began.
    pub from: SystemTime,
    /// What it brought.
    pub count: Count,
}

/// The traffic of one application's lanes. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<Kept>>);

/// Spans that brought something, the latest last, each with the number of its minute or hour since 1970.
#[derive(Debug, Default)]
struct Kept {
    minutes: VecDeque<(u64, Box<TrafficCounts>)>,
    hours: VecDeque<(u64, Count)>,
}

impl TrafficMark {
    /// Reads what the map needs; allocates nothing.
    #[must_use]
    pub fn of(reading: &Reading<'_>, limit: SpeedMph) -> Self {
        let [_, _, longitude, latitude, _, state, _] = &reading.values;
        let state = UsState::named(state);
        let degrees = |text: &str| text.trim().parse::<f64>().unwrap_or(f64::NAN);
        Self(Some(Judged {
            state: state.map_or(UsState::COUNT, UsState::index) as u8,
            bin: (usize::from(reading.speed.mph().saturating_sub(1) / BIN_MPH)).min(TrafficCounts::BINS - 1) as u8,
            is_violation: reading.speed > limit,
            is_off: state.is_some_and(|state| !state.may_hold(degrees(longitude), degrees(latitude))),
        }))
    }
}

impl Traffic {
    /// Adds events that are settled now.
    pub fn settle(&self, now: SystemTime, marks: &[TrafficMark]) {
        let mut judged = marks.iter().filter_map(|mark| mark.0).peekable();
        if judged.peek().is_none() {
            return;
        }
        let mut kept = self.lock();
        let seconds = seconds(now);
        let mut of_all = Count::default();
        let counts = latest(&mut kept.minutes, seconds / 60, MINUTES);
        for one in judged {
            counts.states[usize::from(one.state)].add(one.is_violation);
            counts.bins[usize::from(one.bin)] += 1;
            counts.coordinates_off += u64::from(one.is_off);
            of_all.add(one.is_violation);
        }
        latest(&mut kept.hours, seconds / 3_600, HOURS).merge(of_all);
    }

    /// What the last so many minutes brought, the current one included.
    #[must_use]
    pub fn last(&self, now: SystemTime, minutes: u64) -> TrafficCounts {
        let mut sum = TrafficCounts::default();
        let first = (seconds(now) / 60 + 1).saturating_sub(minutes);
        for (_, counts) in self.lock().minutes.iter().filter(|(minute, _)| *minute >= first) {
            sum.merge(counts);
        }
        sum
    }

    /// The hours of the last day that brought something, the earliest first.
    #[must_use]
    pub fn hours(&self, now: SystemTime) -> Vec<HourCount> {
        let first = (seconds(now) / 3_600 + 1).saturating_sub(HOURS as u64);
        let hour =
            |(hour, count): &(u64, Count)| HourCount { from: UNIX_EPOCH + Duration::from_secs(hour * 3_600), count: *count };
        self.lock().hours.iter().filter(|(hour, _)| *hour >= first).map(hour).collect()
    }

    /// Only counters are in it, so a panic while it was locked spoils at most a number.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

/// The counts of the span with this number. A clock that was set back goes on in the latest span.
fn latest<T: Default>(spans: &mut VecDeque<(u64, T)>, number: u64, most: usize) -> &mut T {
    if spans.back().is_none_or(|(last, _)| *last < number) {
        spans.push_back((number, T::default()));
        let first = (number + 1).saturating_sub(most as u64);
        spans.retain(|(number, _)| *number >= first);
    }
    &mut spans.back_mut().expect("one was pushed if there was none").1
}

impl TrafficCounts {
    /// Bins of speeds: 0 to 5 mph, 6 to 10, and so on, so that a limit that is a multiple of 5 lies between two of them.
    pub const BINS: usize = 41;

    /// The first and the last speed of a bin; the last bin holds all that is faster.
    #[must_use]
    pub fn bin(at: usize) -> (u16, u16) {
        let at = u16::try_from(at).unwrap_or(u16::MAX).min(Self::BINS as u16 - 1);
        let from = if at == 0 { 0 } else { at * BIN_MPH + 1 };
        (from, if usize::from(at) == Self::BINS - 1 { 999 } else { (at + 1) * BIN_MPH })
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.states.iter_mut().zip(&other.states) {
            mine.merge(*theirs);
        }
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            *mine += theirs;
        }
        self.coordinates_off += other.coordinates_off;
    }
}

impl Default for TrafficCounts {
    fn default() -> Self {
        Self { states: [Count::default(); UsState::COUNT + 1], bins: [0; Self::BINS], coordinates_off: 0 }
    }
}

impl Count {
    fn add(&mut self, is_violation: bool) {
        self.events += 1;
        self.violations += u64::from(is_violation);
    }

    /// Adds another count to this one.
    pub fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.violations += other.violations;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::read_reading;

    fn mark(state: &str, longitude: &str, latitude: &str, mph: u16) -> TrafficMark {
        let json = format!(
            r#"{{"iottimestamp":"","licensePlate":"A","longitude":"{longitude}","latitude":"{latitude}","city":"","state":"{state}","speed":{mph}}}"#
        );
        let reading = read_reading(json.as_bytes()).expect("a reading");
        TrafficMark::of(&reading, SpeedMph::new(75).expect("a speed"))
    }

    fn at(minute: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 * 3_600 + minute * 60 + 30)
    }

    #[test]
    fn every_event_counts_once_in_its_state_and_in_its_bin() {
        let traffic = Traffic::default();
        let marks = [
            mark("Iowa", "-93.6", "41.6", 76),
            mark("ia", "101.7", "79.6", 75),
            mark("IA", "east", "1e400", 0),
            mark("Atlantis", "0", "0", 999),
            TrafficMark::default(),
        ];
        traffic.settle(at(0), &marks);
        let counts = traffic.last(at(0), 5);
        let iowa = UsState::named("Iowa").expect("a state").index();
        assert_eq!(counts.states[iowa], Count { events: 3, violations: 1 });
        assert_eq!(counts.states[UsState::COUNT], Count { events: 1, violations: 1 });
        assert_eq!(counts.coordinates_off, 2, "what names no state cannot lie outside it");
        assert_eq!((counts.bins[0], counts.bins[14], counts.bins[15], counts.bins[40]), (1, 1, 1, 1));
        assert_eq!(counts.states.iter().map(|count| count.events).sum::<u64>(), counts.bins.iter().sum::<u64>());
    }

    #[test]
    fn bins_follow_each_other_without_a_gap_and_the_limit_lies_between_two() {
        for at in 1..TrafficCounts::BINS {
            assert_eq!(TrafficCounts::bin(at).0, TrafficCounts::bin(at - 1).1 + 1);
        }
        assert_eq!((TrafficCounts::bin(0), TrafficCounts::bin(14), TrafficCounts::bin(40)), ((0, 5), (71, 75), (201, 999)));
        for mph in [0, 1, 5, 6, 75, 76, 200, 201, 999] {
            let TrafficMark(Some(judged)) = mark("Iowa", "0", "0", mph) else { unreachable!("it was judged") };
            let (from, to) = TrafficCounts::bin(usize::from(judged.bin));
            assert!((from..=to).contains(&mph), "{mph}");
        }
    }

    #[test]
    fn a_window_ends_with_the_current_minute_and_an_hour_is_kept() {
        let traffic = Traffic::default();
        for minute in 0..200 {
            traffic.settle(at(minute), &[mark("Iowa", "0", "0", 80)]);
        }
        let events = |now, minutes| traffic.last(at(now), minutes).bins.iter().sum::<u64>();
        assert_eq!((events(199, 1), events(199, 5), events(199, 60), events(199, 600)), (1, 5, 60, 60));
        assert_eq!((events(204, 5), events(203, 5)), (0, 1), "time goes on while nothing comes");
        assert_eq!(traffic.hours(at(199)).iter().map(|hour| hour.count.events).collect::<Vec<_>>(), [60, 60, 60, 20]);
        assert_eq!(traffic.hours(at(200 + 24 * 60)).len(), 0);
    }

    #[test]
    fn a_clock_that_was_set_back_loses_nothing() {
        let traffic = Traffic::default();
        traffic.settle(at(10), &[mark("Iowa", "0", "0", 80)]);
        traffic.settle(at(3), &[mark("Iowa", "0", "0", 80)]);
        assert_eq!(traffic.last(at(3), 60).states[UsState::named("IA").expect("a state").index()].events, 2);
    }
}
