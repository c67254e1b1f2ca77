//! A file of timed edges in place of the button: any bouncing can be played again, to the millisecond.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::{EdgeKind, Edges, Trigger, spawn_thread};
use crate::failure::Failure;

const MAX_BYTES: u64 = 16 * 1024 * 1024;

pub(super) struct Script {
    edges: Vec<(Duration, EdgeKind)>,
    /// Dropped with the trigger, which ends the thread.
    stop: Option<mpsc::Sender<()>>,
}

impl Script {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::BadInput {
            what: format!("the script `{}` of --trigger-script cannot be played: {why}", path.display()),
        };
        if std::fs::metadata(path).map_err(|e| failed(&e))?.len() > MAX_BYTES {
            return Err(failed(&format!("it has more than {MAX_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
        let edges = parse(&text).map_err(|why| failed(&why))?;
        Ok(Self { edges, stop: None })
    }
}

/// Empty lines, and what follows a `#`, are for people.
fn parse(text: &str) -> Result<Vec<(Duration, EdgeKind)>, String> {
    let mut edges = Vec::new();
    let mut last = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let words = line.split_once(char::is_whitespace).and_then(|(ms, kind)| {
            let kind = match kind.trim() {
                "down" => EdgeKind::Down,
                "up" => EdgeKind::Up,
                _ => return None,
            };
            Some((ms.parse::<u32>().ok()?, kind))
        });
        let Some((ms, kind)) = words else {
            return Err(format!("line {number} is not `MILLISECONDS down` or `MILLISECONDS up`"));
        };
        if ms < last {
            return Err(format!("line {number} is earlier than the line before it"));
        }
        last = ms;
        edges.push((Duration::from_millis(ms.into()), kind));
    }
    Ok(edges)
}

impl Trigger for Script {
    fn start(&mut self, mut edges: Edges) -> Result<(), Failure> {
        let script = std::mem::take(&mut self.edges);
        let (stop, stopped) = mpsc::channel();
        self.stop = Some(stop);
        spawn_thread("script", move || {
            let start = Instant::now();
            for (offset, kind) in script {
                // The edge has the script's time even if this thread is late, so bouncing looks the same on a busy machine.
                let at = start + offset;
                let ended = stopped.recv_timeout(at.saturating_duration_since(Instant::now()));
                if ended == Err(mpsc::RecvTimeoutError::Disconnected) || !edges.report(kind, at) {
                    return;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_and_faults_are_named_by_line() {
        let ms = Duration::from_millis;
        let edges = parse("# a press\n0 down\n\n 7\tup # bounces\n7 down\n").unwrap();
        assert_eq!(edges, [(ms(0), EdgeKind::Down), (ms(7), EdgeKind::Up), (ms(7), EdgeKind::Down)]);
        for (text, named) in
            [("0 down\nup 3", "line 2"), ("5 down\n\n4 up", "line 3"), ("0 sideways", "line 1"), ("-1 up", "line 1")]
        {
            assert!(parse(text).unwrap_err().contains(named), "{text}");
        }
    }
}
