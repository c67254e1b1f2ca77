//! `watch` loads what comes into a folder: whole, once, and through kills.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use speedtrap_tests::commands;
use speedtrap_tests::deadline::eventually;
use speedtrap_tests::drivers_file::{DriversFile, loader};
use speedtrap_tests::process::Process;
use speedtrap_tests::sandbox::Sandbox;
use tokio::process::Command;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(120);

fn watch(sandbox: &Sandbox, inbox: &Path) -> Result<Command> {
    let mut command = loader(&sandbox.endpoints, sandbox.folder(), "watch")?;
    command.arg(inbox).args(["--settle", "1500ms", "--poll", "500ms"]);
    Ok(command)
}

fn reports(out: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(out)?;
    Ok(text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_loaded_when_it_is_whole_and_its_content_once_under_any_name() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let (endpoints, folder) = (&sandbox.endpoints, sandbox.folder());
    let inbox = folder.join("in");
    fs::create_dir(&inbox)?;
    let (slow, moved, late) = (
        DriversFile::write(folder, "SLOW", 300)?,
        DriversFile::write(folder, "MOVED", 300)?,
        DriversFile::write(folder, "LATE", 300)?,
    );
    let mut watcher = Process::start_with_output("watcher", watch(&sandbox, &inbox)?, folder)?;
    let out = folder.join("watcher.out");

    // Written in pieces that come faster than the file settles; half of it would load as well.
    let text = fs::read(&slow.path)?;
    let target = inbox.join("SLOW.csv");
    for piece in text.chunks(text.len() / 6 + 1) {
        OpenOptions::new().append(true).create(true).open(&target)?.write_all(piece)?;
        sleep(Duration::from_millis(400)).await;
    }
    fs::rename(&moved.path, inbox.join("MOVED.csv"))?;
    eventually("both files are loaded", LIMIT, || async {
        ensure!(reports(&out)?.iter().filter(|report| report["state"] == "committed").count() == 2);
        Ok(())
    })
    .await?;
    for file in [&slow, &moved] {
        ensure!(
            file.stored(endpoints).await? == file.expected(),
            "a file was loaded in pieces: {:?}",
            file.stored(endpoints).await?
        );
    }
    ensure!(reports(&out)?.len() == 2, "{:?}", reports(&out)?);

    // A new name is no news; the same content as a new file is known by its content.
    fs::rename(inbox.join("MOVED.csv"), inbox.join("MOVED-1.csv"))?;
    fs::copy(&target, inbox.join("copy.csv"))?;
    eventually("the copy is known", LIMIT, || async {
        let reports = reports(&out)?;
        ensure!(reports.len() == 3 && reports[2]["state"] == "already_loaded", "{reports:?}");
        Ok(())
    })
    .await?;

    // Files that come while it is away, or that it was killed at, are loaded by the next one.
    fs::copy(&late.path, inbox.join("LATE.csv"))?;
    sleep(Duration::from_millis(1_700)).await;
    watcher.kill().await?;
    let while_away = DriversFile::write(folder, "AWAY", 300)?;
    fs::copy(&while_away.path, inbox.join("AWAY.csv"))?;
    let mut command = watch(&sandbox, &inbox)?;
    command.arg("--once");
    let ended = commands::run(command).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    for file in [&slow, &moved, &late, &while_away] {
        ensure!(file.stored(endpoints).await? == file.expected());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_file_is_shown_and_loaded_once_it_is_mended() -> Result<()> {
    let sandbox = Sandbox::up().await?;
    let folder = sandbox.folder();
    let inbox = folder.join("in");
    fs::create_dir(&inbox)?;
    fs::write(inbox.join("wrong.csv"), "first,last\na,b\n")?;
    let file = DriversFile::write(folder, "MENDED", 50)?;
    let mut watcher = Process::start_with_output("watcher", watch(&sandbox, &inbox)?, folder)?;
    let out = folder.join("watcher.out");
    eventually("the wrong file is shown", LIMIT, || async {
        let reports = reports(&out)?;
        ensure!(reports.len() == 1 && reports[0]["state"] == "failed" && reports[0]["retry_in_s"].is_null(), "{reports:?}");
        Ok(())
    })
    .await?;
    fs::copy(&file.path, inbox.join("wrong.csv"))?;
    eventually("the mended file is loaded", LIMIT, || async {
        ensure!(reports(&out)?.get(1).is_some_and(|report| report["state"] == "committed"), "{:?}", reports(&out)?);
        Ok(())
    })
    .await?;
    watcher.signal(2)?;
    ensure!(watcher.ended(Duration::from_secs(20)).await?.code() == Some(130), "{}", watcher.log_tail());
    Ok(())
}
