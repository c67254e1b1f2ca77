//! What `speedtrap-device selftest` looks at, from the files in front of it to the broker far away.

mod broker;
mod files;
mod network;
mod place;

use serde::Serialize;

pub(crate) use broker::connect_and_echo;
pub(crate) use files::check_files;
pub(crate) use network::reach;
pub(crate) use place::{check_clock, check_outbox};

/// Everything looked at, in the order of looking.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Checks {
    pub(crate) checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// What was looked at, such as `dns`.
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found, or what is wrong.
    pub(crate) what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// Works today.
    Warn,
    Fail,
    /// Could not be looked at, since something before it failed.
    Skipped,
}

impl Checks {
    pub(crate) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(check, Verdict::Ok, what, None);
    }

    pub(crate) fn warn(&mut self, check: &'static str, what: impl Into<String>, next: impl Into<String>) {
        self.add(check, Verdict::Warn, what, Some(next.into()));
    }

    pub(crate) fn fail(&mut self, check: &'static str, what: impl Into<String>, next: impl Into<String>) {
        self.add(check, Verdict::Fail, what, Some(next.into()));
    }

    pub(crate) fn skip(&mut self, checks: &[&'static str], why: &str) {
        for check in checks {
            self.add(check, Verdict::Skipped, why, None);
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == Verdict::Fail)
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, what: impl Into<String>, next: Option<String>) {
        self.checks.push(Check { check, verdict, what: what.into(), next });
    }

    /// A line for each check, and one more for what to do next.
    pub(crate) fn in_words(&self) -> String {
        let line = |check: &Check| {
            let verdict = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "fail",
                Verdict::Skipped => "skipped",
            };
            let next = check.next.as_ref().map_or_else(String::new, |next| format!("\n{:21}next: {next}", ""));
            format!("{verdict:<8} {:<12}{}{next}\n", check.check, check.what)
        };
        self.checks.iter().map(line).collect()
    }
}
