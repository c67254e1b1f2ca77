//! The live data of the dashboard: one frame a second while somebody watches, made once for all who do, and one more as soon as a
//! node is seen to come or go.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use futures::stream::unfold;
use serde::Serialize;
use speedtrap_actors::cluster::{ClusterView, Presence};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::cluster::Api;
use super::node_view::{LANES, STATUS};
use super::pages::{ActorPage, time};
use super::problem::Problem;
use super::{ClusterActorsPage, ClusterStatusPage, Kpis, NodesPage, RestartPage, ShardsPage, SilentNode};

use crate::findings::Finding;

/// How often a frame is made.
const PERIOD: Duration = Duration::from_secs(1);
/// Streams open at a time.
const MOST_WATCHERS: usize = 64;

/// What all who watch share.
pub(super) struct Feed {
    frames: Mutex<watch::Sender<Option<Arc<Frame>>>>,
    /// Which run of the program the numbers of the frames belong to.
    pub(super) epoch: String,
}

/// One second of the cluster.
struct Frame {
    seq: u64,
    at: String,
    epoch: String,
    pages: Pages,
    /// Everything; made for the first one who needs it.
    whole: OnceLock<String>,
    /// What has changed since the frame before.
    delta: String,
}

/// What all nodes said of the same moment.
struct Pages {
    status: ClusterStatusPage,
    nodes: NodesPage,
    shards: ShardsPage,
    actors: ClusterActorsPage,
}

#[derive(Serialize)]
struct FrameBody<'a> {
    schema: u32,
    epoch: &'a str,
    seq: u64,
    full: bool,
    at: &'a str,
    status: &'a ClusterStatusPage,
    findings: &'a [Finding],
    notes: &'a [Finding],
    kpis: &'a Kpis,
    nodes: &'a NodesPage,
    shards: &'a ShardsPage,
    actors: Rows<'a>,
    restarts: &'a [RestartPage],
    silent: &'a [SilentNode],
}

#[derive(Serialize)]
struct Rows<'a> {
    rows: Vec<&'a ActorPage>,
    removed: Vec<&'a str>,
}

impl Feed {
    /// Nobody watches yet.
    pub(super) fn new(worker: &str) -> Self {
        Self { frames: Mutex::new(watch::Sender::new(None)), epoch: format!("{worker}-{}", std::process::id()) }
    }

    /// Joins those who watch; the first one starts the frames. `None` if there are too many.
    fn join(&self, api: &Arc<Api>) -> Option<watch::Receiver<Option<Arc<Frame>>>> {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let watchers = frames.receiver_count();
        if watchers >= MOST_WATCHERS {
            return None;
        }
        if watchers == 0 {
            // A maker that has not noticed yet that nobody watched keeps its own channel, and ends.
            *frames = watch::Sender::new(None);
            let watcher = frames.subscribe();
            let (cost, frames) = (Arc::clone(&api.node.cost), frames.clone());
            let making = make(Arc::clone(api), self.epoch.clone(), frames);
            tokio::spawn(async move { cost.of(making).await });
            return Some(watcher);
        }
        Some(frames.subscribe())
    }
}

/// How each node is seen, and whether that is news: a dead one is not to wait for the next frame.
struct Nodes {
    view: watch::Receiver<Arc<ClusterView>>,
    seen: Vec<(String, Presence)>,
}

impl Nodes {
    fn of(mut view: watch::Receiver<Arc<ClusterView>>) -> Self {
        let seen = presences(&view.borrow_and_update());
        Self { view, seen }
    }

    /// Ends when one is seen otherwise. Round trips change all the time, and are no news.
    async fn changed(&mut self) {
        loop {
            if self.view.changed().await.is_err() {
                // A node without others.
                return std::future::pending().await;
            }
            let now = presences(&self.view.borrow_and_update());
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

fn presences(view: &ClusterView) -> Vec<(String, Presence)> {
    view.nodes.iter().map(|node| (node.worker.clone(), node.presence)).collect()
}

/// Makes frames until nobody watches.
async fn make(api: Arc<Api>, epoch: String, frames: watch::Sender<Option<Arc<Frame>>>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<Arc<Frame>> = None;
    let mut nodes = Nodes::of(api.view.clone());
    let mut seq = 0;
    loop {
        tokio::select! {
            () = frames.closed() => return,
            _ = ticks.tick() => {}
            () = nodes.changed() => {}
        }
        seq += 1;
        api.watch.letters.count(api.letters.as_ref());
        let (statuses, lanes, actors) = tokio::join!(api.hear(STATUS), api.hear(LANES), api.cluster_actors());
        let status = api.status_of(statuses, &lanes);
        let pages = Pages { status, nodes: api.nodes_of(&lanes), shards: api.shards_of(&lanes), actors };
        let frame = Arc::new(Frame::of(&epoch, seq, pages, before.as_deref()));
        before = Some(Arc::clone(&frame));
        frames.send_replace(Some(frame));
    }
}

impl Frame {
    fn of(epoch: &str, seq: u64, pages: Pages, before: Option<&Self>) -> Self {
        let (at, epoch) = (time(SystemTime::now()), epoch.to_owned());
        let mut frame = Self { seq, at, epoch, pages, whole: OnceLock::new(), delta: String::new() };
        let earlier = before.map(|frame| frame.pages.actors.rows.as_slice()).unwrap_or_default();
        let known: HashMap<&str, &ActorPage> = earlier.iter().map(|row| (row.name.as_str(), row)).collect();
        let now = &frame.pages.actors.rows;
        let names: HashSet<&str> = now.iter().map(|row| row.name.as_str()).collect();
        let removed = earlier.iter().map(|row| row.name.as_str()).filter(|name| !names.contains(name)).collect();
        let is_news = |row: &&ActorPage| known.get(row.name.as_str()).is_none_or(|before| !before.is_like(row));
        frame.delta = frame.body(false, Rows { rows: now.iter().filter(is_news).collect(), removed });
        frame
    }

    fn whole(&self) -> &str {
        self.whole.get_or_init(|| self.body(true, Rows { rows: self.pages.actors.rows.iter().collect(), removed: Vec::new() }))
    }

    fn body(&self, full: bool, rows: Rows<'_>) -> String {
        let Pages { status, nodes, shards, actors } = &self.pages;
        let body = FrameBody {
            schema: 1,
            epoch: &self.epoch,
            seq: self.seq,
            full,
            at: &self.at,
            status,
            findings: &status.findings,
            notes: &status.notes,
            kpis: &status.kpis,
            nodes,
            shards,
            actors: rows,
            restarts: &actors.restarts,
            silent: &actors.silent,
        };
        serde_json::to_string(&body).expect("names and numbers can always be written")
    }
}

/// `GET /api/v1/stream`: `snapshot` first and after a gap, else `delta`; who is slow gets the latest only.
pub(super) async fn stream(State(api): State<Arc<Api>>) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Some(mut watcher) = api.feed.join(&api) else {
        let detail = format!("{MOST_WATCHERS} streams are open; close one, or ask another node");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail));
    };
    // Who comes second need not wait for the next frame.
    watcher.mark_changed();
    let epoch = api.feed.epoch.clone();
    let events = unfold((watcher, 0), move |(mut watcher, last)| {
        let epoch = epoch.clone();
        async move {
            loop {
                watcher.changed().await.ok()?;
                let Some(frame) = watcher.borrow_and_update().clone() else { continue };
                let follows = last != 0 && frame.seq == last + 1;
                let (name, data) = if follows { ("delta", frame.delta.as_str()) } else { ("snapshot", frame.whole()) };
                let event = Event::default().event(name).id(format!("{epoch}-{}", frame.seq)).data(data);
                return Some((Ok(event), (watcher, frame.seq)));
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::cluster::ClusterNode;
    use tokio::time::timeout;

    use super::*;

    fn view(presence: Presence, round_trip_ms: u64) -> Arc<ClusterView> {
        let node = ClusterNode {
            name: "n2".to_owned(),
            worker: "n2#1".to_owned(),
            address: None,
            dashboard: None,
            roles: Vec::new(),
            draining: false,
            presence,
            round_trip: Some(Duration::from_millis(round_trip_ms)),
            misses: 0,
        };
        Arc::new(ClusterView { nodes: vec![node] })
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_seen_otherwise_is_news_once_and_its_round_trip_is_none() {
        let (views, seen) = watch::channel(view(Presence::Linked, 1));
        let mut nodes = Nodes::of(seen);
        let mut is_news = async |next: Option<Arc<ClusterView>>| {
            next.into_iter().for_each(|next| drop(views.send_replace(next)));
            timeout(Duration::from_secs(1), nodes.changed()).await.is_ok()
        };
        assert!(!is_news(None).await);
        assert!(!is_news(Some(view(Presence::Linked, 2))).await);
        assert!(is_news(Some(view(Presence::Suspect, 2))).await);
        assert!(!is_news(None).await);
        assert!(is_news(Some(view(Presence::Dead, 2))).await);
        drop(views);
        assert!(timeout(Duration::from_secs(1), nodes.changed()).await.is_err(), "there is nobody left to come");
    }
}
