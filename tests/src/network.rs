//! Network namespaces of the test's own, so that links between nodes can be cut: every node has one interface to the other
//! nodes, over a switch, and another to the host, where proxies lead to the local cloud and the warehouse.
//!
//! Namespaces have no names: the kernel takes them away, with all that is in them, when the last process or file that holds
//! one is gone, however the test ends.

use std::fs::File;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::process::{Command, id};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

/// What runs this as root.
const AS_ROOT: &str = "sudo -E tests/run partition";
/// Interfaces inside a node's namespace.
const TO_NODES: &str = "nodes0";
const TO_HOST: &str = "host0";

/// A network namespace that lives as long as this, or a process in it.
pub struct Namespace(File);

/// Nodes on one switch, each with a link to the host.
pub struct Network {
    switch: Namespace,
    pub places: Vec<Place>,
}

/// Where one node runs.
pub struct Place {
    pub namespace: Arc<Namespace>,
    number: u8,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn new() -> Result<Self> {
        // On a thread of its own, since the namespace becomes that of the thread that makes it.
        let made = std::thread::spawn(|| {
            // SAFETY: a plain system call that changes nothing but this thread.
            let made = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            ensure!(made == 0, "no network namespace can be made: {}", std::io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").context("the new namespace cannot be held")
        });
        let namespace = Self(made.join().map_err(|_| anyhow::anyhow!("the thread for a namespace died"))??);
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Makes a command run in it.
    pub fn enter(&self, command: &mut tokio::process::Command) {
        let file = self.0.as_raw_fd();
        // SAFETY: setns is async-signal-safe, and touches nothing but the new process.
        unsafe { command.pre_exec(move || enter(file)) };
    }

    /// Runs a closure in it, on a thread of its own.
    ///
    /// # Errors
    /// When it cannot be entered, or with the closure's own error.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.0.as_raw_fd();
        let done = std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(file)?;
                    work()
                })
                .join()
        });
        done.map_err(|_| anyhow::anyhow!("the thread in a namespace died"))?
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        self.within(|| ip(arguments))
    }

    /// How `ip` is told of it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", id(), self.0.as_raw_fd())
    }
}

impl Network {
    /// Makes the switch and a place for each number, 63 at most. Networks of one process need numbers of their own.
    ///
    /// # Errors
    /// When this is not root, or the system has no `ip`.
    pub fn with_places(numbers: RangeInclusive<u8>) -> Result<Self> {
        // SAFETY: no preconditions, never fails.
        if unsafe { libc::geteuid() } != 0 {
            bail!("network namespaces can only be made by root; to run this test: {AS_ROOT}");
        }
        let switch = Namespace::new()?;
        switch.ip(&["link", "add", "switch", "type", "bridge"])?;
        switch.ip(&["link", "set", "switch", "up"])?;
        let mut network = Self { switch, places: Vec::new() };
        for number in numbers {
            let place = Place { namespace: Arc::new(Namespace::new()?), number };
            let (path, port, to_host) = (place.namespace.path(), place.port(), place.host_interface());
            network.switch.ip(&["link", "add", &port, "type", "veth", "peer", "name", TO_NODES, "netns", &path])?;
            network.switch.ip(&["link", "set", &port, "master", "switch", "up"])?;
            ip(&["link", "add", &to_host, "type", "veth", "peer", "name", TO_HOST, "netns", &path])?;
            ip(&["addr", "add", &format!("{}/30", place.host_address()), "dev", &to_host])?;
            ip(&["link", "set", &to_host, "up"])?;
            for (name, address) in [(TO_NODES, format!("{}/24", place.address())), (TO_HOST, place.own_side())] {
                place.namespace.ip(&["addr", "add", &address, "dev", name])?;
                place.namespace.ip(&["link", "set", name, "up"])?;
            }
            network.places.push(place);
        }
        Ok(network)
    }

    /// Cuts a place off from the others: what is sent is lost without a word.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&self, place: &Place) -> Result<()> {
        self.switch.ip(&["link", "set", &place.port(), "nomaster"])
    }

    /// Joins it to them again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal(&self, place: &Place) -> Result<()> {
        self.switch.ip(&["link", "set", &place.port(), "master", "switch"])
    }
}

impl Place {
    /// Its address among the nodes.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, 0, self.number)
    }

    /// The host's address on the link between the two; no other place can reach it.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, net_of_this_test(), self.number * 4 + 1)
    }

    /// Cuts its link to the host.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut_from_host(&self) -> Result<()> {
        self.namespace.ip(&["link", "set", TO_HOST, "down"])
    }

    /// Mends its link to the host.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal_to_host(&self) -> Result<()> {
        self.namespace.ip(&["link", "set", TO_HOST, "up"])
    }

    fn own_side(&self) -> String {
        format!("198.18.{}.{}/30", net_of_this_test(), self.number * 4 + 2)
    }

    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    /// Unlike that of any other test's place: interfaces of the host have names.
    fn host_interface(&self) -> String {
        format!("st{}p{}", id(), self.number)
    }
}

/// Tests that run at one time are given different nets by their process ids.
fn net_of_this_test() -> u8 {
    (id() % 250) as u8
}

fn enter(file: libc::c_int) -> std::io::Result<()> {
    // SAFETY: a plain system call on a file that the caller holds open.
    match unsafe { libc::setns(file, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("ip").args(arguments).env("PATH", path).output().context("there is no `ip` (package iproute2)")?;
    ensure!(output.status.success(), "ip {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
