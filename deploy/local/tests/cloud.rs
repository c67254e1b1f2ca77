//! `up`, `status` and `down` with real processes: what is promised about them, above all that nothing stays behind.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The first start of all may have to download what the cloud runs on.
const UP_LIMIT: Duration = Duration::from_secs(600);
const DOWN_LIMIT: Duration = Duration::from_secs(10);

fn launcher(verb: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speedtrap-local"));
    command.arg(verb).arg("--dir").arg(dir).arg("--json");
    command
}

/// A running `up`; killed if the test fails.
struct Up {
    process: Child,
    said: Value,
}

impl Up {
    fn start(dir: &Path) -> Self {
        let mut process = launcher("up", dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let started = Instant::now();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(started.elapsed() < UP_LIMIT);
        let said = serde_json::from_str(&line).expect("up prints one line of JSON when it is up");
        Self { process, said }
    }

    fn run_folder(&self) -> PathBuf {
        PathBuf::from(self.said["run_folder"].as_str().unwrap())
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: plain system call on a child that has not been waited for.
        unsafe { libc::kill(self.process.id() as libc::pid_t, signal) };
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn output(verb: &str, dir: &Path) -> Output {
    launcher(verb, dir).output().unwrap()
}

fn endpoints(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("endpoints.json")).unwrap()).unwrap()
}

/// Every process that has the run folder in its command line: launcher's children and theirs.
fn processes_of(run_folder: &Path) -> Vec<String> {
    let needle = run_folder.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(format!("{} {}", entry.file_name().to_str()?, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    lines.filter(|line| line.contains(needle)).collect()
}

fn is_alive(pid: &Value) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DOWN_LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "not within {DOWN_LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn port_of(url: &str) -> u16 {
    url.split('/').nth(2).and_then(|host| host.rsplit(':').next()).and_then(|port| port.parse().ok()).unwrap()
}

#[test]
fn up_serves_what_its_endpoints_say_and_down_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = Up::start(dir.path());
    let found = endpoints(dir.path());
    let mode = fs::metadata(dir.path().join("endpoints.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let aws = found["aws_endpoint_url"].as_str().unwrap();
    let ready = ureq::get(format!("{aws}/_ministack/ready")).call().unwrap();
    assert_eq!(ready.status(), 200);
    let mqtt = u16::try_from(found["mqtt"]["port"].as_u64().unwrap()).unwrap();
    let postgres = port_of(found["warehouse_url"].as_str().unwrap());
    for port in [mqtt, postgres] {
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
    for file in ["ca", "cert", "key"] {
        let path = found["mqtt"][file].as_str().unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path}");
    }

    assert_eq!(output("status", dir.path()).status.code(), Some(0));
    assert_eq!(output("up", dir.path()).status.code(), Some(5), "a second one in the same place is refused");

    let run_folder = up.run_folder();
    assert_eq!(output("down", dir.path()).status.code(), Some(0));
    assert_eq!(up.process.wait().unwrap().code(), Some(0));
    assert_eq!(processes_of(&run_folder), Vec::<String>::new());
    assert!(!run_folder.exists() && !dir.path().join("endpoints.json").exists());
    assert_eq!(output("status", dir.path()).status.code(), Some(4));
    assert_eq!(output("down", dir.path()).status.code(), Some(0), "down is content with nothing to do");
}

#[test]
fn no_process_and_no_key_outlives_a_killed_launcher() {
    let dir = tempfile::tempdir().unwrap();
    let up = Up::start(dir.path());
    let found = endpoints(dir.path());
    let run_folder = up.run_folder();
    assert!(processes_of(&run_folder).len() >= 3, "cloud, warehouse and watcher");

    up.signal(libc::SIGKILL);
    eventually("all processes end", || {
        processes_of(&run_folder).is_empty() && !is_alive(&found["cloud_pid"]) && !is_alive(&found["postgres_pid"])
    });
    // The warehouse's own children carry other names; the port they share must be free.
    let postgres = port_of(found["warehouse_url"].as_str().unwrap());
    eventually("the warehouse's port is closed", || TcpStream::connect(("127.0.0.1", postgres)).is_err());
    assert!(!run_folder.join("keys").exists(), "the device's key is gone");
    drop(fs::remove_dir_all(&run_folder));

    let status = output("status", dir.path());
    assert_eq!(status.status.code(), Some(4), "a left state file fools nobody");
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = launcher("up", dir.path()).stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(500));
    // SAFETY: plain system call on a child that has not been waited for.
    unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGINT) };
    let until = Instant::now() + DOWN_LIMIT;
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "still running");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(130));
    assert!(!dir.path().join("state.json").exists());
}
