//! Where the events of the last minutes came from, and how fast they were: what the map shows.
//!
//! Every node counts the events that its own enrich lanes have settled; the page adds all nodes up. A node that was started again
//! begins at nothing, and one that is silent counts with its last answer, if that is not older than the window.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use speedtrap_actors::domain::UsState;
use speedtrap_actors::observe::{Count, TrafficCounts};

use super::cluster::{Answer, Api, Heard};
use super::pages::time;
use super::problem::Problem;
use super::shards::{SilentNode, silent};
use super::{ApplicationView, NodeView};

/// How far back the map looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(super) enum Window {
    #[serde(rename = "5m")]
    FiveMinutes,
    #[default]
    #[serde(rename = "15m")]
    QuarterHour,
    #[serde(rename = "1h")]
    Hour,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    window: Window,
}

/// What one node counted, as nodes ask it of each other.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TrafficPage {
    /// Null where no enrich lane runs.
    limit_mph: Option<u16>,
    /// By postal code; states without events are left out.
    states: BTreeMap<String, CountPage>,
    state_unknown: CountPage,
    coordinates_off: u64,
    /// Events by bin of speed.
    bins: Vec<u64>,
    /// By the beginning of the hour.
    hours: BTreeMap<String, CountPage>,
}

impl Answer for TrafficPage {}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CountPage {
    events: u64,
    violations: u64,
}

/// `GET /api/v1/map`.
#[derive(Debug, Serialize)]
pub(super) struct MapPage {
    schema: u32,
    served_by: String,
    at: String,
    /// The current minute and the full ones before it.
    window_s: u64,
    /// All readings judged and settled: those of all states and of none.
    events: u64,
    violations: u64,
    states: Vec<StateRow>,
    /// Events whose state is neither the name nor the postal code of one.
    state_unknown: CountPage,
    /// Events whose coordinates certainly lie outside the state that they name, or are none.
    coordinates_off: u64,
    histogram: Histogram,
    /// Full hours by the clock of the last day, and the current one, whatever the window; those without events are left out.
    hours: Vec<HourRow>,
    silent: Vec<SilentNode>,
}

#[derive(Debug, Serialize)]
struct StateRow {
    state: &'static str,
    name: &'static str,
    events: u64,
    violations: u64,
}

#[derive(Debug, Serialize)]
struct Histogram {
    limit_mph: Option<u16>,
    bins: Vec<Bin>,
}

/// Events from one speed to another, both included.
#[derive(Debug, Serialize)]
struct Bin {
    from: u16,
    to: u16,
    events: u64,
}

#[derive(Debug, Serialize)]
struct HourRow {
    from: String,
    events: u64,
    violations: u64,
}

/// The events of all nodes.
pub(super) async fn map(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<MapPage>, Problem> {
    let Query(Wanted { window }) = wanted.map_err(|error| {
        let detail = format!("{}; there are the windows 5m, 15m and 1h", error.body_text());
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail)
    })?;
    let heard: Vec<Heard<TrafficPage>> = api.hear(window.page()).await;
    Ok(Json(MapPage::of(&api.node.name, window, heard)))
}

impl Window {
    const ALL: [Self; 3] = [Self::FiveMinutes, Self::QuarterHour, Self::Hour];

    /// The window that a page of a node is about.
    pub(super) fn of_page(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.page() == name)
    }

    fn page(self) -> &'static str {
        match self {
            Self::FiveMinutes => "traffic-5m",
            Self::QuarterHour => "traffic-15m",
            Self::Hour => "traffic-1h",
        }
    }

    fn minutes(self) -> u64 {
        match self {
            Self::FiveMinutes => 5,
            Self::QuarterHour => 15,
            Self::Hour => 60,
        }
    }
}

impl TrafficPage {
    pub(super) fn of(view: &NodeView, window: Window) -> Self {
        let (now, mut page) = (SystemTime::now(), Self { limit_mph: view.limit_mph, ..Self::default() });
        for ApplicationView { stats, .. } in &view.applications {
            page.add_counts(&stats.traffic().last(now, window.minutes()));
            for hour in stats.traffic().hours(now) {
                page.hours.entry(time(hour.from)).or_default().add(hour.count.into());
            }
        }
        page
    }

    fn add_counts(&mut self, counts: &TrafficCounts) {
        for (state, count) in UsState::all().zip(counts.states).filter(|(_, count)| count.events > 0) {
            self.states.entry(state.code().to_owned()).or_default().add(count.into());
        }
        self.state_unknown.add(counts.states[UsState::COUNT].into());
        self.coordinates_off += counts.coordinates_off;
        self.add_bins(&counts.bins);
    }

    fn add_bins(&mut self, bins: &[u64]) {
        self.bins.resize(TrafficCounts::BINS, 0);
        for (mine, theirs) in self.bins.iter_mut().zip(bins) {
            *mine += theirs;
        }
    }

    fn add(&mut self, other: &Self) {
        self.limit_mph = self.limit_mph.or(other.limit_mph);
        for (all, one) in [(&mut self.states, &other.states), (&mut self.hours, &other.hours)] {
            for (name, count) in one {
                all.entry(name.clone()).or_default().add(*count);
            }
        }
        self.state_unknown.add(other.state_unknown);
        self.coordinates_off += other.coordinates_off;
        self.add_bins(&other.bins);
    }
}

impl MapPage {
    fn of(served_by: &str, window: Window, heard: Vec<Heard<TrafficPage>>) -> Self {
        let (span, mut sum) = (Duration::from_secs(window.minutes() * 60), TrafficPage::default());
        for page in heard.iter().filter(|heard| heard.age < span).filter_map(|heard| heard.page.as_ref()) {
            sum.add(page);
        }
        sum.bins.resize(TrafficCounts::BINS, 0);
        let mut all = sum.state_unknown;
        let states = UsState::all().map(|state| {
            let count = sum.states.get(state.code()).copied().unwrap_or_default();
            all.add(count);
            StateRow { state: state.code(), name: state.name(), events: count.events, violations: count.violations }
        });
        let states = states.collect();
        let bin = |(at, events): (usize, &u64)| {
            let (from, to) = TrafficCounts::bin(at);
            Bin { from, to, events: *events }
        };
        let hour = |(from, count): (String, CountPage)| HourRow { from, events: count.events, violations: count.violations };
        Self {
            schema: 1,
            served_by: served_by.to_owned(),
            at: time(SystemTime::now()),
            window_s: span.as_secs(),
            events: all.events,
            violations: all.violations,
            states,
            state_unknown: sum.state_unknown,
            coordinates_off: sum.coordinates_off,
            histogram: Histogram { limit_mph: sum.limit_mph, bins: sum.bins.iter().enumerate().map(bin).collect() },
            hours: sum.hours.into_iter().map(hour).collect(),
            silent: silent(&heard),
        }
    }
}

impl CountPage {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.violations += other.violations;
    }
}

impl From<Count> for CountPage {
    fn from(count: Count) -> Self {
        Self { events: count.events, violations: count.violations }
    }
}
