//! The addresses that the node listens on: free, or its own already.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde::Deserialize;

use super::report::Finding;
use super::{Check, Group};
use crate::config::NodeConfig;

/// A node answers from memory.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Who answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Node(String),
    Stranger,
    /// The API keeps it to those who may know.
    Untold,
}

/// The name of a node, in what it says of itself.
#[derive(Deserialize)]
struct Answer {
    node: String,
}

/// The API's address and that of the links.
pub(super) fn checks(config: &NodeConfig) -> Vec<Check> {
    let (api, links, name) = (config.dashboard.listen, config.cluster.listen, config.node.name.clone());
    let is_open = config.dashboard.tls_files().is_none() && config.dashboard.tokens_file().is_none();
    let own = name.clone();
    let mut all =
        vec![Check::local(Group::Ports, "port.dashboard", move || port(api, "dashboard.listen", || who(api, is_open), &own))];
    if !config.dynamodb.nodes_table.is_empty() || !config.cluster.join.is_empty() || config.cluster.has_cookie() {
        // Links have no page to ask; the node behind both addresses is one.
        all.push(Check::local(Group::Ports, "port.cluster", move || port(links, "cluster.listen", || who(api, is_open), &name)));
    }
    all
}

fn port(address: SocketAddr, key: &str, who: impl FnOnce() -> Who, own: &str) -> Finding {
    if address.port() == 0 {
        return Finding::ok(format!("{address}: a free port is taken"));
    }
    // Closed at once; nobody can have connected to it in between and been told anything.
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::ok(format!("{address} is free")),
        Err(error) => error,
    };
    if error.kind() != ErrorKind::AddrInUse {
        return Finding::fail(
            format!("{address} cannot be listened on: {error}"),
            format!("set {key} to an address of this machine, with a port above 1023 unless the service may take lower ones"),
        );
    }
    match who() {
        Who::Untold => Finding::warn(
            format!("{address} is in use, and by whom is told only over TLS or to a token"),
            format!("if this node runs, all is well; else end the other program, or set {key} to another port"),
        ),
        Who::Node(node) if node == own => Finding::ok(format!("{address} is in use by this node, which runs")),
        Who::Node(node) => Finding::fail(
            format!("{address} is in use by node `{node}`"),
            format!("give this node another address ({key}), or its own name"),
        ),
        Who::Stranger => Finding::fail(
            format!("{address} is in use by another program"),
            format!("end that program, or set {key} to another port (`ss -ltnp` names it)"),
        ),
    }
}

fn who(api: SocketAddr, is_open: bool) -> Who {
    if !is_open {
        return Who::Untold;
    }
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build().into();
    let answer = agent.get(format!("http://{api}/api/v1/status")).call().ok();
    let text = answer.and_then(|mut answer| answer.body_mut().read_to_string().ok());
    let said = text.and_then(|text| serde_json::from_str::<Answer>(&text).ok());
    said.map_or(Who::Stranger, |answer| Who::Node(answer.node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_fine_only_if_this_node_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address");
        let seen = |who: Who| format!("{:?}", port(address, "dashboard.listen", || who, "node-1"));
        let node = |name: &str| Who::Node(name.to_owned());
        assert!(seen(node("node-1")).contains("Ok"));
        assert!(seen(node("node-2")).contains("Fail") && seen(node("node-2")).contains("node-2"));
        assert!(seen(Who::Stranger).contains("another program"));
        assert!(seen(Who::Untold).contains("Warn"));
        drop(taken);
        assert_eq!(port(address, "dashboard.listen", || Who::Stranger, ""), Finding::ok(format!("{address} is free")));
    }
}
