//! A run in which what was to be endured did not happen proves nothing.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Finding, Verdict, due, material, membership, revocation};
use crate::history::{Answer, Call, History, Op, Outcome};
use crate::nemesis::Kind;

/// Something that must have happened at least so often.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Demand {
    /// What.
    pub what: Event,
    /// How often.
    pub at_least: u64,
}

/// What can be demanded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Event {
    /// A fault of that name that was seen to take effect.
    Fault(String),
    /// Uses invoked after an acknowledged revocation that nothing had lifted.
    RevocationRaces,
    /// Uses that were denied because of the key's state.
    DeniedUses,
    /// Calls about keys at a node whose removal had been acknowledged.
    AskedRemoved,
    /// Acknowledged changes of what an alias stands for.
    AliasChanges,
    /// Encryptions by alias.
    AliasUses,
    /// Shares that were refused.
    RefusedShares,
    /// Shares that completed a ceremony.
    Ceremonies,
    /// Uses that a sealed node refused.
    SealedUses,
    /// Times that all about a key was told.
    Inspections,
    /// Acknowledged changes.
    Changes,
    /// Keys whose creation was acknowledged.
    Keys,
    /// Keys that were destroyed.
    Destroyed,
    /// Uses that were denied because of a version's state.
    RefusedVersions,
    /// Acknowledged purges.
    Purges,
    /// Acknowledged imports of material.
    Imports,
    /// Keys whose material was seen to be erased at its end.
    Erased,
    /// Times that material left.
    Exports,
    /// Data keys that were made.
    DataKeys,
    /// Backups that were made.
    Backups,
    /// Keys that were brought back from one.
    Restores,
    /// Times that somebody was told of the key that has a name for life.
    NameUses,
    /// Times that a secret was read.
    SecretReads,
    /// Ciphertexts opened in the last reads.
    LastReads,
    /// Calls that succeeded, in percent of all.
    PercentOk,
}

/// Refusals that say how a key, a version or a name is, besides those that begin with `KEY_`.
const RIGHTLY: [&str; 11] = [
    "NOT_FOUND",
    "UNKNOWN_KEY",
    "ALREADY_EXISTS",
    "WRONG_STATE",
    "PURGE_PROTECTED",
    "NO_LONGER_VALID",
    "COMPROMISED",
    "DESTROYED",
    "MATERIAL_MISSING",
    "WRONG_MATERIAL",
    "INVALID_ARGUMENT",
];

/// The event of the nemesis by which a fault is known to have taken effect.
pub fn effect_event(fault: &str) -> String {
    format!("{fault}-took-effect")
}

/// Whether an event tells that a fault took effect, in whichever form: `packet-loss` is a form of `packet`, but `clock-rate` is
/// another kind than `clock`.
fn is_effect_of(event: &str, fault: &str) -> bool {
    let is_form_of = |of: &str, kind: &str| of.strip_prefix(kind).is_some_and(|f| f.is_empty() || f.starts_with('-'));
    let Some(of) = event.strip_suffix(&effect_event("")) else { return false };
    let kinds = Kind::value_variants().iter().map(|kind| kind.name()).filter(|kind| is_form_of(of, kind));
    kinds.max_by_key(|kind| kind.len()) == Some(fault)
}

/// Counts what was demanded.
pub fn check(history: &History, ops: &[Op], demands: &[Demand]) -> Finding {
    let count = |what: &Event| -> u64 {
        let ops_that = |wanted: &dyn Fn(&&Op) -> bool| ops.iter().filter(wanted).count() as u64;
        match what {
            Event::Fault(name) => history.nemesis().filter(|(_, f, _)| is_effect_of(f, name)).count() as u64,
            Event::RevocationRaces => revocation::races(ops) as u64,
            Event::RefusedShares => ops_that(&|o| {
                matches!(o.call, Call::EnterShare { .. })
                    && matches!(&o.outcome, Outcome::Fail(why) if why == "SHARE_REFUSED")
            }),
            Event::Ceremonies => ops_that(&|o| matches!(o.outcome, Outcome::Ok(Answer::Share { complete: true }))),
            Event::SealedUses => {
                ops_that(&|o| o.call.is_use() && matches!(&o.outcome, Outcome::Fail(why) if why == "SEALED"))
            }
            Event::Inspections => ops_that(&|o| matches!(o.outcome, Outcome::Ok(Answer::Metadata { .. }))),
            Event::AskedRemoved => membership::check(ops).checked,
            Event::DeniedUses => ops_that(&|o| {
                let denied = |why: &str| why.starts_with("KEY_") || why == "MATERIAL_MISSING";
                o.call.is_use() && matches!(&o.outcome, Outcome::Fail(why) if denied(why))
            }),
            Event::RefusedVersions => ops_that(&|o| {
                let denied = |why: &str| ["NO_LONGER_VALID", "COMPROMISED", "DESTROYED"].contains(&why);
                o.call.is_use() && matches!(&o.outcome, Outcome::Fail(why) if denied(why))
            }),
            Event::Purges => ops_that(&|o| o.is_ok() && o.call == Call::Purge),
            Event::Imports => ops_that(&|o| o.is_ok() && matches!(o.call, Call::Import { .. })),
            Event::Erased => material::erased(ops) as u64,
            Event::Exports => ops_that(&|o| o.is_ok() && o.call == Call::Export),
            Event::DataKeys => ops_that(&|o| o.is_ok() && matches!(o.call, Call::DataKey { .. })),
            Event::Backups => ops_that(&|o| o.is_ok() && o.call == Call::BackUp),
            Event::Restores => ops_that(&|o| o.is_ok() && matches!(o.call, Call::Restore { .. })),
            Event::NameUses => ops_that(&|o| o.is_ok() && matches!(o.call, Call::DescribeNamed { .. })),
            Event::SecretReads => ops_that(&|o| o.is_ok() && matches!(o.call, Call::GetSecret { .. })),
            Event::Changes => ops_that(&|o| o.is_ok() && o.call.is_change()),
            Event::Keys => ops_that(&|o| o.is_ok() && matches!(o.call, Call::Create { .. })),
            Event::Destroyed => due::destroyed(ops) as u64,
            Event::LastReads => {
                ops_that(&|o| o.last && matches!(o.outcome, Outcome::Ok(Answer::Decrypted { exact: true, .. })))
            }
            Event::AliasChanges => {
                ops_that(&|o| o.is_ok() && matches!(o.call, Call::CreateAlias { .. } | Call::DeleteAlias { .. }))
            }
            Event::AliasUses => ops_that(&|o| o.is_ok() && matches!(o.call, Call::EncryptAlias { .. })),
            // What is rightly refused is a success of the cluster.
            Event::PercentOk => {
                let refused = |why: &str| why.starts_with("KEY_") || RIGHTLY.contains(&why);
                let answered = ops_that(&|o| o.is_ok() || matches!(&o.outcome, Outcome::Fail(why) if refused(why)));
                100 * answered / (ops.len() as u64).max(1)
            }
        }
    };
    let missing: Vec<String> = demands
        .iter()
        .filter_map(|d| {
            let seen = count(&d.what);
            (seen < d.at_least).then(|| format!("{:?}: {seen}, at least {} were demanded", d.what, d.at_least))
        })
        .collect();
    let verdict = if missing.is_empty() { Verdict::Valid } else { Verdict::Uncovered };
    Finding { verdict, details: missing, ..Finding::new("coverage", demands.len(), vec![], vec![]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::hand::*;
    use crate::history::{self, State, What};

    fn with_nemesis(f: &str) -> History {
        let what = What::Nemesis { f: f.into(), value: String::new() };
        History { events: vec![history::Event { index: 0, time: 1, what }] }
    }

    #[test]
    fn a_fault_counts_when_it_took_effect() {
        let demands = [Demand { what: Event::Fault("kill".into()), at_least: 1 }];
        assert_eq!(check(&with_nemesis("kill-took-effect"), &[], &demands).verdict, Verdict::Valid);
        for not_it in ["kill", "pause-took-effect"] {
            assert_eq!(check(&with_nemesis(not_it), &[], &demands).verdict, Verdict::Uncovered);
        }
        assert!(is_effect_of("packet-loss-took-effect", "packet") && !is_effect_of("packet-loss", "packet"));
        assert!(is_effect_of("clock-rate-took-effect", "clock-rate") && is_effect_of("clock-took-effect", "clock"));
        assert!(!is_effect_of("clock-rate-took-effect", "clock"), "another kind");
        // What was put back, but was not behind, shows nothing.
        assert!(is_effect_of("rollback-journal-took-effect", "rollback") && !is_effect_of("rolled-back", "rollback"));
    }

    #[test]
    fn calls_are_counted() {
        let disabled = op(1, 2, 3, Call::Disable, key(State::Disabled, 1));
        let denied = op(2, 4, 5, Call::Encrypt { text: 1 }, refused("KEY_DISABLED"));
        let lost = op(2, 6, 7, Call::Encrypt { text: 1 }, refused("UNAVAILABLE"));
        let opened = last(op(2, 8, 9, Call::Decrypt { text: 1 }, decrypted(1, true)));
        let named = op(1, 1, 2, Call::CreateAlias { alias: 1 }, Outcome::Ok(Answer::Done));
        let by_name = op(1, 1, 2, Call::EncryptAlias { alias: 1, text: 2 }, encrypted(1));
        let removed = op(1, 1, 3, Call::Remove { member: 2 }, Outcome::Ok(Answer::Done));
        let share = |outcome| op(1, 1, 2, Call::EnterShare { share: 1, flaw: None }, outcome);
        let wrong = share(refused("SHARE_REFUSED"));
        let enough = share(Outcome::Ok(Answer::Share { complete: true }));
        let shut = op(1, 1, 2, Call::Encrypt { text: 3 }, refused("SEALED"));
        let all = Answer::Metadata { state: State::Enabled, version: 1, token: 1, created: 1, rotated: 0 };
        let all = op(1, 1, 2, Call::Inspect, Outcome::Ok(all));
        let ops = [
            create(0),
            all,
            wrong,
            enough,
            shut,
            disabled,
            denied,
            lost,
            opened,
            named,
            by_name,
            Op { key: None, ..removed },
        ];
        for (what, seen) in [
            (Event::RevocationRaces, 2),
            (Event::DeniedUses, 1),
            (Event::AskedRemoved, 3),
            (Event::Changes, 3),
            (Event::AliasChanges, 1),
            (Event::AliasUses, 1),
            (Event::RefusedShares, 1),
            (Event::Inspections, 1),
            (Event::Ceremonies, 1),
            (Event::SealedUses, 1),
            (Event::Keys, 1),
            (Event::Destroyed, 0),
            (Event::LastReads, 1),
            (Event::RefusedVersions, 0),
            (Event::Purges, 0),
            (Event::Imports, 0),
            (Event::Erased, 0),
            (Event::Exports, 0),
            (Event::DataKeys, 0),
            (Event::Backups, 0),
            (Event::Restores, 0),
            (Event::NameUses, 0),
            (Event::SecretReads, 0),
            (Event::PercentOk, 75),
        ] {
            let verdict =
                |at_least| check(&History::default(), &ops, &[Demand { what: what.clone(), at_least }]).verdict;
            assert_eq!((verdict(seen), verdict(seen + 1)), (Verdict::Valid, Verdict::Uncovered), "{what:?}");
        }
    }
}
