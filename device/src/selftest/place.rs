//! What the machine must have: a clock that can be believed, and room for the outbox.

use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Access, access, statvfs};

use super::Checks;

/// No machine that runs this program has a clock before this; a Pi without network may begin in 1970.
const EARLIEST: &str = "2026-01-01T00:00:00Z";

/// Some 200,000 readings; below it somebody should look at the disk.
const LITTLE_SPACE_MIB: u64 = 64;

/// `synchronised` is what the kernel says of its clock.
pub(crate) fn check_clock(now: Timestamp, synchronised: bool, checks: &mut Checks) {
    let shown = now.strftime("%Y-%m-%d %H:%M:%S");
    let earliest = EARLIEST.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    if now < earliest {
        let next = "connect to a network with a time server, or set it: date -u -s 'YYYY-MM-DD HH:MM:SS'";
        checks.fail("clock", format!("it is {shown} UTC here, which is long over: no certificate will be good"), next);
    } else if synchronised {
        checks.ok("clock", format!("{shown} UTC, kept by a time service"));
    } else {
        let next = "start one: systemctl enable --now systemd-timesyncd; events say until then that their time is not sure";
        checks.warn("clock", format!("{shown} UTC, but no time service keeps it"), next);
    }
}

/// Looks only: what waits in the outbox stays as it is, and another process may be using it.
pub(crate) fn check_outbox(folder: &Path, checks: &mut Checks) {
    let shown = folder.display();
    // What does not exist yet is made in the nearest folder that does.
    let existing = folder.ancestors().find(|path| path.exists() || path.as_os_str().is_empty()).unwrap_or(folder);
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let next = "give another folder as --outbox, or make this one the user's that runs the device";
    if !existing.is_dir() {
        checks.fail("outbox", format!("`{}` is no folder, so `{shown}` cannot be the outbox", existing.display()), next);
    } else if let Err(e) = access(existing, Access::WRITE_OK | Access::EXEC_OK) {
        checks.fail("outbox", format!("`{}` cannot be written to ({e}), so no reading could be kept", existing.display()), next);
    } else {
        let free = statvfs(existing).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) / (1024 * 1024));
        if free < LITTLE_SPACE_MIB {
            checks.warn(
                "outbox",
                format!("`{shown}` can be written to, but only {free} MiB are free there"),
                "make room on the disk",
            );
        } else {
            checks.ok("outbox", format!("`{shown}` can be written to"));
        }
    }
}
