//! How long the shards stood still: spans between successive records of one in-stream shard on the out-stream, by the stream's
//! own clock. Half the readings are published, several a second and shard, so what is measured is the pause and at most one
//! poll interval.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use crate::evidence::Evidence;
use crate::traffic::Sent;

/// When something of each in-stream shard was published.
#[derive(Debug, Default)]
pub struct Pauses {
    arrivals: BTreeMap<String, Vec<SystemTime>>,
}

/// The middle and the longest of some spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    pub count: usize,
    pub p50: Duration,
    pub max: Duration,
}

impl Pauses {
    /// Sorts what was published by the shard that it came in on.
    #[must_use]
    pub fn of(sent: &[Sent], found: &Evidence) -> Self {
        let shards: BTreeMap<&str, &str> =
            sent.iter().map(|reading| (reading.event_id.as_str(), reading.shard.as_str())).collect();
        let mut arrivals = BTreeMap::<String, Vec<SystemTime>>::new();
        for arrival in &found.arrivals {
            if let Some(shard) = shards.get(arrival.event_id.as_str()) {
                arrivals.entry((*shard).to_owned()).or_default().push(arrival.at);
            }
        }
        arrivals.values_mut().for_each(|times| times.sort());
        Self { arrivals }
    }

    /// The longest pause of a shard that touches a time span.
    #[must_use]
    pub fn longest(&self, shard: &str, from: SystemTime, to: SystemTime) -> Option<Duration> {
        let times = self.arrivals.get(shard)?;
        times
            .windows(2)
            .filter(|pair| pair[0] <= to && pair[1] >= from)
            .filter_map(|pair| pair[1].duration_since(pair[0]).ok())
            .max()
    }

    /// The shards that anything came from.
    pub fn shards(&self) -> impl Iterator<Item = &str> {
        self.arrivals.keys().map(String::as_str)
    }
}

impl Spread {
    /// Looks at spans.
    #[must_use]
    pub fn of(spans: impl IntoIterator<Item = Duration>) -> Self {
        let mut spans: Vec<Duration> = spans.into_iter().collect();
        spans.sort_unstable();
        let p50 = spans.get(spans.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        Self { count: spans.len(), p50, max: spans.last().copied().unwrap_or_default() }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {} ms, max {} ms of {}", self.p50.as_millis(), self.max.as_millis(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_if_it_touches_the_span() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let pauses = Pauses { arrivals: [("one".to_owned(), vec![at(0), at(200), at(1_700), at(1_800)])].into() };
        assert_eq!(pauses.longest("one", at(900), at(900)), Some(Duration::from_millis(1_500)));
        assert_eq!(pauses.longest("one", at(1_750), at(5_000)), Some(Duration::from_millis(100)));
        assert_eq!(pauses.longest("one", at(5_000), at(6_000)), None);
        let spread = Spread::of([300, 100, 200, 900].map(Duration::from_millis));
        assert_eq!((spread.count, spread.p50, spread.max), (4, Duration::from_millis(200), Duration::from_millis(900)));
    }
}
