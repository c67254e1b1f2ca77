//! What a run did, for people and programs.

use std::io::Write;

use serde::Serialize;

/// Rows kept one by one; a file of another kind may have millions of bad ones, and all are counted.
const MAX_LISTED: usize = 1_000;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Data rows met in the file, the rejected among them.
    pub(crate) rows: u64,
    /// Readings found in the outbox at the start, left over from an earlier run.
    pub(crate) left_over: u64,
    /// Readings brought to disk.
    pub(crate) queued: u64,
    /// Readings handed to a connection at least once, those left over among them.
    pub(crate) published: u64,
    /// Readings the broker has acknowledged.
    pub(crate) acknowledged: u64,
    /// Readings that may have reached the broker and were sent again after a lost connection.
    pub(crate) repeats: u64,
    /// Connections that the broker accepted.
    pub(crate) connections: u64,
    /// Readings still in the outbox; they go out at the next start.
    pub(crate) waiting: u64,
    /// Oldest readings given up because the outbox was full.
    pub(crate) dropped: u64,
    /// Readings in the outbox that could not be read back.
    pub(crate) damaged: u64,
    /// All rejected rows, also those not listed.
    pub(crate) rejected: u64,
    /// The first 1,000 of them.
    pub(crate) rejected_rows: Vec<RejectedRow>,
    pub(crate) seconds: f64,
    /// Why the run ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct RejectedRow {
    /// Counted from 1, the header's line.
    pub(crate) line: u64,
    pub(crate) reason: String,
}

impl Report {
    pub(crate) fn reject(&mut self, row: RejectedRow) {
        self.rejected += 1;
        if self.rejected_rows.len() < MAX_LISTED {
            self.rejected_rows.push(row);
        }
    }

    pub(crate) fn print(&self, json: bool) {
        // In words the error stands alone on standard error; counts of nothing would only hide it.
        if !json && self.error.is_some() && self.rows + self.left_over == 0 {
            return;
        }
        let text = if json { serde_json::to_string(self).unwrap_or_default() } else { self.in_words() };
        // A reader that has gone away is not worth another error.
        drop(writeln!(std::io::stdout(), "{text}"));
    }

    fn in_words(&self) -> String {
        let per_second = if self.seconds > 0.0 { self.acknowledged as f64 / self.seconds } else { 0.0 };
        let mut text = format!(
            "{} rows read: {} published, {} acknowledged, {} rejected, {} sent again; {:.1} s, {per_second:.0} readings/s",
            self.rows, self.published, self.acknowledged, self.rejected, self.repeats, self.seconds
        );
        for (n, what) in [
            (self.left_over, "left over from an earlier run"),
            (self.waiting, "waiting in the outbox for the next start"),
            (self.dropped, "dropped because the outbox was full"),
            (self.damaged, "damaged in the outbox and lost"),
        ] {
            if n > 0 {
                text.push_str(&format!("\n  {n} readings {what}"));
            }
        }
        for row in self.rejected_rows.iter().take(20) {
            text.push_str(&format!("\n  line {}: {}", row.line, row.reason));
        }
        if self.rejected > 20 {
            text.push_str(&format!("\n  and {} more (--json lists up to {MAX_LISTED})", self.rejected - 20));
        }
        text
    }
}
