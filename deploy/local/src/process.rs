//! Child processes that cannot outlive the launcher.
//!
//! Two nets: the kernel signals each child when the launcher is gone (PR_SET_PDEATHSIG), and a watcher process, which sees
//! the launcher's end of a pipe close, kills the whole process group of every child, so grandchildren go too. The kernel's
//! signal follows the *thread* that spawned a child, hence [`Launcher`] is not `Send` and lives on the main thread.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, Write as _},
    marker::PhantomData,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    interrupt,
    run_folder::{self, RunFolder},
    stop::{Code, Stop},
};

/// How many lines of a log are shown when its process failed.
const TAIL_LINES: usize = 20;

/// A numeric user and group to run a child as.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Where a child's output goes.
pub(crate) enum Output {
    /// Both streams into the log `<name>.log`.
    Log,
    /// stdout into `<name>.out`, stderr into the log.
    Capture,
    /// stdout into `<name>.out`, stderr to the launcher's own.
    Visible,
}

/// How to start a child.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) command: Command,
    /// Nothing if `None`: a child in a group of its own that reads the terminal would be stopped.
    pub(crate) stdin: Option<File>,
    pub(crate) output: Output,
    pub(crate) user: Option<User>,
    /// Asks the child to end in good order.
    pub(crate) stop_signal: libc::c_int,
    /// Sent by the kernel when the launcher has died.
    pub(crate) death_signal: libc::c_int,
}

impl Spec {
    pub(crate) fn new(name: impl Into<String>, command: Command) -> Self {
        let name = name.into();
        Self {
            name,
            command,
            stdin: None,
            output: Output::Log,
            user: None,
            stop_signal: libc::SIGTERM,
            death_signal: libc::SIGKILL,
        }
    }

    pub(crate) fn output(self, output: Output) -> Self {
        Self { output, ..self }
    }
}

/// Starts children and tells the watcher about them.
pub(crate) struct Launcher {
    logs: PathBuf,
    watch: Rc<Watch>,
    _main_thread_only: PhantomData<*const ()>,
}

struct Watch {
    pipe: RefCell<ChildStdin>,
    watcher: RefCell<Child>,
}

impl Watch {
    fn tell(&self, sign: char, group: u32) -> std::io::Result<()> {
        writeln!(self.pipe.borrow_mut(), "{sign}{group}")
    }
}

impl Launcher {
    /// Starts the watcher. It is this same program, run as `watch <run folder>`.
    pub(crate) fn start(run_folder: &RunFolder) -> Result<Self> {
        let own_path = std::env::current_exe().context("failed to find this program's own path")?;
        let mut watcher = Command::new(own_path)
            .arg("watch")
            .arg(run_folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to start the watcher")?;
        let pipe = watcher.stdin.take().context("the watcher has no stdin")?;
        let watch = Rc::new(Watch { pipe: RefCell::new(pipe), watcher: RefCell::new(watcher) });
        Ok(Self { logs: run_folder.logs(), watch, _main_thread_only: PhantomData })
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(crate) fn spawn(&self, spec: Spec) -> Result<Process> {
        let Spec { name, mut command, stdin, output, user, stop_signal, death_signal } = spec;
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        let log = self.logs.join(format!("{name}.log"));
        let out = self.logs.join(format!("{name}.out"));
        let open = |path: &Path| File::create(path).with_context(|| format!("failed to create `{}`", path.display()));
        match output {
            Output::Log => {
                let file = open(&log)?;
                command.stdout(file.try_clone()?).stderr(file);
            }
            Output::Capture => {
                command.stdout(open(&out)?).stderr(open(&log)?);
            }
            Output::Visible => {
                command.stdout(open(&out)?);
            }
        }
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        let launcher = std::process::id();
        // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe. std has changed
        // the user before, which matters: a later change of user would clear the death signal.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, death_signal) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                if libc::getppid() != launcher as libc::pid_t {
                    return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
        if command.get_envs().all(|(key, _)| key != "NO_PROXY") {
            command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
        }
        // The launcher's own settings, which a node would take for keys of its configuration.
        for own in ["SPEEDTRAP_BIN_DIR", "SPEEDTRAP_PYTHON"] {
            command.env_remove(own);
        }
        command.process_group(0);
        let child =
            command.spawn().with_context(|| format!("failed to start {name} (`{}`)", command.get_program().to_string_lossy()))?;
        // Without a watcher the kernel's signal still ends every direct child, so this is no reason to stop.
        if let Err(error) = self.watch.tell('+', child.id()) {
            eprintln!("warning: the watcher is gone ({error}); only direct children die with this launcher");
        }
        Ok(Process { name, child, log, out, stop_signal, ended: None, watch: self.watch.clone() })
    }

    /// Runs a child to its end. An interrupt, the time limit or a failure of `meanwhile` kills it.
    pub(crate) fn run(&self, spec: Spec, limit: Duration, mut meanwhile: impl FnMut() -> Result<()>) -> Result<Finished> {
        let mut process = self.spawn(spec)?;
        let started = Instant::now();
        loop {
            if let Some(status) = process.try_wait()? {
                return Ok(Finished { status, name: process.name.clone(), log: process.log.clone(), out: process.out.clone() });
            }
            if started.elapsed() > limit {
                let message = format!("{} did not end within {} s\n{}", process.name, limit.as_secs(), tail(&process.log));
                return Err(Stop::error(Code::TimedOut, message));
            }
            meanwhile()?;
            interrupt::pause(Duration::from_millis(15))?;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // All children are gone by now. The watcher would end by itself as soon as the pipe closes; ending it here
        // leaves no zombie and keeps it away from the run folder. It may be gone already, which is as good.
        let watcher = self.watcher.get_mut();
        if watcher.kill().is_ok() {
            drop(watcher.wait());
        }
    }
}

/// A child that ran to its end.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    name: String,
    log: PathBuf,
    out: PathBuf,
}

impl Finished {
    pub(crate) fn stdout(&self) -> Result<String> {
        std::fs::read_to_string(&self.out).with_context(|| format!("failed to read what {} printed", self.name))
    }

    /// An error with the log's end, unless the child's exit code is one of `accepted`.
    pub(crate) fn accept(self, accepted: &[i32]) -> Result<Self> {
        match self.status.code() {
            Some(code) if accepted.contains(&code) => Ok(self),
            _ => anyhow::bail!("{} {}\n{}", self.name, describe(self.status), tail(&self.log)),
        }
    }
}

/// A running child. Dropping it kills its process group.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
    out: PathBuf,
    stop_signal: libc::c_int,
    ended: Option<ExitStatus>,
    watch: Rc<Watch>,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("failed to wait for {}", self.name))?;
            if self.ended.is_some() {
                self.forget();
            }
        }
        Ok(self.ended)
    }

    /// An error with the log's end if the child is no longer running.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} {} although it was needed\n{}", self.name, describe(status), tail(&self.log)),
        }
    }

    /// What the child has printed on stdout so far, for [`Output::Capture`].
    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    pub(crate) fn ask_to_stop(&self) {
        if self.ended.is_none() {
            // SAFETY: the child has not been waited for, so its id still names it.
            unsafe { libc::kill(self.child.id() as libc::pid_t, self.stop_signal) };
        }
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.try_wait(), Ok(Some(_)) | Err(_))
    }

    fn forget(&self) {
        // A watcher that is gone needs not be told.
        self.watch.tell('-', self.child.id()).unwrap_or_default();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            kill_group(self.child.id());
            if self.child.wait().is_ok() {
                self.forget();
            }
        }
    }
}

/// Asks all to stop at once, waits up to `limit`, kills what is left. Returns the names of those that had to be killed.
pub(crate) fn stop_all(mut processes: Vec<Process>, limit: Duration) -> Vec<String> {
    processes.iter().for_each(Process::ask_to_stop);
    interrupt::wait_out(limit, || processes.iter_mut().all(Process::has_ended));
    let stubborn = processes.iter_mut().filter_map(|process| (!process.has_ended()).then(|| process.name.clone())).collect();
    drop(processes);
    stubborn
}

fn kill_group(group: u32) {
    // SAFETY: plain system call; a group that is gone answers ESRCH.
    unsafe { libc::kill(-(group as libc::pid_t), libc::SIGKILL) };
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log, with its path.
fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    if last.is_empty() { format!("its log `{}` is empty", log.display()) } else { format!("{last}\n(log: {})", log.display()) }
}

/// The watcher's whole life: notes process groups until the pipe closes, then kills those that are left and clears away
/// what is private in the run folder.
pub(crate) fn watch(run_folder: &Path) {
    let mut groups = BTreeSet::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match (line.get(..1), line.get(1..).and_then(|id| id.parse::<u32>().ok())) {
            (Some("+"), Some(group)) => groups.insert(group),
            (Some("-"), Some(group)) => groups.remove(&group),
            _ => false,
        };
    }
    groups.into_iter().for_each(kill_group);
    // The groups' processes may still be ending and writing; a second try gets what they left.
    for _ in 0..2 {
        interrupt::wait_out(Duration::from_millis(300), || false);
        run_folder::clear_all_but_logs(run_folder);
    }
}
