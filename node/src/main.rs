//! `speedtrap`: a node of the pipeline, and the commands to look at one.

use std::process::ExitCode;

fn main() -> ExitCode {
    speedtrap_node::main()
}
