//! What is written is what is read.

use proptest::prelude::*;

use super::*;

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        (0..9_u64, 0..4_usize).prop_map(|(token, n)| Call::Create { token, form: FORMS[n].0 }),
        (0..9_u64, 1..9_u32).prop_map(|(text, version)| Call::EncryptBy { text, version }),
        (0..9_u64, 1..9_u32).prop_map(|(text, version)| Call::DecryptBy { text, version }),
        (0..9_u64, 1..9_u32, 0..9_u64).prop_map(|(from, version, text)| Call::ReEncrypt { from, version, text }),
        (0..9_u64, any::<bool>()).prop_map(|(text, plain)| Call::DataKey { text, plain }),
        (1..9_u32).prop_map(|version| Call::Compromise { version }),
        (1..9_u32).prop_map(|version| Call::DestroyVersion { version }),
        (1..9_u32).prop_map(|version| Call::Restore { version }),
        (0..9_u64, 0..9_u64, 0..4_u8).prop_map(|(name, token, n)| match n {
            0 => Call::CreateNamed { name, token },
            1 => Call::DescribeNamed { name },
            2 => Call::ScheduleNamed { name },
            _ => Call::PurgeNamed { name },
        }),
        (0..9_u64, 0..9_u32, 0..5_u8).prop_map(|(secret, version, n)| match n {
            0 => Call::SetSecret { secret, value: version.into() },
            1 => Call::GetSecret { secret, version },
            2 => Call::DeleteSecret { secret },
            3 => Call::RecoverSecret { secret },
            _ => Call::PurgeSecret { secret },
        }),
        (0..9_u64, 0..9_u32).prop_map(|(material, seconds)| Call::Import { material, seconds }),
        (0..7_usize).prop_map(|n| PLAIN[n].clone()),
        (0..9_u64).prop_map(|text| Call::Encrypt { text }),
        (0..9_u64).prop_map(|text| Call::Decrypt { text }),
        (1..9_u32).prop_map(|member| Call::Remove { member }),
        (1..9_u32).prop_map(|seconds| Call::ScheduleSoon { seconds }),
        (1..6_u32, 0..4_usize)
            .prop_map(|(share, n)| Call::EnterShare { share, flaw: FLAWS.get(n).map(|(flaw, _)| *flaw) }),
        (0..9_u64).prop_map(|alias| Call::CreateAlias { alias }),
        (0..9_u64).prop_map(|alias| Call::DeleteAlias { alias }),
        (0..9_u64).prop_map(|alias| Call::DescribeAlias { alias }),
        (0..9_u64, 0..9_u64).prop_map(|(alias, text)| Call::EncryptAlias { alias, text }),
        Just(Call::BackUp),
        Just(Call::Describe),
        Just(Call::Inspect),
        Just(Call::Enable),
        Just(Call::Disable),
        Just(Call::Schedule),
        Just(Call::Cancel),
        Just(Call::Rotate),
        Just(Call::Seal),
        Just(Call::Unseal),
        Just(Call::Replace),
    ]
}

const PLAIN: [Call; 7] = [
    Call::Recover,
    Call::Purge,
    Call::ListVersions,
    Call::ImportParameters,
    Call::DeleteMaterial,
    Call::Export,
    Call::Describe,
];

fn client() -> impl Strategy<Value = What> {
    let state = prop_oneof![Just(State::Enabled), Just(State::Disabled), Just(State::PendingDeletion)];
    let told = (0..5_u8, state, 0..9_u32, any::<bool>(), "\\PC{0,20}");
    (call(), told, 0..9_u64, 1..5_u32, proptest::option::of("[0-9a-f-]{1,36}"), any::<bool>()).prop_map(
        |(call, (kind, state, version, exact, why), process, node, key, last)| {
            let answer = match call {
                _ if call.encrypts().is_some() => Answer::Encrypted { version },
                Call::ListVersions => Answer::Versions { states: "xXcd-a".into(), ends: process },
                Call::Import { .. } | Call::Export => Answer::Material { material: process, ends: 7 },
                Call::Purge | Call::Compromise { .. } | Call::DestroyVersion { .. } => Answer::Done,
                Call::ImportParameters | Call::DeleteMaterial => Answer::Done,
                Call::Decrypt { .. } | Call::DecryptBy { .. } => Answer::Decrypted { version, exact },
                Call::CreateAlias { .. } | Call::DeleteAlias { .. } => Answer::Done,
                Call::EnterShare { .. } => Answer::Share { complete: exact },
                Call::BackUp | Call::SetSecret { .. } => Answer::Made { version },
                Call::GetSecret { .. } => Answer::Value { value: process, version },
                Call::DeleteSecret { .. } | Call::RecoverSecret { .. } | Call::PurgeSecret { .. } => Answer::Done,
                Call::PurgeNamed { .. } => Answer::Done,
                Call::Inspect => Answer::Metadata { state, version, token: process, created: 7, rotated: 8 },
                Call::ScheduleSoon { .. } => Answer::Due { at: process, version },
                Call::Seal | Call::Unseal | Call::Remove { .. } | Call::Replace => Answer::Done,
                _ => Answer::Key { state, version },
            };
            let outcome = match kind {
                0 | 1 => None,
                2 => Some(Outcome::Ok(answer)),
                3 => Some(Outcome::Fail(why)),
                _ => Some(Outcome::Info(why)),
            };
            What::Client { process, node, key, last, call, outcome }
        },
    )
}

proptest! {
    #[test]
    fn a_history_reads_back_as_it_was(whats in proptest::collection::vec(
        prop_oneof![client(), ("[a-z-]{1,12}", "\\PC{0,30}").prop_map(|(f, value)| What::Nemesis { f, value })], 0..20)) {
        let events = whats.into_iter().zip(0..).map(|(what, index)| Event { index, time: index * 1000, what });
        let history = History { events: events.collect() };
        let text: String = history.events.iter().map(|e| line(e) + "\n").collect();
        prop_assert_eq!(from_text(&text).unwrap(), history);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = from_text(&text);
    }
}

#[test]
fn a_line_is_what_jepsen_writes() {
    let what = What::Client {
        process: 3,
        node: 2,
        key: Some("k".into()),
        last: false,
        call: Call::Encrypt { text: 7 },
        outcome: Some(Outcome::Ok(Answer::Encrypted { version: 1 })),
    };
    let text = line(&Event { index: 4, time: 99, what });
    for part in [":index 4", ":time 99", ":process 3", ":type :ok", ":f :encrypt", ":value {", ":text 7", ":version 1"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_line_that_is_no_event_is_named() {
    for (text, complaint) in [
        ("nonsense", "line 1"),
        ("{:index 0, :time 1, :process 0, :type :ok, :f :fly, :value {}}", "fly"),
        ("\n{:index 0, :time -1, :process 0}", "line 2"),
        ("{:index 0, :time 1, :process 0, :type :ok, :f :encrypt, :node 1, :value {:text 1}}", "version"),
    ] {
        let error = format!("{:#}", from_text(text).unwrap_err());
        assert!(error.contains(complaint), "{error}");
    }
}
