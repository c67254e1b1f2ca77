//! Knowing, and telling, that every kind of lane runs.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use speedtrap_actors::observe::{LaneSnapshot, LaneState};
use speedtrap_actors::ports::ShardSource;
use tokio::time::Instant;

use crate::api::NodeView;
use crate::exit::{Exit, Stop};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Leases of a node that crashed are free after 10 s; whoever waits longer is told for what.
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// The file that tells others that the node is ready. Gone when this value is.
pub(crate) struct ReadyFile(Option<PathBuf>);

/// Waits until every application has lanes, and all of them run.
pub(crate) async fn wait(view: &NodeView, sources: &[Arc<dyn ShardSource>]) {
    let mut reminded = Instant::now();
    loop {
        let mut waiting = Vec::new();
        for (application, source) in view.applications.iter().zip(sources) {
            let lanes = application.stats.snapshot();
            let runs = if lanes.is_empty() { has_no_shards(source.as_ref()).await } else { all_run(&lanes) };
            if !runs {
                waiting.push(application.role);
            }
        }
        if waiting.is_empty() {
            return;
        }
        if reminded.elapsed() >= REMIND_EVERY {
            reminded = Instant::now();
            tracing::warn!(
                ?waiting,
                "these kinds of lane do not run yet: their leases may be another node's, or their lanes fail"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn all_run(lanes: &[LaneSnapshot]) -> bool {
    lanes.iter().all(|lane| matches!(lane.state, LaneState::Running | LaneState::Ended | LaneState::Closed))
}

/// A table that nobody wrote to yet may have a stream without shards.
async fn has_no_shards(source: &dyn ShardSource) -> bool {
    // Listing is limited to a few calls a second, shared with the assigner.
    tokio::time::sleep(Duration::from_millis(500)).await;
    source.shards().await.is_ok_and(|shards| shards.is_empty())
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
    pub(crate) fn write(&self, name: &str, api: SocketAddr) -> Result<(), Stop> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut beside = path.clone().into_os_string();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let text = serde_json::json!({"pid": std::process::id(), "dashboard_url": format!("http://{api}"), "name": name});
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
    use speedtrap_actors::domain::ShardId;
    use speedtrap_actors::flow::Pulse;
    use speedtrap_actors::observe::{ActorTable, LaneStats, LeaseBoard};

    use super::*;
    use crate::api::ApplicationView;

    #[test]
    fn the_file_is_whole_and_goes_with_the_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ready.json");
        std::fs::write(&path, "stale").expect("written");
        let file = ReadyFile::at(Some(path.clone())).expect("the stale file is removed");
        assert!(!path.exists());
        file.write("node-1", "127.0.0.1:7300".parse().expect("an address")).expect("written");
        let text: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
        assert_eq!((&text["name"], &text["dashboard_url"]), (&"node-1".into(), &"http://127.0.0.1:7300".into()));
        assert_eq!(text["pid"], std::process::id());
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_ready_when_every_application_has_its_lanes_running() {
        let stats = LaneStats::default();
        let application =
            ApplicationView { name: "a".into(), role: "enrich", stats: stats.clone(), board: LeaseBoard::default() };
        let view = NodeView::new("node-1#1", vec![application], ActorTable::default(), None, Pulse::unwatched());
        let source: Arc<dyn ShardSource> = Arc::new(speedtrap_actors::testing::ScriptedShard::new("in", "shardId-0"));
        let soon = Duration::from_secs(5);
        assert!(tokio::time::timeout(soon, wait(&view, std::slice::from_ref(&source))).await.is_err(), "it has no lane");
        stats.entered(&ShardId::new("shardId-0"), LaneState::Backoff, Some("gone"));
        assert!(tokio::time::timeout(soon, wait(&view, std::slice::from_ref(&source))).await.is_err(), "its lane is dead");
        stats.started(&ShardId::new("shardId-0"), 2);
        tokio::time::timeout(soon, wait(&view, &[source])).await.expect("ready");
    }
}
