//! Knowing, and telling, that every kind of lane runs.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use speedtrap_actors::cluster::ClusterView;
use speedtrap_actors::observe::{LaneState, LeaseState, SeenLease};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{ApplicationView, NodeView};
use crate::exit::{Exit, Stop};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Leases of a worker that crashed may take 10 s to expire; whoever waits longer is told for what.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// The file that tells others that the node is ready. Gone when this value is.
pub(crate) struct ReadyFile(Option<PathBuf>);

/// Waits until the node has looked at the leases of every application, has as many as it should, runs a lane for each, and, if
/// it is one of several, stands among them. A node that gets no shard is ready, too.
pub(crate) async fn wait(view: &NodeView, nodes: Option<watch::Receiver<Arc<ClusterView>>>) {
    let is_registered = || nodes.as_ref().is_none_or(|nodes| nodes.borrow().worker(&view.worker).is_some());
    let mut reminded = Instant::now();
    loop {
        let does_not_run = |application: &&ApplicationView| !runs(application, &view.worker);
        let waiting: Vec<_> = view.applications.iter().filter(does_not_run).map(|application| application.role).collect();
        if waiting.is_empty() && is_registered() {
            return;
        }
        if reminded.elapsed() >= REMIND_EVERY {
            reminded = Instant::now();
            tracing::warn!(
                ?waiting,
                registered = is_registered(),
                "not ready yet: these kinds of lane have leases to come or to go, or their lanes fail"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn runs(application: &ApplicationView, worker: &str) -> bool {
    let Some(board) = application.board.snapshot() else { return false };
    let lanes = application.stats.snapshot();
    let is_own = |lease: &&SeenLease| lease.owner.as_deref() == Some(worker) && lease.state == LeaseState::Held;
    let has_lane = |lease: &SeenLease| {
        let lane = lanes.iter().find(|lane| lane.shard == lease.shard);
        lane.is_some_and(|lane| matches!(lane.state, LaneState::Running | LaneState::Draining | LaneState::Ended))
    };
    board.settled && board.leases.iter().filter(is_own).all(has_lane) && lanes.iter().all(|lane| lane.state != LaneState::Backoff)
}

impl ReadyFile {
    /// Removes what an earlier start left there.
    pub(crate) fn at(path: Option<PathBuf>) -> Result<Self, Stop> {
        let file = Self(path);
        if let Some(path) = &file.0 {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file.cannot("remove the old", &error)),
                _ => {}
            }
        }
        Ok(file)
    }

    /// Writes it whole or not at all.
    pub(crate) fn write(&self, name: &str, url: &str) -> Result<(), Stop> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut beside = path.clone().into_os_string();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let text = serde_json::json!({"pid": std::process::id(), "dashboard_url": url, "name": name});
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|error| self.cannot("write the", &error))
    }

    fn cannot(&self, what: &str, why: &std::io::Error) -> Stop {
        let path = self.0.as_deref().unwrap_or_else(|| std::path::Path::new("")).display();
        Stop::new(Exit::Failed, format!("cannot {what} ready file `{path}`"))
            .why(why)
            .next("give --ready-file a path that can be written")
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may never have been written.
            let _absent = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use speedtrap_actors::cluster::{ClusterNode, Presence};
    use speedtrap_actors::domain::ShardId;
    use speedtrap_actors::flow::Pulse;
    use speedtrap_actors::observe::{ActorTable, LaneStats, LeaseBoard};

    use super::*;

    #[test]
    fn the_file_is_whole_and_goes_with_the_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ready.json");
        std::fs::write(&path, "stale").expect("written");
        let file = ReadyFile::at(Some(path.clone())).expect("the stale file is removed");
        assert!(!path.exists());
        file.write("node-1", "http://127.0.0.1:7300").expect("written");
        let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
        assert_eq!((&text["name"], &text["dashboard_url"]), (&"node-1".into(), &"http://127.0.0.1:7300".into()));
        assert_eq!(text["pid"], std::process::id());
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_ready_when_it_has_its_leases_and_runs_a_lane_for_each() {
        let (stats, board, shard) = (LaneStats::default(), LeaseBoard::default(), ShardId::new("shardId-0"));
        let application = ApplicationView { name: "a".into(), role: "enrich", stats: stats.clone(), board: board.clone() };
        let view = NodeView::new("node-1#1", vec![application], ActorTable::default(), None, Pulse::unwatched());
        let (nodes, seen) = watch::channel(Arc::<ClusterView>::default());
        let is_ready = async || tokio::time::timeout(Duration::from_secs(5), wait(&view, Some(seen.clone()))).await.is_ok();
        let lease = |owner: &str| SeenLease {
            shard: shard.clone(),
            owner: Some(owner.to_owned()),
            counter: 1,
            checkpoint: "TRIM_HORIZON".into(),
            parents: Vec::new(),
            children: Vec::new(),
            hash_range: None,
            state: LeaseState::Held,
            counts_for: None,
        };
        let me = ClusterNode {
            name: "node-1".into(),
            worker: "node-1#1".into(),
            address: None,
            dashboard: None,
            roles: Vec::new(),
            draining: false,
            presence: Presence::Here,
            round_trip: None,
            misses: 0,
        };
        nodes.send_replace(Arc::new(ClusterView { nodes: vec![me] }));
        assert!(!is_ready().await, "it has not looked yet");
        board.put_up(vec![lease("node-2#1")], true);
        assert!(is_ready().await, "all leases are another node's");
        board.put_up(vec![lease("node-2#1")], false);
        assert!(!is_ready().await, "it asks for a lease");
        board.put_up(vec![lease("node-1#1")], true);
        assert!(!is_ready().await, "its lane is not there");
        stats.entered(&shard, LaneState::Backoff, Some("gone"));
        assert!(!is_ready().await, "its lane is dead");
        stats.started(&shard, 2);
        assert!(is_ready().await);
        nodes.send_replace(Arc::default());
        assert!(!is_ready().await, "it is not registered");
    }
}
