//! Starting and stopping: everything of a replica is made here, on what its driver gives it, and ends here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use quorate_core::REPLACE_MEMBER;
use quorate_core::id::NodeId;
use quorate_journal::disk::{Disk, is_full};
use quorate_journal::{Driver, JournalError, JournalIds};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::compact::Compactor;
use crate::config::{ReplicaConfig, World};
use crate::error::{OpenError, Problem, Rollback};
use crate::grants::Grants;
use crate::grants::wire::{BootKey, Realm};
use crate::handler::PeerHandler;
use crate::log::{Command, Log, LogConfig, LogWriter, Recovered};
use crate::mark::Marked;
use crate::net::Listener;
use crate::node::{Base, Node};
use crate::node_file::NodeFile;
use crate::peer::hello::Heard;
use crate::peer::link::Links;
use crate::peer::members::Members;
use crate::peer::network::Network;
use crate::raft::applier::Applier;
use crate::raft::log_store::{LogStore, decoded_vote};
use crate::raft::machine::Machine;
use crate::raft::settings::settings;
use crate::raft::{Raft, new_seed, seeded};
use crate::sequences::Sequences;
use crate::shared::Shared;
use crate::snapshot::streams::Streams;
use crate::space::{Tail, reserve_bytes};
use crate::state::{State, StateError, StateFiles, is_state_file};
use crate::verify::Checker;
use crate::word::{Own, OwnKey, Standing, Words};
use crate::{change, gate, leader_log, mark, peer, quorum, space, succession, witness};

/// How long tasks have to end at shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Priority of the replica's threads where the system allows it: a starved leader is taken for a dead one.
const NICE: i32 = -5;

/// The replica's own runtime: consensus, peers and the read gate must never wait behind API requests, TLS handshakes
/// or RSA. Dropping it stops everything without waiting. A simulation has none: all is on the one that it is started on.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new(driver: &Driver) -> std::io::Result<Self> {
        if let Driver::Simulation(_) = driver {
            return Ok(Self(None));
        }
        // One worker. Multi-threaded all the same: signing in a TLS handshake blocks in place, and the other tasks
        // then go on on another thread.
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("replica")
            .on_thread_start(|| {
                // Linux: of the calling thread. Unprivileged processes may not; then it stays as it is.
                let _ = rustix::process::setpriority_process(None, NICE);
            })
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What has to be stopped.
pub(crate) struct Running {
    apply: Arc<Applier>,
    writer: LogWriter,
    /// They end with it.
    tasks: JoinSet<()>,
    runtime: OwnRuntime,
}

impl Running {
    /// Stops everything; returns once the files are closed.
    pub(crate) async fn stop(mut self, node: &Node) {
        let _ = node.base.raft.shutdown().await;
        self.tasks.abort_all();
        self.apply.close().await;
        // What the others said last; what can't be written is said again.
        let _ = witness::write_down(&node.base.words, &self.writer).await;
        self.writer.stop().await;
        let _ = tokio::time::timeout(STOP_LIMIT, node.marker.mark()).await;
        node.receiving.forget();
        node.base.files.close();
        if let Some(runtime) = self.runtime.0.take() {
            let _ = node.base.driver.run("stop", move || runtime.shutdown_timeout(STOP_LIMIT)).await;
        }
    }
}

/// Ends the writers of state and log; returns once their files are closed.
async fn close_state(apply: &Applier, writer: &LogWriter, files: &StateFiles) {
    apply.close().await;
    writer.stop().await;
    files.close();
}

/// Makes or opens a node and starts it.
pub(crate) async fn start(
    cfg: ReplicaConfig,
    world: World,
    handler: Arc<dyn PeerHandler>,
    create: bool,
) -> Result<(Running, Arc<Node>, String), OpenError> {
    let runtime = OwnRuntime::new(&world.driver).map_err(OpenError::io("starting the replica's runtime"))?;
    let handle = runtime.handle();
    // On its own runtime, since recovery reads files for a while and tasks are to live there.
    let data_dir = cfg.data_dir.clone();
    let started = handle.spawn(start_on(runtime, cfg, world, handler, create)).await;
    started
        .map_err(|e| OpenError::Damaged(format!("starting the replica failed: {e}")))?
        .map_err(|e| e.of_disk(&data_dir))
}

async fn start_on(
    runtime: OwnRuntime,
    cfg: ReplicaConfig,
    world: World,
    handler: Arc<dyn PeerHandler>,
    create: bool,
) -> Result<(Running, Arc<Node>, String), OpenError> {
    let handle = Handle::current();
    let disk = &*world.disk;
    // First of all the address: nothing is made when it is taken.
    let listener = world.net.listen(&cfg.listen).await.map_err(OpenError::io("listening for peers"))?;
    let (mut file, own_key) = identify(&cfg, &world, create).await?;
    let me = file.node;
    let (log, recovered) = open_log(&cfg, &world, me, create)?;
    if recovered.cut_bytes > 0 {
        tracing::warn!(bytes = recovered.cut_bytes, "an unfinished group at the end of the journal was cut off");
    }
    let writer = LogWriter::spawn(log, &world.driver).map_err(OpenError::io("starting the journal"))?;

    let (cluster, group) = (cfg.cluster, cfg.group);
    let seals = world.seals.clone();
    let levels = cfg.levels;
    let open_state = move |files: Arc<StateFiles>, stands| {
        State::open(files.store()?, cluster, group, seals.clone(), levels, stands)
    };
    let opened = async {
        let files = open_files(&world, &cfg)?;
        let state = open_state(files.clone(), Some(recovered.stands)).map_err(|e| match e {
            StateError::Io(error) if is_full(&error) => OpenError::Io { doing: "opening the state", error },
            e if e.is_of_another_version() => OpenError::UpgradeNeeded(e.to_string()),
            e => OpenError::Damaged(format!("{}: {e}", files.path().display())),
        })?;
        note_state(&state, &recovered, &writer).await?;
        if !file.complete {
            file.complete = true;
            file.write(disk, &cfg.data_dir)?;
        }
        Ok((files, state))
    };
    let (files, state) = match opened.await {
        Ok(opened) => opened,
        Err(e) => {
            // Whoever is told may start another version at once: the journal is closed by then.
            writer.stop().await;
            return Err(e);
        }
    };
    let sequences = Sequences::new(me, recovered.boot, &*world.entropy);
    let (introduced_by, roster) = file.introduction.map(|told| (told.seal_config.into(), told.roster)).unzip();
    let shared = Arc::new(Shared::new(handler, Members::new(roster), sequences));
    let apply = Applier::spawn(state, files.clone(), writer.clone(), shared.clone(), &world.driver, move |files| {
        open_state(files, None).map_err(std::io::Error::other)
    });
    let apply = match apply {
        Ok(apply) => Arc::new(apply),
        Err(error) => {
            writer.stop().await;
            files.close();
            return Err(OpenError::Io { doing: "starting the state's writer", error });
        }
    };

    let words = Arc::new(Words::recovered(recovered.seen.as_ref()));
    let links = Arc::new(Links::new(world.net.clone(), cluster, group, me, words.clone(), handle));
    let streams = Arc::new(Streams::default());
    let seed = new_seed(&*world.entropy);
    let begun = async {
        let config = settings(cluster.to_string(), cfg.profile).validate();
        let config = config.map_err(|e| OpenError::Config(e.to_string()))?;
        let log = LogStore::new(me, writer.clone(), shared.applied()).map_err(|e| OpenError::Damaged(e.to_string()))?;
        let promise = log.promise();
        let realm = Realm { cluster, group };
        let session = shared.sequences.session();
        let key = BootKey::make(realm, session, &*world.identity, &*world.entropy)
            .map_err(OpenError::io("certifying this start with the identity key"))?;
        let vote = decoded_vote(&writer.reader()).map_err(|e| OpenError::Damaged(e.to_string()))?;
        let grants = Arc::new(Grants::new(realm, me, key, promise.clone(), vote));
        let standing = match (file.lost, create) {
            (true, _) => Standing::Lost,
            // A new node has promised nothing to anybody.
            (false, true) => Standing::TakesPart,
            (false, false) => Standing::Asking,
        };
        let own = Own::new((cluster, group), session, own_key, writer.reader(), log.last_synced(), standing);
        let own = Arc::new(own);
        let network = Network {
            me,
            links: links.clone(),
            streams: streams.clone(),
            shared: shared.clone(),
            grants: grants.clone(),
            own: own.clone(),
            words: words.clone(),
            journal: writer.reader(),
            driver: world.driver.clone(),
        };
        let machine = Machine::new(files.clone(), apply.clone());
        let raft = seeded(seed, Raft::build(me.0, Arc::new(config), network, log, machine)).await;
        let raft = raft.map_err(|e| match shared.problem() {
            Some(Problem::UpgradeNeeded(why)) => OpenError::UpgradeNeeded(why),
            _ => OpenError::Damaged(format!("the log can't be taken up: {e}")),
        })?;
        Ok((raft, promise, grants, own))
    };
    let (raft, promise, grants, own) = match begun.await {
        Ok(begun) => begun,
        Err(e) => {
            // It may have applied what is committed, up to where it failed: that is kept.
            close_state(&apply, &writer, &files).await;
            return Err(e);
        }
    };

    let (leader_tx, leader) = watch::channel(None);
    let checker =
        Checker::new(files.clone(), writer.reader(), shared.clone(), world.wall.clone(), world.driver.clone());
    let peers = Arc::new(Heard::default());
    let clock = Clock::new(me, world.wall.clone(), world.boot_clock.clone(), shared.clone(), peers.clone());
    let base = Base {
        cluster,
        group,
        me,
        boot: recovered.boot,
        levels,
        shared,
        raft,
        links,
        journal: writer.reader(),
        promise,
        grants,
        peers,
        clock: Arc::new(clock),
        seals: world.seals.clone(),
        introduced_by,
        hello: Arc::default(),
        files,
        own,
        words,
        driver: world.driver.clone(),
    };
    let marked = Marked::new(world.marks.clone(), (cluster, me), apply.clone(), create);
    let node = Arc::new(Node::new(base, leader, Tail::of(&cfg.journal), marked, checker, streams));
    let addr = listener.local_addr();
    let tasks = spawn_tasks(&node, listener, leader_tx, apply.clone(), writer.clone(), &world, &cfg);
    node.participation.review_candidacy();
    seeded(seed, async { node.base.raft.run() }).await;
    if file.lost {
        node.base.shared.set_problem(Problem::Lost(Rollback::Before));
    }
    // Voting waits for no scan; serving does. A node that stays sealed learns of damage as well.
    tokio::spawn(node.checker.scan().map(drop));
    tracing::info!(
        node = %cfg.name, start = node.base.boot, applied = node.base.shared.applied_now(), %addr, "the log is open: replicating"
    );
    Ok((Running { apply, writer, tasks, runtime }, node, addr))
}

fn spawn_tasks(
    node: &Arc<Node>,
    listener: Box<dyn Listener>,
    leader: watch::Sender<Option<NodeId>>,
    apply: Arc<Applier>,
    writer: LogWriter,
    world: &World,
    cfg: &ReplicaConfig,
) -> JoinSet<()> {
    let compactor = Compactor {
        config: cfg.compaction,
        shared: node.base.shared.clone(),
        journal: node.base.journal.clone(),
        files: node.base.files.clone(),
        apply,
        streams: node.streams.clone(),
        words: node.base.words.clone(),
        raft: node.base.raft.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(peer::server::serve(node.clone(), listener));
    tasks.spawn(leader_log::follow(node.clone(), leader));
    tasks.spawn(watch_core(node.clone()));
    tasks.spawn(gate::drive(node.gate.clone(), node.confirmer.clone()));
    tasks.spawn(peer::hello::drive(node.hellos.clone()));
    tasks.spawn(node.keeper().run(cfg.tick_interval));
    tasks.spawn(compactor.run());
    tasks.spawn(node.checker.clone().scrub(cfg.scrub_interval));
    tasks.spawn(succession::drive(node.succession.clone(), node.hellos.clone()));
    tasks.spawn(succession::make_way(node.succession.clone()));
    tasks.spawn(space::drive(node.space.clone(), node.changes.clone()));
    tasks.spawn(change::drive(node.changes.clone()));
    tasks.spawn(witness::ask(node.witness.clone(), node.marker.clone(), cfg.listening));
    tasks.spawn(witness::keep(node.base.words.clone(), writer));
    tasks.spawn(mark::keep(node.marker.clone()));
    tasks.spawn(quorum::watch(node.clone()));
    tasks.spawn(remember_loss(node.clone(), world.disk.clone(), cfg.data_dir.clone()));
    tasks
}

/// The journal's folder.
const JOURNAL: &str = "journal";

/// Finds out whose folder it is, or makes it this node's.
async fn identify(cfg: &ReplicaConfig, world: &World, create: bool) -> Result<(NodeFile, Arc<dyn OwnKey>), OpenError> {
    let disk = &*world.disk;
    let dir = cfg.data_dir.display().to_string();
    let found = NodeFile::read(disk, &cfg.data_dir)?;
    if create {
        match found {
            Some(file) if file.complete => return Err(OpenError::AlreadyExists(dir)),
            Some(_) => clear(&cfg.data_dir, disk).map_err(OpenError::io("clearing an interrupted creation"))?,
            None => {
                disk.create_dir(&cfg.data_dir).map_err(OpenError::io("making the data directory"))?;
                let names = disk.list(&cfg.data_dir).map_err(OpenError::io("reading the data directory"))?;
                if names.iter().any(|n| n == JOURNAL || is_state_file(n)) {
                    return Err(OpenError::Damaged(format!(
                        "{dir} holds the journal or the state of a node, but no node file: restore that file, or move \
                         the folder away and start with an empty one"
                    )));
                }
            }
        }
        let made = world.own_keys.make().await;
        let (boxed, own_key) = made.map_err(OpenError::io("making this node's own key"))?;
        let file = NodeFile {
            cluster: cfg.cluster,
            node: cfg.node,
            name: cfg.name.clone(),
            introduction: cfg.introduction.clone(),
            pins: cfg.pins.clone(),
            complete: false,
            own_key: boxed,
            lost: false,
        };
        file.write(disk, &cfg.data_dir)?;
        return Ok((file, own_key));
    }
    match found.filter(|file| file.complete) {
        None => Err(OpenError::Missing(dir)),
        Some(file) if file.cluster == cfg.cluster && file.name == cfg.name => {
            let opened = world.own_keys.open(&file.own_key).await;
            let opened = opened.map_err(|e| match e.kind() {
                std::io::ErrorKind::InvalidData => OpenError::Damaged(e.to_string()),
                _ => OpenError::Io { doing: "opening this node's own key with its HSM", error: e },
            });
            Ok((file, opened?))
        }
        Some(file) => Err(OpenError::WrongNode {
            found_cluster: file.cluster,
            found_node: file.node,
            found_name: file.name,
            cluster: cfg.cluster,
            name: cfg.name.clone(),
        }),
    }
}

/// Removes what an interrupted creation left: it never ran, so nothing there was ever acknowledged.
fn clear(data_dir: &Path, disk: &dyn Disk) -> std::io::Result<()> {
    for name in disk.list(data_dir)? {
        if name == JOURNAL {
            let journal = data_dir.join(JOURNAL);
            for name in disk.list(&journal)? {
                disk.unlink(&journal.join(name))?;
            }
            disk.fsync_dir(&journal)?;
        } else if is_state_file(&name) {
            disk.unlink(&data_dir.join(name))?;
        }
    }
    disk.fsync_dir(data_dir)
}

fn open_log(cfg: &ReplicaConfig, world: &World, node: NodeId, create: bool) -> Result<(Log, Recovered), OpenError> {
    let dir = cfg.data_dir.join(JOURNAL);
    let ids = JournalIds { cluster: cfg.cluster, node, stream: cfg.group.0 };
    let config = LogConfig { journal: cfg.journal.clone(), ..LogConfig::default() };
    let make = |f: fn(&Path, _, _, _, _) -> Result<(Log, Recovered), JournalError>| {
        f(&dir, ids, config, world.disk.clone(), world.entropy.clone())
    };
    let opened = if create { make(Log::create) } else { make(Log::open) };
    opened.map_err(|e| match e {
        JournalError::Io { source, .. } => OpenError::Io { doing: "opening the journal", error: source },
        e @ JournalError::InUse(_) => OpenError::InUse(e.to_string()),
        JournalError::Absent(dir) => OpenError::Damaged(format!(
            "the journal is gone from {}: this node may have acknowledged what was in it, so it must not vote again \
             under its id. Put the journal back if it was moved. The other members serve as long as they are a majority; \
             else {REPLACE_MEMBER}",
            dir.display()
        )),
        e @ JournalError::Damaged { .. } => OpenError::Damaged(format!(
            "{e}. This node may have acknowledged entries or votes that are no longer here, so it must not vote again under \
             its id. The other members serve as long as they are a majority; {REPLACE_MEMBER}"
        )),
        e @ JournalError::NewerFormat { .. } => OpenError::UpgradeNeeded(e.to_string()),
        e => OpenError::Damaged(e.to_string()),
    })
}

fn open_files(world: &World, cfg: &ReplicaConfig) -> Result<Arc<StateFiles>, OpenError> {
    let reserve_bytes = reserve_bytes(cfg.journal.low_space_limit());
    let files = StateFiles::open(world.disk.clone(), &cfg.data_dir, cfg.cache_bytes, reserve_bytes);
    files.map(Arc::new).map_err(|e| match is_full(&e) {
        true => OpenError::Io { doing: "opening the state", error: e },
        false => OpenError::Damaged(format!("the state in {} can't be opened: {e}", cfg.data_dir.display())),
    })
}

/// After a crash the state may be the one before the newest that the journal knows of. It is what the next one follows.
async fn note_state(state: &State, recovered: &Recovered, writer: &LogWriter) -> Result<(), OpenError> {
    match state.stands_at().filter(|here| Some(*here) != recovered.stands.newest) {
        Some(here) => writer.append_synced(vec![Command::Checkpoint(here)]).await,
        None => Ok(()),
    }
    .map_err(OpenError::io("writing the journal"))
}

/// A node that was found to have less than it said stays what it is: its node file says so from then on.
async fn remember_loss(node: Arc<Node>, disk: Arc<dyn Disk>, data_dir: PathBuf) {
    let mut problem = node.base.shared.watch_problem();
    let lost = |now: &Option<Problem>| matches!(now, Some(Problem::Lost(_)));
    if problem.wait_for(lost).await.is_err() {
        return;
    }
    // However it was found out.
    node.base.own.set_lost();
    node.participation.review_candidacy();
    let written = NodeFile::read(&*disk, &data_dir).and_then(|file| match file {
        Some(file) if !file.lost => NodeFile { lost: true, ..file }.write(&*disk, &data_dir),
        _ => Ok(()),
    });
    if let Err(error) = written {
        tracing::error!(%error, "the node file can't be made to say that this node is lost");
    }
    // A leader that refuses everything must not keep the others from electing one.
    if node.leader.is_me() {
        node.succession.hand_on().await;
        node.leader.other_than(Some(node.base.me), STOP_LIMIT).await;
        if node.leader.is_me() {
            let _ = node.base.raft.shutdown().await;
        }
    }
}

/// A core that has stopped by itself leaves a node that must not look alive.
async fn watch_core(node: Arc<Node>) {
    let stopped = node.base.raft.wait(None).metrics(|m| m.running_state.is_err(), "the core to stop").await;
    if node.base.shared.is_stopping() {
        return;
    }
    let why = match stopped.map(|m| m.running_state) {
        Ok(Err(fatal)) => fatal.to_string(),
        _ => "the core is gone".to_owned(),
    };
    node.base.shared.set_problem(Problem::Stopped(why));
}
