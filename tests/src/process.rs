//! A child process that ends with its test, however the test ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

const TAIL_LINES: usize = 30;

/// A running program, whose standard error goes to a log file.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it. Call this from the test's own thread: the kernel ends the child when that thread ends. The log of an earlier
    /// start under this name is kept beside the new one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        if log.exists() {
            let earlier = (1..).map(|start| folder.join(format!("{name}.{start}.log"))).find(|path| !path.exists());
            std::fs::rename(&log, earlier.context("all numbers are used up")?)?;
        }
        let file = File::create(&log).with_context(|| format!("failed to create `{}`", log.display()))?;
        Self::spawn(name, command, log, Stdio::null(), file)
    }

    /// Starts it with its standard output in `<name>.out`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with_output(name: &str, command: Command, folder: &Path) -> Result<Self> {
        let (log, out) = (folder.join(format!("{name}.log")), folder.join(format!("{name}.out")));
        let create = |path: &Path| File::create(path).with_context(|| format!("failed to create `{}`", path.display()));
        let (file, output) = (create(&log)?, create(&out)?);
        Self::spawn(name, command, log, Stdio::from(output), file)
    }

    /// Starts it with both its outputs at the end of one file, as a service manager does it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_appending(name: &str, command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        Self::spawn(name, command, log.to_owned(), Stdio::from(file.try_clone()?), file)
    }

    fn spawn(name: &str, mut command: Command, log: PathBuf, output: Stdio, errors: File) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
        // SAFETY: prctl is async-signal-safe, and touches nothing but the new process.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended\n{}", self.name, self.log_tail()))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.pid()?)?;
        // SAFETY: a plain system call on a child that has not been waited for, so the id is its own.
        unsafe { libc::kill(pid, signal) };
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.with_context(|| format!("failed to wait for {}", self.name)),
            Err(_) => bail!("{} did not end within {limit:?}\n{}", self.name, self.log_tail()),
        }
    }

    /// An error with the end of its log, if it has ended.
    ///
    /// # Errors
    /// See above.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.log_tail()),
        }
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("failed to kill {}", self.name))
    }

    /// Asks it to end and waits, where nothing can be awaited. One that stays is killed when this is dropped.
    pub fn end_within(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        // It may have ended, and then there is nothing to ask.
        let mut asked = self.signal(libc::SIGTERM).is_ok();
        while asked && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
            asked = matches!(self.child.try_wait(), Ok(None));
        }
    }

    /// All of its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

/// Whether a process with this id exists and has not ended.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
