//! The demo's nodes, kept running as a service manager would: a node that dies is started again, and goes on where the leases
//! say; one that was drained stays down.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::{
    interrupt,
    node::{self, Answers, Node, Placement},
    process::{Launcher, Process},
    stack::Stack,
};

/// A node that dies more often has a fault that no restart mends.
const MAX_RESTARTS: u32 = 20;
const RESTART_PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Fleet<'a> {
    launcher: &'a Launcher,
    program: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
    restarts: u32,
    drained: bool,
}

impl<'a> Fleet<'a> {
    /// Starts `count` nodes and waits until each runs its lanes and is linked to the others.
    pub(crate) fn start(launcher: &'a Launcher, program: &Path, stack: &Stack, folder: &Path, count: u32) -> Result<Self> {
        let nodes = Node::start_all(launcher, program, stack, folder, count)?;
        node::wait_until_linked(&nodes)?;
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Ok(Self { launcher, program, folder, nodes, restarts: 0, drained: false })
    }

    /// Starts again what has died, and waits until it runs; true if the nodes are others than before.
    pub(crate) fn keep_running(&mut self, stack: &Stack) -> Result<bool> {
        let mut restarted = self.forget_drained()?;
        for node in &mut self.nodes {
            let mut ended = node.process.check_running();
            while let Err(death) = ended {
                if self.restarts == MAX_RESTARTS || interrupt::is_set() {
                    return Err(death);
                }
                self.restarts += 1;
                let said = death.to_string();
                eprintln!("note: {}; it is started again", said.lines().next().unwrap_or_default());
                interrupt::pause(RESTART_PAUSE)?;
                let name = node.process.name.clone();
                // It may die again before it is ready.
                ended = Node::start_again(self.launcher, &self.program, stack, &self.folder, &name).map(|again| *node = again);
                restarted = true;
            }
        }
        Ok(restarted)
    }

    /// Takes out the nodes that ended in good order, which nobody but an operator makes them do.
    fn forget_drained(&mut self) -> Result<bool> {
        let before = self.nodes.len();
        for i in (0..before).rev() {
            if self.nodes[i].process.try_wait()?.is_some_and(|status| status.success()) {
                let node = self.nodes.remove(i);
                eprintln!("note: {} was drained and stays down", node.process.name);
            }
        }
        let drained = self.nodes.len() < before;
        self.drained |= drained;
        Ok(drained)
    }

    /// Whether the nodes' own counts cover everything: those of a node that ended went with it.
    pub(crate) fn counts_are_whole(&self) -> bool {
        self.restarts == 0 && !self.drained
    }

    pub(crate) fn placement(&self) -> Result<Placement> {
        node::placement(&self.nodes)
    }

    pub(crate) fn ask(&self) -> Result<Answers> {
        node::ask_all(&self.nodes)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.dashboard_url.clone()).collect()
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.id()).collect()
    }

    pub(crate) fn into_processes(self) -> Vec<Process> {
        self.nodes.into_iter().map(|node| node.process).collect()
    }
}
