//! Histories of the workloads in which keys and their versions age, are purged, or have their material brought.

use super::{Case, Step, case, key};
use crate::history::{Answer, Call, Form, Outcome, State};

fn made(form: Form) -> Step {
    (1, Call::Create { token: 1, form }, key(State::Enabled, 1))
}

fn done(node: u32, call: Call) -> Step {
    (node, call, Outcome::Ok(Answer::Done))
}

fn refused(node: u32, call: Call, why: &str) -> Step {
    (node, call, Outcome::Fail(why.into()))
}

fn encrypted(node: u32, call: Call, version: u32) -> Step {
    (node, call, Outcome::Ok(Answer::Encrypted { version }))
}

fn opened(node: u32, text: u64, by: u32) -> Step {
    let answer = Answer::Decrypted { version: by, exact: true };
    (node, Call::DecryptBy { text, version: by }, Outcome::Ok(answer))
}

fn described(state: State, version: u32) -> Vec<Step> {
    [1, 2].map(|node| (node, Call::Describe, key(state, version))).into()
}

/// The `rotation` workload.
pub(super) fn of_versions() -> Vec<Case> {
    let begun = || {
        let rotated = (2, Call::Rotate, key(State::Enabled, 2));
        vec![made(Form::Usual), encrypted(1, Call::Encrypt { text: 1 }, 1), rotated, opened(1, 1, 1)]
    };
    let after = |steps: Vec<Step>| [begun(), steps].concat();
    let listed = |node, states: &str| {
        (node, Call::ListVersions, Outcome::Ok(Answer::Versions { states: states.into(), ends: 0 }))
    };
    let compromised = || done(2, Call::Compromise { version: 1 });
    let destroyed = || done(2, Call::DestroyVersion { version: 1 });
    let by_old = Call::EncryptBy { text: 2, version: 1 };
    let again = Call::ReEncrypt { from: 1, version: 1, text: 2 };
    vec![
        case(
            "versions that age as they should",
            None,
            after(vec![
                refused(1, by_old.clone(), "NO_LONGER_VALID"),
                encrypted(1, again.clone(), 2),
                compromised(),
                refused(1, Call::DecryptBy { text: 1, version: 1 }, "COMPROMISED"),
                listed(1, "ca"),
                destroyed(),
                refused(1, again.clone(), "DESTROYED"),
                listed(2, "Xa"),
            ]),
            [
                described(State::Enabled, 2),
                vec![
                    refused(1, Call::Decrypt { text: 1 }, "DESTROYED"),
                    (2, Call::Decrypt { text: 2 }, Outcome::Ok(Answer::Decrypted { version: 2, exact: true })),
                ],
            ]
            .concat(),
        ),
        case("a retired version encrypts", Some("linear"), after(vec![encrypted(1, by_old, 1)]), vec![]),
        case(
            "the current version goes back",
            Some("linear"),
            after(vec![encrypted(1, Call::Encrypt { text: 2 }, 1)]),
            vec![],
        ),
        case("a compromised version opens", Some("linear"), after(vec![compromised(), opened(1, 1, 1)]), vec![]),
        case("a destroyed version opens", Some("linear"), after(vec![destroyed(), opened(1, 1, 1)]), vec![]),
        case(
            "a destroyed version is encrypted anew",
            Some("linear"),
            after(vec![destroyed(), encrypted(1, again, 2)]),
            vec![],
        ),
        case(
            "a version is called destroyed, and is not",
            Some("linear"),
            after(vec![refused(1, Call::DecryptBy { text: 1, version: 1 }, "DESTROYED")]),
            vec![],
        ),
        case("a compromise is forgotten", Some("linear"), after(vec![compromised(), listed(1, "da")]), vec![]),
        case(
            "a version opens nothing in the end, and nobody destroyed it",
            Some("durability"),
            begun(),
            vec![refused(1, Call::Decrypt { text: 1 }, "DESTROYED")],
        ),
    ]
}

/// The `soft-delete` workload.
pub(super) fn of_deletion() -> Vec<Case> {
    use State::{Disabled, Enabled, PendingDeletion};
    let begun = |form| {
        vec![made(form), encrypted(1, Call::Encrypt { text: 1 }, 1), (1, Call::Schedule, key(PendingDeletion, 1))]
    };
    let after = |form, steps: Vec<Step>| [begun(form), steps].concat();
    let usual = |steps| after(Form::Usual, steps);
    let used = || encrypted(2, Call::Encrypt { text: 2 }, 1);
    vec![
        case(
            "a key that is spared, and one that is purged",
            None,
            usual(vec![
                refused(1, Call::Encrypt { text: 2 }, "KEY_PENDING_DELETION"),
                (1, Call::Recover, key(Enabled, 1)),
                used(),
                (2, Call::Schedule, key(PendingDeletion, 1)),
                done(1, Call::Purge),
                refused(2, Call::create(1), "NOT_FOUND"),
                refused(2, Call::Decrypt { text: 1 }, "UNKNOWN_KEY"),
            ]),
            vec![refused(1, Call::Describe, "NOT_FOUND")],
        ),
        case("a key is used while it waits for its deletion", Some("revocation"), usual(vec![used()]), vec![]),
        case(
            "a key that was disabled comes back enabled",
            Some("linear"),
            vec![
                made(Form::Usual),
                (1, Call::Disable, key(Disabled, 1)),
                (1, Call::Schedule, key(PendingDeletion, 1)),
                (1, Call::Recover, key(Enabled, 1)),
            ],
            vec![],
        ),
        case("a purged key is used", Some("linear"), usual(vec![done(1, Call::Purge), used()]), vec![]),
        case(
            "a late retry makes a purged key again",
            Some("linear"),
            usual(vec![done(1, Call::Purge), (2, Call::create(1), key(Enabled, 1))]),
            vec![],
        ),
        case(
            "a purged key comes back in the end",
            Some("linear"),
            usual(vec![done(1, Call::Purge)]),
            described(PendingDeletion, 1),
        ),
        case(
            "a key is purged though it is protected from that",
            Some("linear"),
            after(Form::PurgeProtected, vec![done(1, Call::Purge)]),
            vec![],
        ),
        case(
            "a key is purged that does not wait for it",
            Some("linear"),
            vec![made(Form::Usual), done(1, Call::Purge)],
            vec![],
        ),
    ]
}

/// The workloads `import` and `data-keys`.
pub(super) fn of_material() -> Vec<Case> {
    let imported = |node, material, seconds, ends| {
        (node, Call::Import { material, seconds }, Outcome::Ok(Answer::Material { material, ends }))
    };
    let left = |node, material| (node, Call::Export, Outcome::Ok(Answer::Material { material, ends: 0 }));
    let after = |steps: Vec<Step>| {
        [vec![made(Form::External), done(1, Call::ImportParameters), imported(2, 7, 0, 0)], steps].concat()
    };
    let listed =
        |states: &str, ends| (2, Call::ListVersions, Outcome::Ok(Answer::Versions { states: states.into(), ends }));
    let data_key = |exact| {
        let answer = Answer::Decrypted { version: 1, exact };
        let key = encrypted(1, Call::DataKey { text: 1, plain: true }, 1);
        (vec![made(Form::Exportable), key], vec![(2, Call::Decrypt { text: 1 }, Outcome::Ok(answer))])
    };
    let (data_key, wrong) = (data_key(true), data_key(false));
    vec![
        case(
            "material that is there, or missing",
            None,
            after(vec![
                left(1, 7),
                refused(1, Call::Import { material: 8, seconds: 0 }, "WRONG_MATERIAL"),
                done(1, Call::DeleteMaterial),
                refused(2, Call::Export, "MATERIAL_MISSING"),
                imported(1, 7, 1, 4),
                refused(2, Call::Export, "MATERIAL_MISSING"),
                listed("-", 4),
            ]),
            described(State::Enabled, 1),
        ),
        case("another material leaves", Some("linear"), after(vec![left(1, 8)]), vec![]),
        case(
            "another material is taken",
            Some("linear"),
            after(vec![done(1, Call::DeleteMaterial), imported(1, 8, 0, 0)]),
            vec![],
        ),
        case(
            "material is used after it was deleted",
            Some("linear"),
            after(vec![done(1, Call::DeleteMaterial), encrypted(2, Call::Encrypt { text: 1 }, 1)]),
            vec![],
        ),
        case(
            "material is missing, and nobody deleted it",
            Some("linear"),
            after(vec![refused(2, Call::Export, "MATERIAL_MISSING")]),
            vec![],
        ),
        case("material is erased before its end", Some("material"), after(vec![listed("-", 60_000)]), vec![]),
        case("a data key is what was said", None, data_key.0, [described(State::Enabled, 1), data_key.1].concat()),
        case("a data key is another one in the end", Some("durability"), wrong.0, wrong.1),
        case(
            "quorate lets two materials of one version out",
            Some("linear"),
            vec![made(Form::Exportable), left(1, 1), left(2, 2)],
            vec![],
        ),
    ]
}

/// The `backup` workload.
pub(super) fn of_backups() -> Vec<Case> {
    use State::{Disabled, Enabled, PendingDeletion};
    let backed_up = |version| (1, Call::BackUp, Outcome::Ok(Answer::Made { version }));
    let begun = || {
        let rotated = (2, Call::Rotate, key(Enabled, 2));
        let scheduled = (1, Call::Schedule, key(PendingDeletion, 2));
        let encrypted = encrypted(1, Call::Encrypt { text: 1 }, 1);
        vec![made(Form::Usual), encrypted, backed_up(1), rotated, scheduled, done(1, Call::Purge)]
    };
    let after = |steps: Vec<Step>| [begun(), steps].concat();
    let back = |version| (2, Call::Restore { version: 1 }, key(Disabled, version));
    let enabled = || (1, Call::Enable, key(Enabled, 1));
    vec![
        case(
            "a key is purged and brought back",
            None,
            after(vec![refused(1, Call::Describe, "NOT_FOUND"), back(1), enabled(), opened(2, 1, 1)]),
            described(Enabled, 1),
        ),
        case("what came back is another key", Some("linear"), after(vec![back(2)]), vec![]),
        case(
            "what came back opens nothing",
            Some("linear"),
            after(vec![back(1), enabled(), refused(1, Call::DecryptBy { text: 1, version: 1 }, "TAMPERED")]),
            vec![],
        ),
        case("a backup of another version", Some("linear"), vec![made(Form::Usual), backed_up(2)], vec![]),
    ]
}

/// The workloads `names` and `secrets`.
pub(super) fn of_names() -> Vec<Case> {
    let named = |token| (1, Call::CreateNamed { name: 3, token }, key(State::Enabled, 1));
    let set = |value, version| (1, Call::SetSecret { secret: 4, value }, Outcome::Ok(Answer::Made { version }));
    let read =
        |value, version| (2, Call::GetSecret { secret: 4, version: 0 }, Outcome::Ok(Answer::Value { value, version }));
    vec![
        case(
            "a name has one key, and a secret its values",
            None,
            vec![
                named(1),
                refused(2, Call::CreateNamed { name: 3, token: 2 }, "ALREADY_EXISTS"),
                (2, Call::ScheduleNamed { name: 3 }, key(State::PendingDeletion, 1)),
                done(1, Call::PurgeNamed { name: 3 }),
                set(7, 1),
                set(8, 2),
                read(8, 2),
            ],
            vec![refused(2, Call::DescribeNamed { name: 3 }, "NOT_FOUND")],
        ),
        case(
            "a key with a name is gone, and nobody purged it",
            Some("names"),
            vec![named(1)],
            vec![refused(2, Call::DescribeNamed { name: 3 }, "NOT_FOUND")],
        ),
        case("a secret's newest value is lost", Some("values"), vec![set(7, 1), set(8, 2), read(7, 1)], vec![]),
    ]
}
