//! How nodes find and trust each other.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::warehouse::Secret;

/// `[cluster]`: the links between nodes. They find each other in the table that `dynamodb.nodes_table` names; `join` is for where
/// there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClusterConfig {
    /// Address that links from other nodes are taken at; port 0 takes a free one. Default `127.0.0.1:0`, which only nodes of
    /// the same machine reach. Any other than a loopback address needs the TLS files and a cookie of one's own.
    pub(crate) listen: SocketAddr,
    /// `host:port` that other nodes reach it at. Default empty: `listen`, with the port that was taken.
    pub(crate) advertise: String,
    /// Addresses of nodes to link to, each `host:port`, whatever the node table says; one of a cluster is enough if it has a
    /// node table. Default none.
    pub(crate) join: Vec<String>,
    /// Secret that all nodes share, at least 16 bytes, best given by `SPEEDTRAP_CLUSTER__COOKIE`. Shown as `***`. Default empty:
    /// what `cookie_file` holds, or else one that the first node makes and keeps in the node table.
    pub(crate) cookie: Secret,
    /// File that holds such a secret and nothing else; readable by the node alone. Default empty.
    pub(crate) cookie_file: String,
    /// PEM file with the authority that signs the certificates of all nodes, and nobody else's. Default empty: no TLS.
    pub(crate) tls_ca: String,
    /// PEM file with this node's certificate, for servers and clients. Default empty.
    pub(crate) tls_cert: String,
    /// PEM file with its private key; readable by the node alone. Default empty.
    pub(crate) tls_key: String,
    /// DNS name that stands in every node's certificate. Default `speedtrap`.
    pub(crate) tls_name: String,
}

impl ClusterConfig {
    /// Whether a cookie is given, rather than kept in the node table.
    pub(crate) fn has_cookie(&self) -> bool {
        self.cookie.is_set() || !self.cookie_file.is_empty()
    }

    /// The three TLS files with their keys.
    pub(crate) fn tls_files(&self) -> [(&'static str, &str); 3] {
        [("cluster.tls_ca", &self.tls_ca), ("cluster.tls_cert", &self.tls_cert), ("cluster.tls_key", &self.tls_key)]
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: String::new(),
            join: Vec::new(),
            cookie: Secret::default(),
            cookie_file: String::new(),
            tls_ca: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            tls_name: "speedtrap".into(),
        }
    }
}
