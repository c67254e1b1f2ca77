//! Tumbling windows on the time of arrival (pure).

use std::time::{Duration, SystemTime};

/// One window: its start belongs to it, its end to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
}

impl Window {
    /// The window that a time falls into. Windows of all runs lie alike: the first began in 1970, UTC.
    pub(crate) fn around(time: SystemTime, length: Duration) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let past = Duration::from_nanos(u64::try_from(since % length.as_nanos().max(1)).unwrap_or_default());
        let start = time.checked_sub(past).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { start, end: start + length }
    }

    /// The one after it.
    pub(crate) fn next(self) -> Self {
        let length = self.end.duration_since(self.start).unwrap_or_default();
        Self { start: self.end, end: self.end + length }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", shown(self.start), shown(self.end))
    }
}

/// A time as all outputs write it.
pub(crate) fn shown(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<jiff::Timestamp>().expect("a time").into()
    }

    #[test]
    fn windows_lie_on_whole_lengths_since_1970_and_leave_no_gap() {
        let ten = Duration::from_secs(10);
        let window = Window::around(at("2026-01-01T12:00:07.5Z"), ten);
        assert_eq!(window.to_string(), "2026-01-01T12:00:00.000Z to 2026-01-01T12:00:10.000Z");
        assert_eq!(window.next().start, window.end);
        assert_eq!(Window::around(window.end, ten), window.next(), "an end belongs to the next one");
        assert_eq!(Window::around(window.start, ten), window);
        assert_eq!(Window::around(at("2026-01-01T12:00:07Z"), Duration::from_secs(3_600)).start, at("2026-01-01T12:00:00Z"));
    }
}
