//! What clients do while faults happen.

mod aliases;
mod backup;
mod ceremony;
mod context;
mod data_keys;
mod due;
mod durability;
mod few;
mod import;
mod last;
mod lifecycle;
mod material;
mod metadata;
mod names;
mod register;
mod revoke;
mod rotation;
mod secrets;
mod soft_delete;

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

pub use context::{CALL_TIME_MAX, Context, Process, Text};
pub use last::last_reads;
pub use material::Learned;

use crate::checker::coverage::{Demand, Event};
use crate::history::{Call, Form, Outcome};

/// A workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Workload {
    /// Few keys, every call of their life cycle from many clients at once; each key is judged for linearizability
    Lifecycle,
    /// A key is revoked, and at once used on every node: no use may succeed; then it is enabled again
    Revoke,
    /// Many keys are created (repeated with the same token when in doubt), rotated, used: none may be lost
    Durability,
    /// Few aliases that many clients set, clear and encrypt by; each is judged for linearizability as a compare-and-set register
    Aliases,
    /// Nodes are sealed and opened all the time, shares are entered in every wrong way, and keys are used at every node
    Ceremony,
    /// Many keys whose deletion falls due within seconds, some of them spared in time: none may be destroyed early, or kept
    Due,
    /// Two keys whose state and version change all the time, while everything about them is read at every node
    Metadata,
    /// Few keys that are rotated while versions are used by name, compromised and destroyed; judged for linearizability
    Rotation,
    /// Few keys that are scheduled for deletion, spared in either way, and purged, while they are used; judged likewise
    SoftDelete,
    /// Few keys whose material is imported, deleted, imported again, and leaves, at every node; judged likewise
    Import,
    /// Few keys that are backed up, rotated, purged and brought back, while they are used; judged likewise
    Backup,
    /// Few names for life that keys are created by and purged, from many clients; each is judged as a compare-and-set register
    Names,
    /// Few secrets that are given values, read by version, deleted, recovered and purged; each is judged for linearizability
    Secrets,
    /// Data keys that are made and opened at every node: each is what it was said to be, for ever
    DataKeys,
}

/// How hard.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Logical clients.
    pub clients: u32,
    /// Calls per second that they aim at, all together.
    pub rate: u32,
}

impl Load {
    /// A pause between two calls of one client: random, so that clients do not march in step.
    fn pause(&self, rng: &mut StdRng) -> Duration {
        let mean = f64::from(self.clients) / f64::from(self.rate.max(1));
        Duration::from_secs_f64(mean * rng.random_range(0.0..2.0))
    }
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Revoke => "revoke",
            Self::Durability => "durability",
            Self::Aliases => "aliases",
            Self::Ceremony => "ceremony",
            Self::Due => "due",
            Self::Metadata => "metadata",
            Self::Rotation => "rotation",
            Self::SoftDelete => "soft-delete",
            Self::Import => "import",
            Self::Backup => "backup",
            Self::Names => "names",
            Self::Secrets => "secrets",
            Self::DataKeys => "data-keys",
        }
    }

    /// Whether it takes a cluster marked for development: what falls due is done within the run.
    pub fn is_for_development(self) -> bool {
        matches!(self, Self::Due | Self::SoftDelete | Self::Import | Self::Backup)
    }

    /// Starts its clients; they end when the context says so.
    pub fn start(self, context: &Arc<Context>, load: Load) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        match self {
            Self::Lifecycle => few::start(context, load, &mut tasks, lifecycle::PLAY),
            Self::Rotation => few::start(context, load, &mut tasks, rotation::PLAY),
            Self::SoftDelete => few::start(context, load, &mut tasks, soft_delete::PLAY),
            Self::Import => few::start(context, load, &mut tasks, import::PLAY),
            Self::DataKeys => few::start(context, load, &mut tasks, data_keys::PLAY),
            Self::Backup => few::start(context, load, &mut tasks, backup::PLAY),
            Self::Names => names::start(context, load, &mut tasks),
            Self::Secrets => secrets::start(context, load, &mut tasks),
            Self::Revoke => revoke::start(context, load, &mut tasks),
            Self::Durability => durability::start(context, load, &mut tasks),
            Self::Aliases => aliases::start(context, load, &mut tasks),
            Self::Ceremony => ceremony::start(context, load, &mut tasks),
            Self::Due => due::start(context, load, &mut tasks),
            Self::Metadata => metadata::start(context, load, &mut tasks),
        }
        tasks
    }

    /// What must have happened for a run of `seconds` to count; `survives` whether a majority is up under every fault.
    pub fn demands(self, seconds: u64, survives: bool) -> Vec<Demand> {
        // A machine may be slow: demands are low, and zero is never enough.
        let some = |per_minute: u64| (per_minute * seconds / 60).max(1);
        let own = match self {
            Self::Lifecycle => vec![(Event::Changes, some(60)), (Event::DeniedUses, some(6))],
            Self::Revoke => vec![(Event::RevocationRaces, some(60)), (Event::DeniedUses, some(60))],
            Self::Durability => vec![(Event::Keys, some(60)), (Event::LastReads, some(60))],
            Self::Due => vec![(Event::Keys, some(30)), (Event::Destroyed, some(15))],
            Self::Aliases => vec![(Event::AliasChanges, some(60)), (Event::AliasUses, some(30))],
            Self::Metadata => vec![(Event::Changes, some(60)), (Event::Inspections, some(60))],
            Self::Rotation => vec![(Event::Changes, some(60)), (Event::RefusedVersions, some(6))],
            Self::SoftDelete => {
                vec![(Event::Changes, some(60)), (Event::DeniedUses, some(6)), (Event::Purges, some(6))]
            }
            Self::Import => vec![
                (Event::Imports, some(12)),
                (Event::Exports, some(12)),
                (Event::DeniedUses, some(6)),
                (Event::Erased, 1),
            ],
            Self::Backup => vec![(Event::Backups, some(12)), (Event::Restores, some(6)), (Event::Purges, some(6))],
            Self::Names => vec![(Event::Changes, some(60)), (Event::NameUses, some(30))],
            Self::Secrets => vec![(Event::Changes, some(60)), (Event::SecretReads, some(30))],
            Self::DataKeys => vec![(Event::DataKeys, some(60)), (Event::LastReads, some(60))],
            Self::Ceremony => {
                vec![(Event::RefusedShares, some(3)), (Event::Ceremonies, some(2)), (Event::SealedUses, some(10))]
            }
        };
        // Where none is, faults stop everything for their time; and sealed nodes refuse, as they should.
        let percent_ok = match self {
            _ if !survives => 3,
            Self::Ceremony => 5,
            // A busy machine elects slowly, and clients wait at the nodes that are cut off.
            _ => 10,
        };
        // These encrypt nothing.
        let opens = !matches!(self, Self::Metadata | Self::Names | Self::Secrets);
        let opened = opens.then_some((Event::LastReads, 1));
        let common = [(Event::PercentOk, percent_ok)].into_iter().chain(opened);
        own.into_iter().chain(common).map(|(what, at_least)| Demand { what, at_least }).collect()
    }
}

/// A member, any; now and then one that was removed lately.
fn any_node(context: &Context, rng: &mut StdRng) -> u32 {
    let removed = if rng.random_ratio(1, 10) { context.removed() } else { vec![] };
    let nodes = if removed.is_empty() { context.members() } else { removed };
    nodes[rng.random_range(0..nodes.len())]
}

/// Creates a key at any node; tries until there is one, or the run stops. Each attempt in doubt is repeated with its token at
/// another node, as a careful client does.
async fn create(context: &Context, process: &mut Process, rng: &mut StdRng) -> Option<String> {
    create_as(context, process, rng, Form::Usual).await.map(|(id, _)| id)
}

/// The same, with something special about it; and the call that made it.
async fn create_as(context: &Context, process: &mut Process, rng: &mut StdRng, form: Form) -> Option<(String, Call)> {
    let mut token = context.number();
    while !context.stopped() {
        let node = any_node(context, rng);
        let create = Call::Create { token, form };
        match context.call(process, node, None, create.clone()).await {
            (Outcome::Ok(_), Some(id)) => return Some((id, create)),
            (Outcome::Fail(_), _) => token = context.number(),
            _ => {}
        }
        context.nap(Duration::from_millis(50)).await;
    }
    None
}
