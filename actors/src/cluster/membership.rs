//! Links this node to all others, and says who is there.
//!
//! Child of `NodeSupervisor`. Keeps ractor_cluster's node server, the `Gateway` and the node's own listener; dials every node
//! that it is not linked to; pings every link and ends one that does not answer; reads the node table. Sends views to whoever
//! watches [`Links`]. When it dies all links are lost and it starts again; leases and lanes go on.
//!
//! ractor_cluster brings sessions, their authentication and proxies of remote actors, and nothing else: no discovery, no
//! reconnection, no failure detector. Its sessions never end by themselves while a peer is frozen or cut off.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::node::NodeServerSessionInformation as SessionInfo;
use ractor_cluster::{IncomingEncryptionMode, NodeEventSubscription, NodeServer, NodeServerMessage};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::gateway::{GROUP, Gateway, GatewayArgs, GatewayMsg, SCOPE};
use super::presence::{FORGOTTEN_AFTER, LinkSeen, NodeSightings};
use super::redial::Redial;
use super::wire_message::{About, Wire};
use super::{ClusterNode, MembershipSettings, NodeSupervisorMsg, Presence};
use crate::observe::{ActorTable, Mailbox, Meter, Spot};
use crate::ports::{NodeRow, RemoteFailure};

/// A page may have 1 MiB; nothing else comes near.
const MOST_FRAME_BYTES: u64 = 4 << 20;
/// Sessions that are not linked yet, such as those of strangers who connect and say nothing.
const MOST_UNREADY: usize = 64;

pub(super) struct Membership;

#[derive(Debug)]
pub(super) enum MembershipMsg {
    /// A session was opened; whoever is there has yet to prove that it belongs here.
    Opened(SessionInfo),
    /// A session is authenticated, and the gateway at its end is known.
    Ready(SessionInfo),
    Closed(SessionInfo),
    PingDue,
    /// The answer to a ping, with how long it took; none when it did not come in time.
    Ponged(ActorId, Option<(About, Duration)>),
    /// The regular scan of the node table.
    ScanDue,
    /// A scan out of turn, since somebody may be dead.
    ScanSoon,
    /// What a scan that began then showed.
    Scanned(Instant, Result<Vec<NodeRow>, RemoteFailure>),
    /// A dial of this address ended; if there is a connection, with the socket address reached.
    Dialled(String, Option<String>),
    /// This node gives its leases away.
    Drain,
    /// It takes part again.
    Resume,
}

pub(super) struct MembershipArgs {
    pub(super) meter: Arc<Meter>,
    pub(super) actors: ActorTable,
    pub(super) spot: Spot,
    pub(super) root: Mailbox<NodeSupervisorMsg>,
    pub(super) settings: MembershipSettings,
    pub(super) draining: bool,
}

pub(super) struct MembershipState {
    settings: MembershipSettings,
    myself: Mailbox<MembershipMsg>,
    server: ActorRef<NodeServerMessage>,
    about: watch::Sender<About>,
    sessions: Vec<Session>,
    /// By worker, lost ones too.
    links: BTreeMap<String, LinkSeen>,
    sightings: NodeSightings,
    redial: Redial,
    scanning: bool,
    scan_soon: bool,
    unreadable: bool,
    running: JoinSet<()>,
}

struct Session {
    info: SessionInfo,
    opened: Instant,
    gateway: Option<ActorRef<GatewayMsg>>,
    /// The worker that answered through it, once one did.
    worker: Option<String>,
    pinging: bool,
    misses: u32,
}

/// Turns the node server's events into messages.
struct Events(Mailbox<MembershipMsg>);

impl ractor::Message for MembershipMsg {}

impl NodeEventSubscription for Events {
    fn node_session_opened(&self, info: SessionInfo) {
        // When the actor is gone, so is the node server soon.
        let _gone = self.0.cast(MembershipMsg::Opened(info));
    }

    fn node_session_authenticated(&self, _: SessionInfo) {}

    fn node_session_ready(&self, info: SessionInfo) {
        let _gone = self.0.cast(MembershipMsg::Ready(info));
    }

    fn node_session_disconnected(&self, info: SessionInfo) {
        let _gone = self.0.cast(MembershipMsg::Closed(info));
    }
}

impl Actor for Membership {
    type Msg = MembershipMsg;
    type State = MembershipState;
    type Arguments = MembershipArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<MembershipMsg>,
        args: MembershipArgs,
    ) -> Result<MembershipState, ActorProcessingErr> {
        let MembershipArgs { meter, actors, spot, root, settings, draining } = args;
        let cell = myself.get_cell();
        let myself = Mailbox::new(myself, meter);
        settings.links.unlink_all();
        let about = About {
            name: settings.me.name.clone(),
            boot: settings.me.boot,
            address: settings.me.address.clone(),
            dashboard: settings.me.dashboard.clone(),
            roles: settings.me.roles.clone(),
            draining,
        };
        let (about, asked) = watch::channel(about);
        let desk = settings.desk.clone();
        let spot = spot.child("Gateway", "gateway");
        actors.spawn(&spot, Some(cell.clone()), Gateway, |_| GatewayArgs { root, desk, about: asked }).await?;

        let (server, _) = Actor::spawn_linked(None, node_server(&settings), (), cell).await?;
        let subscription = Box::new(Events(myself.clone()));
        server.cast(NodeServerMessage::SubscribeToEvents { id: "membership".to_owned(), subscription })?;
        let mut running = JoinSet::new();
        let (socket, accepting) = (Arc::clone(&settings.socket), server.clone());
        running.spawn(async move {
            let open = |stream| {
                // A node server that is gone takes this task with it.
                let _gone = accepting.cast(NodeServerMessage::ConnectionOpened { stream: Box::new(stream), is_server: true });
            };
            socket.serve(open).await;
        });
        myself.cast(MembershipMsg::PingDue)?;
        if settings.table.is_some() {
            myself.cast(MembershipMsg::ScanDue)?;
        }
        let mut state = MembershipState {
            sightings: NodeSightings::new(settings.timings.still_for),
            redial: Redial::new(settings.timings.redial, settings.others_to_join(), Instant::now()),
            settings,
            myself,
            server,
            about,
            sessions: Vec::new(),
            links: BTreeMap::new(),
            scanning: false,
            scan_soon: false,
            unreadable: false,
            running,
        };
        state.publish();
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<MembershipMsg>,
        message: MembershipMsg,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MembershipMsg::Opened(info) => state.opened(info),
            MembershipMsg::Ready(info) => state.ready(&info),
            MembershipMsg::Closed(info) => state.closed(info.actor.get_id(), "its session ended"),
            MembershipMsg::PingDue => {
                state.myself.cast_after(state.settings.timings.ping_every, || MembershipMsg::PingDue);
                state.check_tasks()?;
                state.ping();
            }
            MembershipMsg::Ponged(session, answer) => state.ponged(session, answer),
            MembershipMsg::ScanDue => {
                state.myself.cast_after(state.settings.timings.scan_every, || MembershipMsg::ScanDue);
                state.scan();
            }
            MembershipMsg::ScanSoon => {
                state.scan_soon = false;
                state.scan();
            }
            MembershipMsg::Scanned(begun, rows) => state.scanned(begun, rows),
            MembershipMsg::Dialled(address, reached) => {
                state.redial.dialled(&address, reached, Instant::now(), rand::random());
            }
            MembershipMsg::Drain => state.show_draining(true),
            MembershipMsg::Resume => state.show_draining(false),
        }
        state.dial();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<MembershipMsg>,
        event: SupervisionEvent,
        _: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => Err(error),
            SupervisionEvent::ActorTerminated(..) => Err("the node server or the gateway ended".into()),
            _ => Ok(()),
        }
    }
}

fn node_server(settings: &MembershipSettings) -> NodeServer {
    let (name, boot) = (&settings.me.name, settings.me.boot);
    let encryption = settings.socket.acceptor().map_or(IncomingEncryptionMode::Raw, IncomingEncryptionMode::Tls);
    // Its own listener shakes hands inside its accept loop, so one silent client would keep all others out: it is parked on a
    // port that nobody knows. A name with the boot in it is never refused as its own dead predecessor, and a label of its own
    // is never taken for this node itself.
    NodeServer::new(
        0,
        settings.cookie.clone(),
        settings.me.worker(),
        format!("{name}.{boot}"),
        Some(encryption),
        Some(NodeConnectionMode::Isolated),
    )
    .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
    .with_max_inbound_frame_size(MOST_FRAME_BYTES)
}

impl MembershipState {
    fn show_draining(&mut self, draining: bool) {
        self.about.send_modify(|about| about.draining = draining);
        self.publish();
    }

    fn opened(&mut self, info: SessionInfo) {
        let unready = self.sessions.iter().filter(|session| session.worker.is_none()).count();
        if unready >= MOST_UNREADY && info.is_server {
            info.actor.kill();
            return;
        }
        let opened = Instant::now();
        self.sessions.push(Session { info, opened, gateway: None, worker: None, pinging: false, misses: 0 });
    }

    fn ready(&mut self, info: &SessionInfo) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.info.actor.get_id() == info.actor.get_id()) else {
            return;
        };
        // What the peer is called is known from now on.
        session.info = info.clone();
        let is_its = |id: ActorId| matches!(id, ActorId::Remote { node_id, .. } if node_id == info.node_id);
        let gateways = ractor::pg::get_scoped_members(&SCOPE.to_owned(), &GROUP.to_owned());
        session.gateway = gateways.into_iter().find(|cell| is_its(cell.get_id())).map(Into::into);
        // The first answer makes it a link.
        ping(session, &self.settings, &self.myself, &mut self.running);
    }

    fn ping(&mut self) {
        let timings = &self.settings.timings;
        let is_late = |session: &Session| session.worker.is_none() && session.opened.elapsed() >= timings.ready_within;
        for session in self.sessions.extract_if(.., |session| is_late(session)).collect::<Vec<_>>() {
            tracing::debug!(peer = session.info.peer_addr, "a session that did not become a link is ended");
            session.info.actor.kill();
        }
        for session in &mut self.sessions {
            ping(session, &self.settings, &self.myself, &mut self.running);
        }
        self.publish();
    }

    fn ponged(&mut self, id: ActorId, answer: Option<(About, Duration)>) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.info.actor.get_id() == id) else { return };
        session.pinging = false;
        match answer {
            Some((about, round_trip)) => {
                session.misses = 0;
                let worker = about.worker();
                let claimed = session.info.peer_name.as_ref().and_then(|name| name.name.split('@').next());
                if claimed != Some(worker.as_str()) || worker == self.settings.me.worker() {
                    self.end(id, "it is not whom it says it is");
                    return;
                }
                let is_new = session.worker.is_none();
                session.worker = Some(worker.clone());
                let was_linked = self.links.get(&worker).is_some_and(|link| link.lost.is_none());
                let seen = LinkSeen { about, lost: None, round_trip: Some(round_trip), misses: 0 };
                if is_new && let Some(gateway) = &session.gateway {
                    let reached = (!session.info.is_server).then_some(session.info.peer_addr.as_str());
                    self.redial.linked(&worker, seen.about.address.as_deref(), reached);
                    self.settings.links.linked(worker.clone(), gateway.clone());
                    if !was_linked {
                        tracing::info!(node = worker, "linked");
                    }
                }
                let changed = self.links.insert(worker, seen.clone()).is_none_or(|old| old.about != seen.about);
                if changed || !was_linked {
                    self.publish();
                }
            }
            None => {
                session.misses += 1;
                let misses = session.misses;
                if let Some(link) = session.worker.as_ref().and_then(|worker| self.links.get_mut(worker)) {
                    link.misses = misses;
                }
                if misses >= self.settings.timings.most_misses {
                    self.end(id, "it did not answer");
                }
            }
        }
    }

    fn end(&mut self, id: ActorId, why: &str) {
        if let Some(session) = self.sessions.iter().find(|session| session.info.actor.get_id() == id) {
            session.info.actor.kill();
        }
        self.closed(id, why);
    }

    /// Notes the end of a session. Another one to the same node may stand: of two that were opened at once, one is given up.
    fn closed(&mut self, id: ActorId, why: &str) {
        let Some(at) = self.sessions.iter().position(|session| session.info.actor.get_id() == id) else { return };
        let Some(worker) = self.sessions.swap_remove(at).worker else { return };
        let other = self.sessions.iter().find(|session| session.worker.as_ref() == Some(&worker));
        if let Some(gateway) = other.and_then(|session| session.gateway.clone()) {
            self.settings.links.linked(worker, gateway);
            return;
        }
        self.settings.links.unlinked(&worker);
        let now = Instant::now();
        self.redial.unlinked(&worker, now, rand::random());
        if let Some(link) = self.links.get_mut(&worker) {
            link.lost = Some(now);
        }
        tracing::warn!(node = worker, why, "link lost");
        self.publish();
        self.scan();
    }

    fn scan(&mut self) {
        let Some(table) = self.settings.table.clone() else { return };
        if std::mem::replace(&mut self.scanning, true) {
            return;
        }
        let myself = self.myself.clone();
        self.running.spawn(async move {
            let begun = Instant::now();
            let rows = table.list().await;
            // When the actor is gone there is nobody left to tell.
            let _gone = myself.cast(MembershipMsg::Scanned(begun, rows));
        });
    }

    fn scanned(&mut self, begun: Instant, rows: Result<Vec<NodeRow>, RemoteFailure>) {
        self.scanning = false;
        let now = Instant::now();
        match rows {
            Ok(rows) => {
                self.sightings.note(rows, begun, now);
                if std::mem::take(&mut self.unreadable) {
                    tracing::info!("the node table is read again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    tracing::warn!(%error, "the node table cannot be read; nobody is declared dead until it is");
                }
            }
        }
        for (name, boot) in self.sightings.long_dead() {
            let Some(table) = self.settings.table.clone() else { continue };
            let name = name.to_owned();
            self.running.spawn(async move {
                match table.remove(&name, boot).await {
                    Ok(()) => tracing::info!(name, boot, "removed the row of a node that has been dead for a day"),
                    Err(error) => tracing::debug!(%error, "the row of a dead node was not removed"),
                }
            });
        }
        self.publish();
    }

    fn publish(&mut self) {
        let now = Instant::now();
        self.links.retain(|_, link| link.lost.is_none_or(|lost| now - lost < FORGOTTEN_AFTER));
        let view = self.sightings.view(&self.about.borrow(), &self.links, now);
        let is_to_dial = |node: &&ClusterNode| !matches!(node.presence, Presence::Here | Presence::Dead);
        let addresses = view.nodes.iter().filter(is_to_dial);
        let addresses = addresses.filter_map(|node| Some((node.worker.clone(), node.address.clone()?))).collect();
        self.redial.note(&addresses, now);
        let in_doubt = view.nodes.iter().any(|node| matches!(node.presence, Presence::Unlinked | Presence::Suspect));
        if in_doubt && self.settings.table.is_some() && !std::mem::replace(&mut self.scan_soon, true) {
            self.myself.cast_after(self.settings.timings.scan_every_in_doubt, || MembershipMsg::ScanSoon);
        }
        self.settings.links.publish(view);
    }

    fn dial(&mut self) {
        let links = &self.links;
        let is_linked = |worker: &str| links.get(worker).is_some_and(|link| link.lost.is_none());
        for address in self.redial.due(Instant::now(), is_linked) {
            let (socket, server, myself) = (Arc::clone(&self.settings.socket), self.server.clone(), self.myself.clone());
            self.running.spawn(async move {
                let reached = match socket.dial(&address).await {
                    Ok((stream, peer)) => {
                        let stream = Box::new(stream);
                        // A node server that is gone takes this task with it.
                        let _gone = server.cast(NodeServerMessage::ConnectionOpened { stream, is_server: false });
                        Some(peer.to_string())
                    }
                    Err(error) => {
                        tracing::debug!(address, %error, "a node cannot be reached");
                        None
                    }
                };
                // When the actor is gone there is nobody left to tell.
                let _gone = myself.cast(MembershipMsg::Dialled(address, reached));
            });
        }
    }

    /// A task that panicked may have been the one that listens, or the one that says that a scan has ended.
    fn check_tasks(&mut self) -> Result<(), ActorProcessingErr> {
        while let Some(ended) = self.running.try_join_next() {
            ended?;
        }
        Ok(())
    }
}

/// Asks the gateway at the end of a session, once it is known and unless the last ping is still on its way.
fn ping(session: &mut Session, settings: &MembershipSettings, myself: &Mailbox<MembershipMsg>, running: &mut JoinSet<()>) {
    let Some(gateway) = session.gateway.clone() else { return };
    if std::mem::replace(&mut session.pinging, true) {
        return;
    }
    let (id, timeout, myself) = (session.info.actor.get_id(), settings.timings.ping_timeout, myself.clone());
    running.spawn(async move {
        let begun = Instant::now();
        let answer = match gateway.call(GatewayMsg::Ping, Some(timeout)).await {
            Ok(CallResult::Success(Wire(Ok(about)))) => Some((about, begun.elapsed())),
            _ => None,
        };
        // When the actor is gone there is nobody left to tell.
        let _gone = myself.cast(MembershipMsg::Ponged(id, answer));
    });
}
