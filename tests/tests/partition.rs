//! Cuts of the network between nodes, each in a network namespace of its own. A node that only loses the others keeps what it
//! has; one that loses DynamoDB as well is taken over, and comes back. Needs root.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use speedtrap_tests::certificates::certificates;
use speedtrap_tests::cluster::Cluster;
use speedtrap_tests::conservation::{Repeats, settled};
use speedtrap_tests::figures::say;
use speedtrap_tests::leases::{APPLICATIONS, ENRICH, LeaseWatch, leases};
use speedtrap_tests::network::{Network, Place};
use speedtrap_tests::pauses::{Pauses, Spread};
use speedtrap_tests::proxy::Proxy;
use speedtrap_tests::sandbox::Sandbox;
use speedtrap_tests::traffic::{Mix, Traffic};
use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until};

/// `notify.in_flight` at its default.
const IN_FLIGHT: usize = 4;
const NAMES: [&str; 3] = ["node-1", "node-2", "node-3"];
const SHARDS: u32 = 6;
/// Readings a second.
const RATE: u32 = 60;
const CUT_FOR: Duration = Duration::from_secs(20);
/// What is promised after a cut has healed.
const MESH_WITHIN: Duration = Duration::from_secs(6);
/// Less than the expiry of a lease, which would need no cluster.
const TAKEN_WITHIN: Duration = Duration::from_secs(8);
const BACK_WITHIN: Duration = Duration::from_secs(25);
const LIMIT: Duration = Duration::from_secs(90);

/// What a node's settings name.
struct Ways {
    address: String,
    aws: String,
    warehouse: String,
}

/// The tool itself: what is cut is cut, what is not is not.
#[test]
fn a_cut_place_reaches_the_host_and_no_other_place() -> Result<()> {
    let network = Network::with_places(11..=12)?;
    let (one, two) = (&network.places[0], &network.places[1]);
    let there = two.namespace.within(|| Ok(TcpListener::bind((two.address(), 0))?))?;
    let here = TcpListener::bind((one.host_address(), 0))?;
    let reaches = |listener: &TcpListener| -> Result<bool> {
        let address: SocketAddr = listener.local_addr()?;
        one.namespace.within(|| Ok(TcpStream::connect_timeout(&address, Duration::from_millis(1500)).is_ok()))
    };
    ensure!(reaches(&there)? && reaches(&here)?, "a whole network does not lead everywhere");
    network.cut(one)?;
    ensure!(!reaches(&there)? && reaches(&here)?, "a cut from the nodes is no such cut");
    network.heal(one)?;
    one.cut_from_host()?;
    ensure!(reaches(&there)? && !reaches(&here)?, "a cut from the host is no such cut");
    one.heal_to_host()?;
    ensure!(reaches(&there)? && reaches(&here)?, "a healed network does not lead everywhere");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_moves_nothing_and_a_node_cut_from_everything_is_taken_over_and_comes_back() -> Result<()> {
    let network = Network::with_places(1..=3)?;
    let sandbox = Sandbox::up_with_shards(SHARDS).await?;
    let mix = Mix { seed: 16, violations: 0.4, bad_numbers: 0.1, unknown_plates: 20 };
    let traffic = Traffic::begin(&sandbox, 380, mix).await?;
    let watch = LeaseWatch::begin(&sandbox.clients, &APPLICATIONS);
    let certificates = certificates(sandbox.folder())?;

    // Each place has its own proxies, so that no node reaches anything but by its own link.
    let (mut proxies, mut ways) = (Vec::new(), BTreeMap::new());
    for (name, place) in NAMES.into_iter().zip(&network.places) {
        let aws = Proxy::at(place.host_address(), &sandbox.endpoints.aws_endpoint_url).await?;
        let warehouse = Proxy::at(place.host_address(), &sandbox.endpoints.warehouse_url).await?;
        let way = Ways {
            address: place.address().to_string(),
            aws: aws.instead_of(&sandbox.endpoints.aws_endpoint_url)?,
            warehouse: warehouse.instead_of(&sandbox.endpoints.warehouse_url)? + "?sslmode=disable",
        };
        ways.insert(name, way);
        proxies.extend([aws, warehouse]);
    }
    let settings = |name: &str, command: &mut Command| {
        let Ways { address, aws, warehouse } = ways.get(name).context("a node without place")?;
        command.env("AWS_ENDPOINT_URL", aws).env("SPEEDTRAP_WAREHOUSE__URL", warehouse);
        command.env("SPEEDTRAP_CLUSTER__LISTEN", format!("{address}:7946"));
        command.env("SPEEDTRAP_CLUSTER__COOKIE", "a secret of the nodes of this test");
        for (key, file) in &certificates {
            command.env(key, file);
        }
        Ok(())
    };
    let mut cluster = Cluster::with_settings(&sandbox, Box::new(settings));
    for (name, place) in NAMES.into_iter().zip(&network.places) {
        cluster.place(name, &place.namespace);
    }
    cluster.start(&NAMES).await?;
    cluster.fair(LIMIT).await?;
    cluster.meshed(MESH_WITHIN).await?;
    let flow = traffic.flow(RATE);
    sleep(Duration::from_secs(3)).await;

    // The one that texts has most to lose.
    let name = cluster.texter().await?;
    let place = NAMES.iter().position(|other| *other == name).map(|at| &network.places[at]).context("it has a place")?;
    a_cut_link_moves_nothing(&sandbox, &cluster, &watch, &network, (&name, place)).await?;

    let worker = cluster.workers().await?[&name].clone();
    let shards = cluster.shards_of(&name, ENRICH).await?;
    ensure!(!shards.is_empty(), "{name} has nothing else to lose");
    network.cut(place)?;
    place.cut_from_host()?;
    let (cut, cut_at) = (Instant::now(), SystemTime::now());
    let taken = cluster.taken_from(&worker, TAKEN_WITHIN).await?;
    say("partition", &format!("a node cut from everything was taken over after {:.1} s", taken.as_secs_f64()));
    sleep_until(cut + CUT_FOR).await;
    network.heal(place)?;
    place.heal_to_host()?;
    let healed = Instant::now();
    let meshed = cluster.meshed(BACK_WITHIN).await?;
    cluster.fair(BACK_WITHIN).await?;
    let (meshed, fair) = (meshed.as_secs_f64(), healed.elapsed().as_secs_f64());
    say("partition", &format!("it was linked again {meshed:.1} s after healing, and had its fair share after {fair:.1} s"));
    sleep(Duration::from_secs(3)).await;

    let traffic = flow.stop().await?;
    let found = settled(&sandbox, &cluster, &traffic, LIMIT).await?;
    let repeats = Repeats::of(&found);
    let (sent, texts) = (traffic.sent().len(), found.texts.len());
    say("partition", &format!("{sent} readings, {texts} texts, {} of them repeated (at most {IN_FLIGHT})", repeats.texts));
    ensure!(repeats.texts <= IN_FLIGHT, "{} texts were repeated", repeats.texts);
    let counted = cluster.counts().await?.possible_repeats;
    ensure!(counted >= repeats.texts as u64, "{} texts were repeated and {counted} counted", repeats.texts);
    let pauses = Pauses::of(&traffic.sent(), &found);
    let spread = Spread::of(shards.iter().filter_map(|shard| pauses.longest(shard, cut_at, cut_at + TAKEN_WITHIN)));
    say("partition", &format!("last record before that cut to first after on its shards: {spread}"));
    cluster.stop().await?;
    sandbox.end().await
}

async fn a_cut_link_moves_nothing(
    sandbox: &Sandbox,
    cluster: &Cluster<'_>,
    watch: &LeaseWatch,
    network: &Network,
    (cut, place): (&str, &Place),
) -> Result<()> {
    let before = owners(sandbox).await?;
    let since = SystemTime::now();
    network.cut(place)?;
    let began = Instant::now();
    // The cut is felt on both sides.
    let other = NAMES.into_iter().find(|name| *name != cut).context("there are others")?;
    for (name, other) in [(other, cut), (cut, other)] {
        let look = || async {
            let seen = cluster.node(name)?.sees().await?;
            ensure!(seen.get(other).is_some_and(|presence| presence == "unlinked"), "{name} sees {seen:?}");
            Ok(())
        };
        speedtrap_tests::deadline::eventually("the cut is felt", TAKEN_WITHIN, look).await.with_context(|| cluster.logs())?;
    }
    let felt = began.elapsed().as_secs_f64();
    sleep_until(began + CUT_FOR).await;
    network.heal(place)?;
    let meshed = cluster.meshed(MESH_WITHIN).await?.as_secs_f64();
    say("partition", &format!("a cut link was felt after {felt:.1} s; all nodes were linked {meshed:.1} s after it healed"));
    sleep(Duration::from_secs(2)).await;
    let moves = watch.moves_since(since);
    ensure!(moves.is_empty() && owners(sandbox).await? == before, "a cut link moved leases: {moves:?}\n{}", cluster.logs());
    say("partition", &format!("no lease moved in a cut of {} s that left DynamoDB reached", CUT_FOR.as_secs()));
    Ok(())
}

/// Owner by application and shard.
async fn owners(sandbox: &Sandbox) -> Result<BTreeMap<(&'static str, String), Option<String>>> {
    let mut owners = BTreeMap::new();
    for application in APPLICATIONS {
        for row in leases(&sandbox.clients, application).await? {
            owners.insert((application, row.shard), row.owner);
        }
    }
    Ok(owners)
}
