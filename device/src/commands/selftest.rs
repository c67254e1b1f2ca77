//! `speedtrap-device selftest`: looks at everything between a press and the broker, and says what is wrong in words.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use crate::clock;
use crate::config::{ConnectionArgs, topic};
use crate::outbox::OutboxArgs;
use crate::selftest::{Checks, check_clock, check_files, check_outbox, connect_and_echo, reach};
use crate::tls;

#[derive(clap::Args)]
pub(crate) struct SelftestArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    outbox: OutboxArgs,
    /// Also publishes to a test topic and waits for the message to come back.
    #[arg(long)]
    echo: bool,
    /// The test topic [default: rtr/iot/selftest/CLIENT_ID].
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    echo_topic: Option<String>,
    /// Prints the result as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SelftestArgs) -> ExitCode {
    let mut checks = Checks::default();
    match &args.connection.config {
        Some(config) => checks.ok("config", format!("`{}` is complete", config.display())),
        None => checks.ok("config", "the flags are complete"),
    }
    let now = Timestamp::now();
    check_clock(now, clock::is_synchronised(), &mut checks);
    let tls = check_files(&args.connection, now, &mut checks).then(|| tls::client_config(&args.connection).ok()).flatten();
    match args.outbox.folder(&args.connection) {
        Ok(folder) => check_outbox(&folder, &mut checks),
        Err(e) => checks.fail("outbox", e.to_string(), "give --outbox DIR"),
    }
    let to_broker = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match to_broker {
        Ok(runtime) => {
            runtime.block_on(check_broker(args, tls, now, &mut checks));
            // A name lookup that nobody answers cannot be cancelled.
            runtime.shutdown_background();
        }
        Err(e) => checks.fail("dns", format!("cannot start to look ({e})"), "free some memory"),
    }
    tell(&checks, args.json)
}

async fn check_broker(args: &SelftestArgs, tls: Option<Arc<rustls::ClientConfig>>, now: Timestamp, checks: &mut Checks) {
    let to = &args.connection;
    let echo = args.echo.then(|| args.echo_topic.clone().unwrap_or_else(|| format!("rtr/iot/selftest/{}", to.client_id)));
    let reached = reach(to, tls.clone(), now, checks).await;
    match tls.filter(|_| reached) {
        Some(tls) => connect_and_echo(to, tls, echo.as_deref(), checks).await,
        None => checks.skip(if args.echo { &["broker", "echo"] } else { &["broker"] }, "there is no TLS connection to it"),
    }
}

/// What to say when file, environment and flags give no whole configuration.
pub(crate) fn tell_faults(faults: &[String], json: bool) -> ExitCode {
    let mut checks = Checks::default();
    for fault in faults {
        checks.fail(
            "config",
            fault,
            "correct it; every setting is in deploy/device/speedtrap-device.toml, and in `publish --help`",
        );
    }
    checks.skip(
        &["clock", "root CA", "certificate", "key", "outbox", "dns", "tcp", "tls", "broker"],
        "the configuration is not complete",
    );
    tell(&checks, json)
}

fn tell(checks: &Checks, json: bool) -> ExitCode {
    let text = if json { serde_json::to_string(checks).unwrap_or_default() + "\n" } else { checks.in_words() };
    // A reader that has gone away is not worth another error.
    drop(std::io::stdout().write_all(text.as_bytes()));
    if checks.has_failed() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
