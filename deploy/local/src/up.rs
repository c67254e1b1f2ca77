//! `up`, `down` and `status`: the local cloud and its warehouse for as long as one wants them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    interrupt,
    process::Launcher,
    run_folder::RunFolder,
    stack::Stack,
    state::{State, started_ticks},
    stop::{Code, Stop},
};

/// `up` promises to be gone within 10 s of a signal.
const DOWN_LIMIT: Duration = Duration::from_secs(15);

/// Where state is kept if `--dir` names nothing: one place per user, so that `down` finds what `up` left.
fn state_folder(named: Option<PathBuf>) -> Result<PathBuf> {
    let folder = match named {
        Some(named) => std::path::absolute(named)?,
        None => std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))
            .ok_or_else(|| Stop::error(Code::BadConfig, "neither HOME nor XDG_STATE_HOME is set; give --dir"))?
            .join("speedtrap/local"),
    };
    Ok(folder)
}

pub(crate) fn up(dir: Option<PathBuf>, shards: u32, as_json: bool) -> Result<()> {
    let folder = state_folder(dir)?;
    fs::create_dir_all(&folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    if let Some(other) = State::read(&folder)?.filter(State::is_running) {
        let message = format!("it is already up (process {}); `speedtrap-local down` ends it, --dir keeps two apart", other.pid);
        return Err(Stop::error(Code::Refused, message));
    }
    let run_folder = RunFolder::create()?;
    match serve(&folder, &run_folder, shards, as_json) {
        Ok(()) => Ok(()),
        Err(error) if interrupt::is_set() => Err(error),
        Err(error) => {
            run_folder.keep_logs();
            Err(error)
        }
    }
}

fn serve(folder: &Path, run_folder: &RunFolder, shards: u32, as_json: bool) -> Result<()> {
    let launcher = Launcher::start(run_folder)?;
    let mut stack = Stack::start(&launcher, run_folder, shards)?;
    let pid = std::process::id();
    let state = State {
        pid,
        started_ticks: started_ticks(pid).context("failed to read this process' start time")?,
        run_folder: run_folder.path().to_owned(),
        endpoints: folder.join("endpoints.json"),
        aws_endpoint_url: stack.cloud.endpoint.clone(),
    };
    stack.write_endpoints(&state.endpoints, &[], &[])?;
    state.write(folder)?;
    if as_json {
        println!("{}", describe(&state));
    } else {
        println!("AWS endpoint   {}", state.aws_endpoint_url);
        println!("all endpoints  {}  (holds credentials)", state.endpoints.display());
        println!("logs           {}", run_folder.logs().display());
        println!("Ctrl-C or `speedtrap-local down` ends it.");
    }
    let ended = loop {
        if interrupt::pause(Duration::from_millis(500)).is_err() {
            break Ok(());
        }
        if let Err(error) = stack.check_running() {
            break Err(error);
        }
    };
    // Before the processes go, so that nobody is sent to something that is half gone.
    let removed = state.remove(folder);
    stack.stop();
    ended.and(removed)
}

fn describe(state: &State) -> serde_json::Value {
    json!({
        "state": "running",
        "pid": state.pid,
        "aws_endpoint_url": state.aws_endpoint_url,
        "endpoints": state.endpoints,
        "run_folder": state.run_folder,
    })
}

pub(crate) fn status(dir: Option<PathBuf>, as_json: bool) -> Result<()> {
    let folder = state_folder(dir)?;
    match State::read(&folder)?.filter(State::is_running) {
        Some(state) if as_json => println!("{}", describe(&state)),
        Some(state) => {
            println!("running as process {}, {}; see `{}`", state.pid, state.aws_endpoint_url, state.endpoints.display())
        }
        None => {
            if as_json {
                println!("{}", json!({"state": "absent"}));
            }
            return Err(Stop::error(Code::NotFound, "nothing is up; `speedtrap-local up` starts it"));
        }
    }
    Ok(())
}

pub(crate) fn down(dir: Option<PathBuf>, as_json: bool) -> Result<()> {
    let folder = state_folder(dir)?;
    let result = match State::read(&folder)? {
        None => "absent",
        Some(state) => {
            // The start time has been compared: the id cannot be some other program's.
            let was_running = state.is_running();
            if was_running {
                // SAFETY: plain system call.
                unsafe { libc::kill(state.pid as libc::pid_t, libc::SIGTERM) };
                if !interrupt::wait_out(DOWN_LIMIT, || !state.is_running()) {
                    let message = format!("process {} did not end within {} s", state.pid, DOWN_LIMIT.as_secs());
                    return Err(Stop::error(Code::TimedOut, message));
                }
            }
            // A launcher that was killed has left its file behind.
            state.remove(&folder)?;
            if was_running { "stopped" } else { "absent" }
        }
    };
    if as_json {
        println!("{}", json!({"state": result}));
    } else {
        println!("{}", if result == "stopped" { "stopped" } else { "nothing was up" });
    }
    Ok(())
}
