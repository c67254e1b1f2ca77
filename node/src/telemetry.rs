//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Starts logging, and logs panics in place of printing them.
pub(crate) fn start(log: &LogConfig) {
    let filter = EnvFilter::new(directives(log.level));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let human = match log.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    // A second start (in tests) keeps the first one's settings.
    let _already_started = if human {
        lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(message, place, "panicked");
    }));
}

/// Only our own lines may be finer than `info`: ractor_cluster and the AWS SDK put whole payloads, with names and telephone
/// numbers, into their debug lines.
fn directives(level: LogLevel) -> String {
    let (own, libraries) = match level {
        LogLevel::Error => ("error", "error"),
        LogLevel::Warn => ("warn", "warn"),
        LogLevel::Info => ("info", "warn"),
        LogLevel::Debug => ("debug", "info"),
        LogLevel::Trace => ("trace", "info"),
    };
    // aws_config warns with whole HTTP answers where a machine has no role; the same shows as an error of the first call.
    // ractor_cluster warns of every session that ends and every remote actor that goes; links are logged by their owner.
    format!("{libraries},aws_config=error,ractor_cluster=error,speedtrap={own},speedtrap_actors={own}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_never_log_payloads() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            let libraries = directives(level).split(',').next().map(str::to_owned);
            assert!(["error", "warn", "info"].map(|level| Some(level.to_owned())).contains(&libraries), "{level:?}");
        }
    }
}
