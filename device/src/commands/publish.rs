//! `speedtrap-device publish`: its arguments, and the run from them to an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tracing::warn;

use crate::config::{ConnectionArgs, device_id, topic};
use crate::event_ids::{EventIds, random_u64};
use crate::failure::Failure;
use crate::intake::Intake;
use crate::light::LightArgs;
use crate::outbox::OutboxArgs;
use crate::publisher::Publisher;
use crate::report::Report;
use crate::source::{Source, SourceArgs};
use crate::tls;

#[derive(clap::Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// Topic to publish to.
    #[arg(long, default_value = "rtr/iot/trafficdata", value_parser = topic)]
    pub(crate) topic: String,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    light: LightArgs,
    /// Name of this device in the event ids, 1 to 32 of A-Z a-z 0-9 . _ - (default: the client id).
    #[arg(long, value_name = "ID", value_parser = device_id)]
    device_id: Option<String>,
    #[command(flatten)]
    outbox: OutboxArgs,
    /// Topic for a retained message that says whether the device is connected, such as `rtr/iot/status/RTRPIIOT`; the broker
    /// says so itself when the connection breaks (last will). The policy must allow it. Without it there is none.
    #[arg(long, value_parser = topic)]
    pub(crate) status_topic: Option<String>,
    /// Readings sent but not yet acknowledged, at most. AWS IoT allows 100 for one client.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) window: u16,
    /// Seconds to try for the first connection; 0 is for ever [default: 10 for a file, 0 with trigger, sensor or --loop].
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=86_400), value_name = "SECONDS")]
    connect_timeout: Option<u64>,
    /// Seconds without any acknowledgement, lost connections included, after which to give up; 0 is never [default: 120 for a
    /// file, 0 with trigger, sensor or --loop].
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=86_400), value_name = "SECONDS")]
    stall_timeout: Option<u64>,
    /// Seconds after which an unacknowledged reading makes the device connect anew and send it again.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600), value_name = "SECONDS")]
    ack_timeout: u64,
    /// Prints the result as one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Logs connections, not only troubles; given twice, each reading that is safely on disk.
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl PublishArgs {
    /// The device's name, or why the client id cannot serve as one.
    pub(crate) fn device_id(&self) -> Result<String, String> {
        let client_id = &self.connection.client_id;
        match &self.device_id {
            Some(id) => Ok(id.clone()),
            None => device_id(client_id)
                .map_err(|why| format!("client id `{client_id}` cannot name the device ({why}); give --device-id")),
        }
    }

    /// How long to try for the first connection, `None` for ever.
    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        self.limit(self.connect_timeout, 10)
    }

    pub(crate) fn stall_timeout(&self) -> Option<Duration> {
        self.limit(self.stall_timeout, 120)
    }

    /// Whoever plays a file wants to know when that does not work; a device at the roadside has nobody to tell.
    fn limit(&self, given: Option<u64>, for_a_file: u64) -> Option<Duration> {
        let seconds = given.unwrap_or(if self.source.is_endless() { 0 } else { for_a_file });
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    pub(crate) fn ack_timeout(&self) -> Duration {
        Duration::from_secs(self.ack_timeout)
    }
}

pub(crate) fn run(args: &PublishArgs) -> ExitCode {
    let mut report = Report::default();
    let ended = publish(args, &mut report);
    report.error = ended.as_ref().err().map(ToString::to_string);
    report.print(args.json);
    match ended {
        Ok(()) if report.rejected > 0 => ExitCode::from(3),
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn publish(args: &PublishArgs, report: &mut Report) -> Result<(), Failure> {
    // Everything that can be wrong on this side is found before the first packet.
    let tls = tls::client_config(&args.connection)?;
    for warning in [tls::validity_warning(&args.connection, jiff::Timestamp::now()), tls::key_warning(&args.connection)]
        .into_iter()
        .flatten()
    {
        warn!("{warning}");
    }
    let device = args.device_id().map_err(|what| Failure::Usage { what })?;
    let source = Source::open(&args.source)?;
    let mut light = args.light.open(args.source.trigger.trigger)?;
    let progress = progress_bar(source.bytes());
    let outbox = args.outbox.open(&args.connection)?;
    report.left_over = outbox.waiting();
    let start = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0);
    let intake = Intake::new(source, EventIds::new(device, start, random_u64()));
    // One thread: a Pi has little to gain from more, and the window needs no lock.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::BadInput { what: format!("cannot start: {e}") })?;
    let publisher = Publisher::new(args, tls, intake, outbox, light.as_mut(), report, progress.clone());
    let ended = runtime.block_on(publisher.run());
    // A name lookup cannot be cancelled; after Ctrl-C nobody should wait for it.
    runtime.shutdown_background();
    progress.finish_and_clear();
    ended
}

/// A bar over the bytes of the file, if it is played at its own pace and somebody watches.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let Some(bytes) = bytes.filter(|_| std::io::stderr().is_terminal()) else { return ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
