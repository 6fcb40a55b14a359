//! What evidence of a destruction says, for people and for programs; and what no software can say.

use quorate_core::evidence::DestructionStatement;
use quorate_core::id::KeyVersion;
use quorate_core::name::Class;
use quorate_core::principal::Principal;
use quorate_core::record::{Cause, DestructionRecord, Gone, Scheduled};
use serde_json::{Value, json};

use crate::command::output::{self, date, hex, moment};
use crate::command::terminal::Surface;
use crate::evidence::{Said, Verified};

/// Versions whose material is listed for people; programs see all that are known.
const LISTED: usize = 8;

/// Bytes of a certificate's hash that are shown to people; programs see all.
const SHOWN: usize = 4;

/// What holds wherever it is kept: it is told with each proof, since a proof is read without the manual.
const NOT_TOLD: &str = "What a member's log or state still holds is encrypted: it opens only with the root key, which takes a \
     node's HSM and a quorum of custodians. It goes from the log as that is compacted; a disk's free blocks keep what lay there \
     until they are written over. No software can tell what became of material that was exported, of backups of the key, and of \
     copies of a node's disk from before: as far as those can be opened, it is with that same root key.";

pub(super) fn text(verified: &Verified) -> String {
    let told = verified.told();
    let fields = output::fields(facts(told, here_again(verified)));
    let header = ["MEMBER", "ID", "STATED", "APPLIED", "ITS LOG", "ITS STATE", "CERTIFICATE"];
    let table = output::columns(header, verified.said.iter().map(row));
    let silent: Vec<_> = verified.missing.iter().map(|member| member.name.to_string()).collect();
    let silent = match &silent[..] {
        [] => "Every member that these know of has made a statement.".to_owned(),
        names => format!("No statement of: {}. What their files hold is not told here.", names.join(", ")),
    };
    let wrapped = |text: &str| Surface::stdout().wrap(0, text).join("\n");
    format!("{fields}\n\n{table}\n\n{}\n\n{}", wrapped(&silent), wrapped(NOT_TOLD))
}

/// Whether any of the members saw it there again.
fn here_again(verified: &Verified) -> bool {
    verified.said.iter().any(|said| said.statement.is_here)
}

fn facts(told: &DestructionStatement, here_again: bool) -> Vec<(&'static str, String)> {
    let of = &told.destruction;
    let aliases: Vec<_> = of.aliases.iter().map(ToString::to_string).collect();
    let never = |at_ms: u64, then: String| if at_ms == 0 { "never".to_owned() } else { then };
    let (exported, backed_up) = (of.first_exported_ms(), of.backed_up_ms);
    let earlier = match of.earlier {
        0 => String::new(),
        n => format!("{n} times, and brought back from a backup each time"),
    };
    vec![
        ("destroyed", what(of)),
        ("name", of.name.as_ref().map_or(String::new(), |name| format!("{}/{name}", of.class().as_str()))),
        ("aliases", aliases.join(", ")),
        ("made", date(of.created_ms)),
        ("how", how(&of.cause)),
        ("asked for", of.cause.scheduled().map_or(String::new(), asked)),
        ("gone", format!("{}, with entry {} of the log", date(of.ended_ms), told.destroyed_at)),
        ("material", materials(of)),
        (
            "exported",
            match of.class() {
                Class::Key => never(exported, format!("first on {}: copies may live on", date(exported))),
                Class::Secret => "whoever has read it has it".to_owned(),
            },
        ),
        (
            "backed up",
            never(
                backed_up,
                format!(
                    "last on {}: whoever has that backup, and administers the cluster, can bring it back",
                    date(backed_up)
                ),
            ),
        ),
        ("before that", earlier),
        ("again here", if here_again { "yes, from a backup".to_owned() } else { String::new() }),
        ("cluster", told.cluster.to_string()),
        ("lineage", told.lineage.to_string()),
    ]
}

fn what(of: &DestructionRecord) -> String {
    let object = match of.class() {
        Class::Key => format!("key {} ({})", of.key, of.spec.as_str()),
        Class::Secret => format!("secret {}", of.key),
    };
    match of.version {
        Some(version) => format!("version {version} of {object}"),
        None if of.is_complete() && of.newest == 1 => object,
        None if of.is_complete() => format!("{object}, with all of its {} versions", of.newest),
        None => format!("{object}: {} of its {} versions so far, the others follow", of.through, of.newest),
    }
}

fn how(cause: &Cause) -> String {
    match cause {
        Cause::Version { by } => format!("by {by}, at once (destroy-version)"),
        Cause::Purge { by, .. } => format!("by {by}, before its day (purge)"),
        Cause::Due { .. } => "by the cluster, on its day".to_owned(),
    }
}

fn asked(Scheduled { by, since_ms, due_ms }: &Scheduled) -> String {
    let by = by.as_ref().map_or("somebody".to_owned(), Principal::to_string);
    format!("by {by}, on {}, for {}", date(*since_ms), date(*due_ms))
}

fn materials(of: &DestructionRecord) -> String {
    let line = |gone: &Gone| match gone {
        Gone { material_id, .. } if *material_id == [0; 32] => format!("version {}: never had any", gone.version),
        Gone { had_material: false, .. } => {
            format!("version {}: {}, gone before", gone.version, hex(&gone.material_id))
        }
        _ => format!("version {}: {}", gone.version, hex(&gone.material_id)),
    };
    let mut lines: Vec<_> = of.gone.iter().take(LISTED).map(line).collect();
    let others = of.gone.len().saturating_sub(LISTED) + of.more.count as usize;
    if others > 0 {
        lines.push(format!("and {others} more"));
    }
    lines.join("\n")
}

fn row(Said { statement, expired }: &Said) -> [String; 7] {
    let log = match statement.log_may_hold() {
        true => format!("from {}: may hold it", statement.log_from),
        false => format!("from {}: does not", statement.log_from),
    };
    let state = match statement.state_holds() {
        true => format!("at {}: holds it", statement.state_at),
        false => format!("at {}: does not", statement.state_at),
    };
    let expired = if *expired { " (had expired)" } else { "" };
    [
        statement.name.to_string(),
        statement.node.to_string(),
        date(statement.stated_ms),
        statement.applied.to_string(),
        log,
        state,
        format!("{}…{expired}", hex(&statement.certificate[..SHOWN])),
    ]
}

pub(super) fn json(verified: &Verified) -> Value {
    let told = verified.told();
    let of = &told.destruction;
    let scheduled = of.cause.scheduled();
    json!({
        "verified": true,
        "cluster_id": told.cluster.to_string(),
        "lineage": told.lineage.to_string(),
        "key_id": of.key.to_string(),
        "class": of.class().as_str(),
        "version": of.version.map(KeyVersion::get),
        "spec": of.spec.as_str(),
        "name": of.name.as_ref().map(ToString::to_string),
        "aliases": of.aliases.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created_at": moment(of.created_ms),
        "cause": of.cause.as_str(),
        "destroyed_by": of.cause.by().map(ToString::to_string),
        "scheduled_by": scheduled.and_then(|s| s.by.as_ref()).map(ToString::to_string),
        "scheduled_at": moment(scheduled.map_or(0, |s| s.since_ms)),
        "due_at": moment(scheduled.map_or(0, |s| s.due_ms)),
        "begun_at": moment(of.began_ms),
        "destroyed_at": moment(of.ended_ms),
        "log_index": told.destroyed_at,
        "complete": of.is_complete(),
        "versions": of.gone.iter().map(gone).collect::<Vec<_>>(),
        "versions_not_listed": of.more.count,
        "first_exported_at": moment(of.first_exported_ms()),
        "backed_up_at": moment(of.backed_up_ms),
        "restored_from": of.born_as.map(|id| id.to_string()),
        "destroyed_before": of.earlier,
        "here_again": here_again(verified),
        "members": verified.said.iter().map(member).collect::<Vec<_>>(),
        "missing": verified.missing.iter().map(|member| member.name.to_string()).collect::<Vec<_>>(),
    })
}

fn gone(gone: &Gone) -> Value {
    json!({
        "version": gone.version.get(),
        "material_id": (gone.material_id != [0; 32]).then(|| hex(&gone.material_id)),
        "had_material": gone.had_material,
        "first_exported_at": moment(gone.first_exported_ms),
    })
}

fn member(Said { statement, expired }: &Said) -> Value {
    json!({
        "id": statement.node.0,
        "name": statement.name.to_string(),
        "stated_at": moment(statement.stated_ms),
        "applied_index": statement.applied,
        "log_from": statement.log_from,
        "log_may_hold": statement.log_may_hold(),
        "state_at": statement.state_at,
        "state_holds": statement.state_holds(),
        "certificate_sha256": hex(&statement.certificate),
        "certificate_had_expired": expired,
    })
}
