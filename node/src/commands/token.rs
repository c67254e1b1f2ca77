//! `speedtrap token new|list|revoke`: who may ask the API, for what. Works on the file, not on a node.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::print;
use super::table::table;
use crate::api::Role;
use crate::exit::{Exit, Stop};
use crate::tokens::{self, Tokens};

/// Arguments of `token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Makes a token and prints it, this once: the file keeps its digest only.
    New {
        /// Whose it is; the audit log calls them so.
        #[arg(long, value_parser = name)]
        name: String,
        /// What it is good for: viewer (sees everything that is masked), operator (moves work, puts letters back, looks at what is
        /// masked), admin (also what loses work).
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        file: FileArgs,
    },
    /// Lists the tokens that are good, without themselves.
    List {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Takes a token away; nodes refuse it within a second or two, and end what it opened.
    Revoke {
        /// Whose it is.
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        file: FileArgs,
    },
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The file that nodes name in dashboard.tokens_file; made if there is none.
    #[arg(long, value_name = "FILE", env = "SPEEDTRAP_DASHBOARD__TOKENS_FILE")]
    file: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Works with the file of tokens.
///
/// # Errors
/// When it cannot be read or written, or has no such token, or has one already.
pub(crate) fn token(args: TokenArgs) -> Result<Exit, Stop> {
    match args.command {
        TokenCommand::New { name, role, file } => new(&name, role, &file),
        TokenCommand::List { file } => list(&file),
        TokenCommand::Revoke { name, file } => revoke(&name, &file),
    }
}

fn new(name: &str, role: Role, args: &FileArgs) -> Result<Exit, Stop> {
    let token = tokens::add(&args.file, name, role).map_err(|error| cannot(&args.file, &error))?;
    if args.json {
        print(&format!("{}\n", serde_json::json!({"schema": 1, "name": name, "role": role, "token": token})));
    } else {
        eprintln!("note: `{name}` is {} now; this is the only time that the token is shown", role.with_article());
        print(&format!("{token}\n"));
    }
    Ok(Exit::Ok)
}

fn list(args: &FileArgs) -> Result<Exit, Stop> {
    let tokens = Tokens::read(&args.file)
        .map_err(|fault| Stop::new(Exit::BadConfig, fault.to_string()).next("`speedtrap token new` makes such a file"))?;
    if args.json {
        let shown = tokens
            .entries()
            .iter()
            .map(|entry| serde_json::json!({"name": entry.name, "role": entry.role, "created": entry.created}));
        print(&format!("{}\n", serde_json::json!({"schema": 1, "tokens": shown.collect::<Vec<_>>()})));
        return Ok(Exit::Ok);
    }
    let mut rows = table(&["NAME", "ROLE", "CREATED"]);
    for entry in tokens.entries() {
        rows.add_row([entry.name.as_str(), entry.role.label(), &entry.created]);
    }
    print(&format!("{}\n", rows.trim_fmt()));
    Ok(Exit::Ok)
}

fn revoke(name: &str, args: &FileArgs) -> Result<Exit, Stop> {
    tokens::revoke(&args.file, name).map_err(|error| cannot(&args.file, &error))?;
    if args.json {
        print(&format!("{}\n", serde_json::json!({"schema": 1, "name": name, "revoked": true})));
    } else {
        print(&format!("the token of `{name}` is good no more\n"));
    }
    Ok(Exit::Ok)
}

fn cannot(file: &Path, error: &io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::AlreadyExists if error.raw_os_error().is_none() => {
            Stop::new(Exit::Refused, error.to_string()).next("revoke it first, or choose another name")
        }
        io::ErrorKind::NotFound if error.raw_os_error().is_none() => {
            Stop::new(Exit::NotFound, error.to_string()).next("`speedtrap token list` shows all")
        }
        io::ErrorKind::InvalidData => Stop::new(Exit::BadConfig, error.to_string()),
        _ => Stop::new(Exit::Failed, format!("`{}` cannot be changed", file.display()))
            .why(error)
            .next("name a file in a folder that this user may write to, with --file"),
    }
}

/// Names stand in logs and tables.
fn name(text: &str) -> Result<String, &'static str> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_name);
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 64 characters [A-Za-z0-9._@-]") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_exit_code() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = FileArgs { file: folder.path().join("tokens"), json: true };
        let exit = |result: Result<Exit, Stop>| result.unwrap_or_else(|stop| stop.exit);
        assert_eq!(exit(list(&file)), Exit::BadConfig);
        assert_eq!(exit(new("desk", Role::Operator, &file)), Exit::Ok);
        assert_eq!(exit(new("desk", Role::Viewer, &file)), Exit::Refused);
        assert_eq!(exit(revoke("other", &file)), Exit::NotFound);
        assert_eq!(exit(list(&file)), Exit::Ok);
        let nowhere = FileArgs { file: folder.path().join("absent/tokens"), json: true };
        assert_eq!(exit(new("desk", Role::Operator, &nowhere)), Exit::Failed);
    }

    #[test]
    fn a_name_is_one_word() {
        assert_eq!(name("desk-3@ops.example"), Ok("desk-3@ops.example".to_owned()));
        assert!(["", "two words", "a\nb", &"x".repeat(65)].iter().all(|text| name(text).is_err()));
    }
}
