//! The commands: standard output holds data, standard error messages.

mod act;
mod actors;
mod audit;
mod client;
mod config;
mod cost;
mod dead_letters;
mod device;
mod doctor;
mod drain;
mod forget;
mod interrupt;
mod manual;
mod nodes;
mod pipeline;
mod shards;
mod status;
mod table;
mod token;
mod trace;
mod watch;

use clap::{Parser, Subcommand};

pub(crate) use self::config::load_for_node;
use crate::exit::{Exit, Stop};

/// Speedtrap: from speed readings to text messages.
#[derive(Debug, Parser)]
#[command(
    name = "speedtrap",
    version,
    after_help = "\
Examples:
  speedtrap run --config speedtrap.toml --name node-1
  speedtrap status
  speedtrap nodes
  speedtrap drain node-2
  speedtrap config defaults > speedtrap.toml

Exit codes: 0 ok, 1 failed, 2 usage, 3 unhealthy, 4 not found, 5 refused, 6 timed out, 69 unreachable, 78 bad config,
130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node until SIGTERM or Ctrl-C, then finishes what it has begun.
    Run(crate::run::RunArgs),
    /// Shows the health, lanes and counts of all nodes; exit code 3 if something is not as it should be.
    #[command(after_help = "\
Examples:
  speedtrap status
  speedtrap status --local --node http://127.0.0.1:7301
  speedtrap status --watch
  speedtrap status --json")]
    Status(watch::Watched<client::ScopeArgs>),
    /// Shows all nodes, how they are linked and how many leases each holds; exit code 3 if one is not linked.
    #[command(after_help = "\
Examples:
  speedtrap nodes
  speedtrap nodes --node http://127.0.0.1:7301 --json
  speedtrap nodes drain node-2 --stay
  speedtrap nodes resume node-2")]
    Nodes(nodes::NodesArgs),
    /// Shows all shards: who holds them, how far they are, and why one does not move; hands one over.
    #[command(after_help = "\
Examples:
  speedtrap shards
  speedtrap shards --json
  speedtrap shards handoff enrich/shardId-000000000001 --to node-2
  speedtrap shards rebalance enrich")]
    Shards(shards::ShardsArgs),
    /// Shows the actors of all nodes: mailboxes, work done, restarts; ends one so that it starts again.
    #[command(after_help = "\
Examples:
  speedtrap actors
  speedtrap actors --local --node http://127.0.0.1:7301
  speedtrap actors --json
  speedtrap actors restart node-2/enrich/shardId-000000000001/driver_lookup
  speedtrap actors kill node-2/heartbeat --reason 'it hangs' --yes")]
    Actors(actors::ActorsArgs),
    /// Shows how each stage of the pipeline spends its time, and how events ended.
    #[command(after_help = "\
Examples:
  speedtrap pipeline
  speedtrap pipeline --over 10 --json")]
    Pipeline(watch::Watched<pipeline::PipelineArgs>),
    /// Shows records that could not be processed, puts them back or gives them up.
    #[command(after_help = "\
Examples:
  speedtrap dead-letters list
  speedtrap dead-letters list --state all --stage enrich --json
  speedtrap dead-letters show 0f3c2a...
  speedtrap dead-letters show 0f3c2a... --reveal --reason 'the driver objects'
  speedtrap dead-letters redrive --all --stage notify --matching 'no valid number' --reason 'numbers were mended'
  speedtrap dead-letters discard 0f3c2a... --reason 'a test of the camera' --yes

A redriven record is processed as if it came for the first time; effects that stand already stay one. Exit codes: 0 all done,
3 some letters were left as they are, 4 there is no such letter, 5 not confirmed.")]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Shows what operators did, on all nodes.
    #[command(after_help = "\
Examples:
  speedtrap audit
  speedtrap audit --json")]
    Audit(client::NodeArgs),
    /// Tells what became of one event, or of the latest events of a plate: the evidence when a driver objects.
    #[command(after_help = "\
Examples:
  speedtrap trace RTRPIIOT-k2x9-17
  speedtrap trace 4-2288B --limit 3
  speedtrap trace 4-2288B --at 2026-01-31T12:00:00Z --within 5min
  speedtrap trace RTRPIIOT-k2x9-17 --reveal --reason 'the driver objects, case 17' --json

It reads the tables, the streams and the archive with your own access to AWS, and asks no node. Persons are masked unless --reveal
is given. Exit codes: 0 told, 3 told with gaps (something could not be looked at), 4 nothing is known of it, 5 AWS refused,
69 AWS cannot be reached.")]
    Trace(trace::TraceArgs),
    /// Deletes what is kept of one driver, and tells what remains in streams, backups and the archive, and until when.
    #[command(after_help = "\
Examples:
  speedtrap forget 4-2288B --reason 'request 12' --dry-run
  speedtrap forget 4-2288B --reason 'request 12'
  speedtrap forget 4-2288B --reason 'request 12' --yes --json

Deletes violations, raw events, alerts and dead letters of the plate with your own access to AWS, and has all nodes empty their driver
caches. It reads the tables of violations and letters and the archive once, whole. Delete the driver's row in the warehouse first, or the
next violation brings the driver back. Exit codes: 0 deleted, 3 something has to be looked at or done again, 4 there is nothing of it,
5 not confirmed, or AWS refused, 69 AWS cannot be reached.")]
    Forget(forget::ForgetArgs),
    /// Has a node finish what it has begun, hand its leases over and exit.
    #[command(after_help = "\
Examples:
  speedtrap drain node-2
  speedtrap drain node-2 --node http://127.0.0.1:7301 --timeout 5min
  speedtrap drain node-2 --no-wait

Exit codes: 0 the node has no lease and is gone, 4 there is no such node, 5 it drains already, 6 it took too long,
69 no answer.")]
    Drain(drain::DrainArgs),
    /// Makes, lists and revokes the tokens that a node's API may be asked with.
    #[command(after_help = "\
Examples:
  speedtrap token new --name desk-1 --role operator --file /etc/speedtrap/tokens > desk-1.token
  speedtrap token list --file /etc/speedtrap/tokens
  speedtrap token revoke desk-1 --file /etc/speedtrap/tokens
  speedtrap status --token-file desk-1.token

Exit codes: 4 there is no such token, 5 there is one of that name already, 78 the file is no file of tokens.")]
    Token(token::TokenArgs),
    /// Looks at everything that a node with this configuration needs, and changes nothing: AWS, permissions, warehouse, files, ports.
    #[command(after_help = "\
Examples:
  speedtrap doctor --config speedtrap.toml
  AWS_PROFILE=node speedtrap doctor --json

Each line is ok, warn, fail or skip (not known here), with what to do next. Permissions are tried with calls that cannot change
anything. Exit codes: 0 nothing failed, 3 something failed, 69 no service answered, 78 bad config.")]
    Doctor(doctor::DoctorArgs),
    /// Shows what a month in AWS costs, by service, and what would lower it; nothing is asked over the network.
    #[command(after_help = "\
Examples:
  speedtrap cost --events-per-second 100
  speedtrap cost --events-per-second 2000 --violations 0.1 --shards 4 --fan-out --retention 168
  speedtrap cost --prices my-prices.toml --json")]
    Cost(cost::CostArgs),
    /// Registers, lists and revokes devices in AWS IoT Core.
    Device(device::DeviceArgs),
    /// Checks or shows configurations.
    Config(config::ConfigArgs),
    /// Prints what a shell needs to complete commands.
    #[command(after_help = "\
Example:
  speedtrap completions bash > /etc/bash_completion.d/speedtrap")]
    Completions(manual::CompletionsArgs),
    /// Prints the manual page, or writes all of them.
    #[command(after_help = "\
Examples:
  speedtrap man | man -l -
  speedtrap man --out /usr/local/share/man/man1")]
    Man(manual::ManArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// When it could not do its work.
    pub(crate) fn run(self) -> Result<Exit, Stop> {
        match self.command {
            Command::Run(args) => crate::run::run(args),
            Command::Status(args) => args.run(status::status),
            Command::Nodes(args) => nodes::nodes(args),
            Command::Shards(args) => shards::shards(args),
            Command::Actors(args) => actors::actors(args),
            Command::Pipeline(args) => args.run(pipeline::pipeline),
            Command::DeadLetters(args) => dead_letters::dead_letters(args),
            Command::Audit(args) => audit::audit(&args),
            Command::Completions(args) => Ok(manual::completions(&args)),
            Command::Man(args) => manual::man(&args),
            Command::Trace(args) => trace::trace(&args),
            Command::Forget(args) => forget::forget(&args),
            Command::Drain(args) => drain::drain(&args),
            Command::Token(args) => token::token(args),
            Command::Doctor(args) => doctor::doctor(&args),
            Command::Cost(args) => cost::cost(&args),
            Command::Device(args) => device::device(args),
            Command::Config(args) => config::config(args),
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) {
    watch::SCREEN.show(text);
}
