//! Plain tables and the words of numbers.

use std::io::IsTerminal;

use comfy_table::{Table, presets};

/// A table without lines, one row a line, so that `grep`, `sort` and `awk` can read it.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// A number that may be unknown.
pub(crate) fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

/// A span of milliseconds that may be unknown.
pub(crate) fn span_ms(value: Option<u64>) -> String {
    match value {
        None => "unknown".to_owned(),
        Some(ms @ 0..1_000) => format!("{ms} ms"),
        Some(ms @ 1_000..120_000) => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        Some(ms) => format!("{} min", ms / 60_000),
    }
}

/// A span of whole seconds.
pub(crate) fn span_s(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A text in a colour, if standard output is a terminal that wants it.
pub(crate) fn tinted(text: &str, good: bool) -> String {
    if std::io::stdout().is_terminal() && !crate::config::no_colour() {
        let colour = if good { 32 } else { 31 };
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_never_shown_as_zero() {
        assert_eq!((number(None), number(Some(0)), span_ms(None)), ("unknown".into(), "0".into(), "unknown".into()));
        assert_eq!([999, 1_000, 61_550, 180_000].map(|ms| span_ms(Some(ms))), ["999 ms", "1.0 s", "61.5 s", "3 min"]);
        assert_eq!([0, 119, 7_199, 7_200, 172_800].map(span_s), ["0 s", "119 s", "119 min", "2 h", "2 days"]);
    }
}
