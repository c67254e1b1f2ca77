//! Where the outbox lies and how large it may grow.

use std::env;
use std::path::PathBuf;

use super::{Outbox, OutboxError};
use crate::config::ConnectionArgs;

#[derive(clap::Args)]
pub(crate) struct OutboxArgs {
    /// Folder that keeps readings until they are acknowledged, one for each device. Default: a folder named after client id
    /// and broker in $STATE_DIRECTORY (systemd), $XDG_STATE_HOME/speedtrap-device or ~/.local/state/speedtrap-device.
    #[arg(long, value_name = "DIR")]
    outbox: Option<PathBuf>,
    /// MiB that unsent readings may take on disk, about 3,600 readings each; a full outbox drops its oldest eighth, and
    /// counts and reports it.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536), value_name = "MIB")]
    outbox_max: u64,
}

impl OutboxArgs {
    pub(crate) fn open(&self, broker: &ConnectionArgs) -> Result<Outbox, OutboxError> {
        Outbox::open(&self.folder(broker)?, self.outbox_max * 1024 * 1024)
    }

    pub(crate) fn folder(&self, broker: &ConnectionArgs) -> Result<PathBuf, OutboxError> {
        match &self.outbox {
            Some(folder) => Ok(folder.clone()),
            None => Ok(state_folder().ok_or(OutboxError::NoPlace)?.join(folder_name(broker))),
        }
    }
}

fn state_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let in_home = || set("HOME").map(|home| home.join(".local/state"));
    set("STATE_DIRECTORY").or_else(|| set("XDG_STATE_HOME").or_else(in_home).map(|state| state.join("speedtrap-device")))
}

/// What was pressed for one broker never goes to another. A client id may hold what a file name may not.
fn folder_name(broker: &ConnectionArgs) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '.' }).take(60).collect()
    };
    let exact = format!("{}@{}:{}", broker.client_id, broker.endpoint, broker.port);
    format!("{}@{}-{:08x}", plain(&broker.client_id), plain(&broker.endpoint), crc32fast::hash(exact.as_bytes()))
}
