//! What a node does only because a test of the dashboard wants it: actors that do not exist, and actors that freeze.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use speedtrap_actors::observe::{ActorTable, Spot, SyntheticActors};
use tokio::task::JoinSet;
use tokio::time::interval;

/// Between two looks for the name of an actor.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Hidden arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct ForTests {
    /// Shows so many actors that do not exist.
    #[arg(long, hide = true, value_name = "N", default_value_t = 0)]
    synthetic_actors: usize,
    /// Freezes the running actor whose path stands in this file, and then takes the file away.
    #[arg(long, hide = true, value_name = "FILE")]
    freeze: Option<PathBuf>,
}

impl ForTests {
    /// Does it until what this returns is dropped.
    pub(crate) fn begin(self, actors: &ActorTable, node: &str) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if self.synthetic_actors > 0 {
            tasks.spawn(show(actors.add_synthetic(&Spot::root("NodeSupervisor", node), self.synthetic_actors)));
        }
        if let Some(file) = self.freeze {
            tasks.spawn(freeze(actors.clone(), file));
        }
        tasks
    }
}

/// Something changes each second, as it does on a page of actors that exist.
async fn show(mut actors: SyntheticActors) {
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        actors.work();
    }
}

async fn freeze(actors: ActorTable, file: PathBuf) {
    let mut ticks = interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        if let Some(path) = named(&file)
            && actors.freeze(&path)
        {
            tracing::warn!(actor = path, "frozen for a test");
            // Whoever wrote it sees by that that it has happened.
            let _gone_already = std::fs::remove_file(&file);
        }
    }
}

fn named(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}
