//! What values may be, beyond their types.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use speedtrap_actors::wire::SmsTemplate;

use super::{ConfigFault, NodeConfig};

const KINESIS_NAME: Name = Name { least: 1, most: 128, others: "_.-" };
const TABLE_NAME: Name = Name { least: 3, most: 255, others: "_.-" };
const DELIVERY_STREAM_NAME: Name = Name { least: 1, most: 64, others: "_.-" };
const NODE_NAME: Name = Name { least: 1, most: 64, others: "._-" };
const DNS_NAME: Name = Name { least: 1, most: 253, others: ".-" };
/// Whoever hears a handshake can try cookies at leisure, so it must not be a word.
pub(crate) const LEAST_COOKIE_BYTES: usize = 16;
/// A batch numbers its events in 16 bits, and a message of more than this would only hold up the lane.
const MOST_BATCH_EVENTS: usize = 10_000;

struct Name {
    least: usize,
    most: usize,
    others: &'static str,
}

#[derive(Default)]
struct Checker(Vec<ConfigFault>);

impl NodeConfig {
    /// Everything that is wrong with the values.
    pub(super) fn faults(&self) -> Vec<ConfigFault> {
        let mut check = Checker::default();
        self.check_process(&mut check);
        self.check_names(&mut check);
        self.check_lanes(&mut check);
        self.check_lookup(&mut check);
        self.check_cluster(&mut check);
        self.check_ingest(&mut check);
        check.0
    }

    fn check_process(&self, check: &mut Checker) {
        check.name("node.name", &self.node.name, &NODE_NAME);
        let mut roles = self.node.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() || roles.len() != self.node.roles.len() {
            check.fault("node.roles", format!("{:?} must name one role at least, and each only once", self.node.roles));
        }
        self.check_dashboard(check);
        check.duration("drain.timeout", self.drain.timeout, secs(1), secs(900));
        if !self.metrics.embedded_every.is_zero() {
            check.duration("metrics.embedded_every", self.metrics.embedded_every, secs(1), secs(3_600));
        }
    }

    fn check_dashboard(&self, check: &mut Checker) {
        let dashboard = &self.dashboard;
        let (listen, has_tokens) = (dashboard.listen, dashboard.tokens_file().is_some());
        let [has_cert, has_key] = [&dashboard.tls_cert, &dashboard.tls_key].map(|file| !file.as_os_str().is_empty());
        let needed = [("dashboard.tls_cert", has_cert), ("dashboard.tls_key", has_key), ("dashboard.tokens_file", has_tokens)];
        let missing: Vec<_> = needed.iter().filter(|(_, is_there)| !is_there).map(|(key, _)| *key).collect();
        if !listen.ip().is_loopback() && !missing.is_empty() {
            let why = "is not a loopback address, so the API needs TLS and tokens; set";
            check.fault("dashboard.listen", format!("`{listen}` {why} {}", missing.join(", ")));
        } else if has_cert != has_key {
            let lacking = if has_cert { "dashboard.tls_key" } else { "dashboard.tls_cert" };
            check.fault(lacking, "must be set, since the other of certificate and key is".to_owned());
        }
        if dashboard.url.is_empty() {
            if listen.ip().is_unspecified() {
                check.fault("dashboard.url", format!("must be set, since `dashboard.listen` ({listen}) says no host"));
            }
        } else if dashboard.url_host().is_none() {
            check.fault("dashboard.url", format!("`{}` is no https://host:port", dashboard.url));
        }
        // An address of IPv6 has colons of its own, and stands in brackets.
        let in_name = |b: u8| b.is_ascii_alphanumeric() || b".-".contains(&b);
        let is_name = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(in_name),
        };
        if let Some(host) = dashboard.hosts.iter().find(|host| !is_name(host)) {
            check.fault("dashboard.hosts", format!("`{host}` is no name or address without a port"));
        }
        // Under a name of elsewhere others are let in, such as through a proxy on this machine.
        let is_loopback = |host: &str| host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let near = |host: &str| host == "localhost" || is_loopback(host);
        let far = dashboard.hosts.iter().map(String::as_str).chain(dashboard.url_host()).find(|host| !near(host));
        if let (Some(host), false, true) = (far, has_tokens, listen.ip().is_loopback()) {
            check
                .fault("dashboard.tokens_file", format!("must be set, since the API is to be asked as `{host}`, from elsewhere"));
        }
    }

    fn check_names(&self, check: &mut Checker) {
        check.name("kinesis.in_stream", &self.kinesis.in_stream, &KINESIS_NAME);
        check.name("kinesis.out_stream", &self.kinesis.out_stream, &KINESIS_NAME);
        check.name("kinesis.error_stream", &self.kinesis.error_stream, &KINESIS_NAME);
        check.duration("kinesis.poll_interval", self.kinesis.poll_interval, millis(200), secs(10));
        check.range("kinesis.read_limit", self.kinesis.read_limit, 1, 10_000);
        let tables = &self.dynamodb;
        let leases = [
            ("dynamodb.enrich_leases", &tables.enrich_leases),
            ("dynamodb.notify_leases", &tables.notify_leases),
            ("dynamodb.archive_leases", &tables.archive_leases),
            ("dynamodb.errors_leases", &tables.errors_leases),
            ("ingest.leases", &self.ingest.leases),
        ];
        let others = [
            ("dynamodb.speeding_table", &tables.speeding_table),
            ("dynamodb.alerts_table", &tables.alerts_table),
            ("dynamodb.dead_letters_table", &tables.dead_letters_table),
            ("dynamodb.nodes_table", &tables.nodes_table),
            ("persist.raw_table", &self.persist.raw_table),
        ];
        let mut seen: Vec<(&str, &String)> = Vec::new();
        for (key, name) in others.into_iter().chain(leases) {
            if ["persist.raw_table", "dynamodb.nodes_table"].contains(&key) && name.is_empty() {
                continue;
            }
            check.name(key, name, &TABLE_NAME);
            if let Some((other, _)) = seen.iter().find(|(_, taken)| *taken == name) {
                check.fault(key, format!("`{name}` is the table of `{other}` too; each needs its own"));
            }
            seen.push((key, name));
        }
        check.name("archive.delivery_stream", &self.archive.delivery_stream, &DELIVERY_STREAM_NAME);
        let bucket = &self.archive.bucket;
        let in_bucket = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        let is_bucket = (3..=63).contains(&bucket.len()) && bucket.bytes().all(in_bucket);
        if !bucket.is_empty() && !is_bucket {
            check.fault("archive.bucket", format!("`{bucket}` must be empty or 3 to 63 characters [a-z0-9.-]"));
        }
    }

    fn check_lanes(&self, check: &mut Checker) {
        let lane = &self.lane;
        check.range("lane.credit_events", lane.credit_events, 1, 100_000);
        check.range("lane.credit_bytes", lane.credit_bytes.as_u64(), 1 << 10, 1 << 30);
        check.range("lane.batch_events", lane.batch_events, 1, lane.credit_events.clamp(1, MOST_BATCH_EVENTS));
        check.range("lane.batch_bytes", lane.batch_bytes.as_u64(), 1 << 10, lane.credit_bytes.as_u64().max(1 << 10));
        check.duration("lane.checkpoint_interval", lane.checkpoint_interval, millis(100), secs(60));
        check.duration("lane.backoff_most", lane.backoff_most, millis(10), secs(600));
        check.duration("lane.backoff_first", lane.backoff_first, millis(10), lane.backoff_most.max(millis(10)));
        check.duration("lane.stall_after", lane.stall_after, secs(5), secs(600));
        check.range("rule.limit_mph", self.rule.limit_mph, 0, 998);

        let notify = &self.notify;
        check.range("notify.in_flight", notify.in_flight, 1, 100);
        check.range("notify.max_texts_per_second", notify.max_texts_per_second, 1, 10_000);
        check.range("notify.credit_events", notify.credit_events, 1, 10_000);
        check.range("notify.batch_events", notify.batch_events, 1, notify.credit_events.clamp(1, MOST_BATCH_EVENTS));
        check.duration("notify.claim_expiry", notify.claim_expiry, secs(6), secs(600));
        let length = notify.template.chars().count();
        if !(1..=1_600).contains(&length) {
            check.fault("notify.template", format!("has {length} characters; allowed are 1 to 1600"));
        }
        if let Err(error) = SmsTemplate::parse(&notify.template) {
            check.fault("notify.template", error.to_string());
        }

        let lease = &self.lease;
        check.duration("lease.expires_after", lease.expires_after, secs(1), secs(300));
        check.duration("lease.renew_every", lease.renew_every, millis(100), (lease.expires_after / 3).max(millis(100)));
        check.duration("lease.sync_every", lease.sync_every, millis(100), secs(300));
    }

    fn check_lookup(&self, check: &mut Checker) {
        let (lookup, warehouse) = (&self.lookup, &self.warehouse);
        check.duration("lookup.known_for", lookup.known_for, secs(1), secs(7 * 86_400));
        check.duration("lookup.unknown_for", lookup.unknown_for, secs(1), secs(3_600));
        check.range("lookup.max_entries", lookup.max_entries, 1, 50_000_000);
        check.duration("lookup.batch_linger", lookup.batch_linger, Duration::ZERO, secs(1));
        check.range("lookup.max_queries", lookup.max_queries, 1, warehouse.pool_size.max(1));
        check.range("warehouse.port", warehouse.port, 1, u16::MAX);
        check.range("warehouse.pool_size", warehouse.pool_size, 1, 50);
        check.duration("warehouse.connect_timeout", warehouse.connect_timeout, millis(100), secs(60));
        check.duration("warehouse.query_timeout", warehouse.query_timeout, millis(100), secs(300));
        let url = &warehouse.url;
        if url.is_set() && !["postgresql://", "postgres://"].iter().any(|scheme| url.reveal().starts_with(scheme)) {
            check.fault("warehouse.url", "must begin with postgresql://".to_owned());
        }
        let sources = [url.is_set(), !warehouse.url_file.is_empty(), !warehouse.secret_arn.is_empty()];
        if !sources.contains(&true) && self.node.roles.contains(&super::RoleName::Enrich) {
            check.fault("warehouse", "role enrich needs one of url, url_file and secret_arn".to_owned());
        }
    }

    fn check_ingest(&self, check: &mut Checker) {
        let ingest = &self.ingest;
        check.range("ingest.topic_filter", ingest.topic_filter.len(), 1, 256);
        check.range("ingest.client_id", ingest.client_id.len(), 0, 128);
        check.range("ingest.in_flight", ingest.in_flight, 1, 10_000);
        check.range("ingest.max_packet", ingest.max_packet.as_u64(), 1 << 10, 1 << 20);
        check.duration("ingest.session_expiry", ingest.session_expiry, secs(60), secs(365 * 86_400));
        check.duration("ingest.linger", ingest.linger, Duration::ZERO, secs(1));
        if !ingest.is_on() {
            return;
        }
        if !is_host_and_port(&ingest.broker) {
            check.fault("ingest.broker", format!("`{}` is no host:port", ingest.broker));
        } else if ingest.ca.is_empty() && !ingest.is_near() {
            check.fault("ingest.ca", format!("must be set, since the broker `{}` is not on a loopback address", ingest.broker));
        }
        if ingest.cert.is_empty() != ingest.key.is_empty() {
            let missing = if ingest.cert.is_empty() { "ingest.cert" } else { "ingest.key" };
            check.fault(missing, "must be set, since the other of certificate and key is".to_owned());
        }
        if !ingest.cert.is_empty() && ingest.ca.is_empty() {
            check.fault("ingest.ca", "must be set, since a certificate is".to_owned());
        }
        if ingest.username.is_empty() != ingest.password_file.is_empty() {
            check.fault("ingest.password_file", "and ingest.username go together".to_owned());
        }
    }

    fn check_cluster(&self, check: &mut Checker) {
        let cluster = &self.cluster;
        let listen = cluster.listen;
        let has_tls = cluster.tls_files().iter().any(|(_, file)| !file.is_empty());
        let is_far = !listen.ip().is_loopback();
        for (key, _) in cluster.tls_files().iter().filter(|(_, file)| file.is_empty()) {
            if is_far {
                check.fault(key, format!("must be set, since `cluster.listen` ({listen}) is not a loopback address"));
            } else if has_tls {
                check.fault(key, "must be set, since another TLS file is".to_owned());
            }
        }
        if is_far && !cluster.has_cookie() {
            let why = "or `cluster.cookie_file` must be set, since `cluster.listen` is not a loopback address";
            check.fault("cluster.cookie", format!("{why} ({listen})"));
        } else if !cluster.join.is_empty() && self.dynamodb.nodes_table.is_empty() && !cluster.has_cookie() {
            let why = "or `cluster.cookie_file` must be set, since nodes are to be joined without a node table that holds one";
            check.fault("cluster.cookie", why.to_owned());
        }
        if cluster.cookie.is_set() && cluster.cookie.reveal().len() < LEAST_COOKIE_BYTES {
            check.fault("cluster.cookie", format!("is too short to be a secret; at least {LEAST_COOKIE_BYTES} bytes are needed"));
        }
        if !cluster.advertise.is_empty() && !is_host_and_port(&cluster.advertise) {
            check.fault("cluster.advertise", format!("`{}` is no host:port", cluster.advertise));
        }
        if cluster.advertise.is_empty() && listen.ip().is_unspecified() {
            check.fault("cluster.advertise", format!("must be set, since `cluster.listen` ({listen}) says no host"));
        }
        for address in &cluster.join {
            if !is_host_and_port(address) {
                check.fault("cluster.join", format!("`{address}` is no host:port"));
            } else if !has_tls && address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback()) {
                check.fault("cluster.join", format!("`{address}` is not on this machine, so the TLS files must be set"));
            }
        }
        check.name("cluster.tls_name", &cluster.tls_name, &DNS_NAME);
    }
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl Checker {
    fn fault(&mut self, key: &str, what: String) {
        self.0.push(ConfigFault::new(key, what));
    }

    fn range<T: PartialOrd + Display>(&mut self, key: &str, value: T, least: T, most: T) {
        if value < least || value > most {
            self.fault(key, format!("`{value}` is out of range; allowed are {least} to {most}"));
        }
    }

    fn duration(&mut self, key: &str, value: Duration, least: Duration, most: Duration) {
        if value < least || value > most {
            let [value, least, most] = [value, least, most].map(format_duration);
            self.fault(key, format!("`{value}` is out of range; allowed are {least} to {most}"));
        }
    }

    fn name(&mut self, key: &str, text: &str, rule: &Name) {
        let fits = (rule.least..=rule.most).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || rule.others.contains(c));
        if !fits {
            let Name { least, most, others } = rule;
            self.fault(key, format!("`{text}` must be {least} to {most} characters [A-Za-z0-9{others}]"));
        }
    }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[cfg(test)]
mod tests {
    use super::super::process::DashboardConfig;
    use super::*;

    fn keys_at_fault(change: impl FnOnce(&mut NodeConfig)) -> Vec<String> {
        let mut config = NodeConfig::default();
        change(&mut config);
        config.faults().into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(NodeConfig::default().faults(), []);
    }

    #[test]
    fn off_this_machine_the_api_needs_tls_and_tokens() {
        let listening = |address: &str, change: fn(&mut DashboardConfig)| {
            keys_at_fault(|config| {
                config.dashboard.listen = address.parse().expect("an address");
                change(&mut config.dashboard);
            })
        };
        let all = |dashboard: &mut DashboardConfig| {
            (dashboard.tls_cert, dashboard.tls_key) = ("cert.pem".into(), "key.pem".into());
            dashboard.tokens_file = "tokens".into();
        };
        for (address, bare, guarded) in [
            ("127.0.0.1:0", &[][..], &[][..]),
            ("[::1]:7300", &[], &[]),
            ("192.0.2.1:7300", &["dashboard.listen"], &[]),
            ("0.0.0.0:7300", &["dashboard.listen", "dashboard.url"], &["dashboard.url"]),
        ] {
            assert_eq!(listening(address, |_| ()), bare, "{address}");
            assert_eq!(listening(address, all), guarded, "{address}");
        }
        let half: fn(&mut DashboardConfig) = |dashboard| dashboard.tls_cert = "cert.pem".into();
        assert_eq!(listening("127.0.0.1:0", half), ["dashboard.tls_key"]);
        assert_eq!(listening("192.0.2.1:7300", half), ["dashboard.listen"]);
        assert_eq!(listening("127.0.0.1:0", |dashboard| dashboard.url = "node-1".into()), ["dashboard.url"]);
        let proxied: fn(&mut DashboardConfig) = |dashboard| dashboard.url = "https://ops.example".into();
        assert_eq!(listening("127.0.0.1:0", proxied), ["dashboard.tokens_file"]);
        for (host, fits) in
            [("node-1.example", true), ("[2001:db8::1]", true), ("node-1:7300", false), ("a b", false), ("", false)]
        {
            let found = keys_at_fault(|config| {
                (config.dashboard.hosts, config.dashboard.tokens_file) = (vec![host.into()], "tokens".into());
            });
            assert_eq!(found.is_empty(), fits, "{host}");
        }
    }

    #[test]
    fn links_off_this_machine_need_tls_and_a_cookie() {
        let far = |config: &mut NodeConfig| config.cluster.listen = "192.0.2.1:7301".parse().expect("an address");
        assert_eq!(keys_at_fault(far), ["cluster.tls_ca", "cluster.tls_cert", "cluster.tls_key", "cluster.cookie"]);
        let with_tls = |config: &mut NodeConfig| {
            let cluster = &mut config.cluster;
            (cluster.tls_ca, cluster.tls_cert, cluster.tls_key) = ("ca.pem".into(), "cert.pem".into(), "key.pem".into());
            cluster.join = vec!["192.0.2.2:7301".into()];
        };
        assert_eq!(keys_at_fault(with_tls), [""; 0]);
        let good = |config: &mut NodeConfig| {
            far(config);
            with_tls(config);
            config.cluster.cookie_file = "cookie".into();
        };
        assert_eq!(keys_at_fault(good), [""; 0]);
        let anywhere = |config: &mut NodeConfig| {
            good(config);
            config.cluster.listen = "0.0.0.0:7301".parse().expect("an address");
        };
        assert_eq!(keys_at_fault(anywhere), ["cluster.advertise"]);
        assert_eq!(keys_at_fault(|config| config.cluster.tls_key = "key.pem".into()), ["cluster.tls_ca", "cluster.tls_cert"]);
        assert_eq!(keys_at_fault(|config| config.cluster.join = vec!["192.0.2.2:7301".into()]), ["cluster.join"]);
        assert_eq!(keys_at_fault(|config| config.cluster.join = vec!["nowhere".into()]), ["cluster.join"]);
        assert_eq!(keys_at_fault(|config| config.cluster.cookie = "short".to_owned().into()), ["cluster.cookie"]);
        let alone = |config: &mut NodeConfig| config.dynamodb.nodes_table = String::new();
        assert_eq!(keys_at_fault(alone), [""; 0]);
        let joined = |config: &mut NodeConfig| {
            alone(config);
            config.cluster.join = vec!["localhost:7301".into()];
        };
        assert_eq!(keys_at_fault(joined), ["cluster.cookie"], "there is no table to keep one in");
    }

    #[test]
    fn values_are_checked_against_each_other() {
        assert_eq!(keys_at_fault(|config| config.lane.credit_events = 100), ["lane.batch_events"]);
        assert_eq!(keys_at_fault(|config| config.lease.expires_after = secs(5)), ["lease.renew_every"]);
        assert_eq!(keys_at_fault(|config| config.dynamodb.notify_leases = "IotFastCarSensor".into()), ["dynamodb.notify_leases"]);
        assert_eq!(keys_at_fault(|config| config.node.roles.push(super::super::RoleName::Enrich)), ["node.roles"]);
        assert_eq!(keys_at_fault(|config| config.warehouse.pool_size = 2), ["lookup.max_queries"]);
        assert_eq!(keys_at_fault(|config| config.metrics.embedded_every = secs(60)), [""; 0]);
        assert_eq!(keys_at_fault(|config| config.metrics.embedded_every = millis(10)), ["metrics.embedded_every"]);
    }
}
