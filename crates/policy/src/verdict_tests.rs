use super::*;

const FIRST: Namespace = Namespace::FIRST;
const A: Namespace = Namespace(1);
const B: Namespace = Namespace(2);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// `+` permits, `>` delegates, `-` forbids, `2` forbids unless two approve, `3` unless three do, `!` fails; in the name of `of`.
fn verdict(of: &str, says: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for sign in says.chars() {
        let policy = name(of);
        match sign {
            '+' => verdict.permits.push(policy),
            '>' => verdict.delegates.push(policy),
            '-' => verdict.forbids.push(Forbid { policy, approvals: None }),
            '!' => verdict.errors.push(Erred { policy, why: String::new() }),
            n => verdict.forbids.push(Forbid { policy, approvals: n.to_digit(10).and_then(|n| n.try_into().ok()) }),
        }
    }
    verdict
}

/// Who decided, in one word.
fn shown(outcome: &Outcome) -> String {
    let names = |all: &[Name]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match outcome {
        Outcome::Allowed(by) => {
            let by = by.iter().map(|by| match by {
                By::Policy(name) => name.to_string(),
                By::Grant(id) => id.clone(),
            });
            format!("yes: {}", by.collect::<Vec<_>>().join(","))
        }
        Outcome::ApprovalNeeded { approvals, policies } => format!("{approvals}: {}", names(policies)),
        Outcome::Denied(Why::Erred(all)) => {
            format!("failed: {}", names(&all.iter().map(|erred| erred.policy.clone()).collect::<Vec<_>>()))
        }
        Outcome::Denied(Why::Forbidden(all)) => format!("forbidden: {}", names(all)),
        Outcome::Denied(Why::NotPermitted) => "no".into(),
    }
}

type Row = (Namespace, Namespace, &'static str, &'static str, &'static str, Option<&'static str>, bool, &'static str);

/// The formula of key-model §7.2. Columns: the object's namespace and the caller's; what their policies say, and those of 0; what the
/// key policy says, if there is one; a grant. Where two namespaces are one, their policies are.
#[test]
#[rustfmt::skip]
fn the_formula() {
    let table: &[Row] = &[
        // of      by     object caller first  key          grant
        // Nothing permits: no.
        (A,      A,     "",    "",    "",    None,        false, "no"),
        (FIRST,  FIRST, "",    "",    "",    None,        false, "no"),
        // Without a key policy: the own namespace's policies, or those of 0.
        (A,      A,     "+",   "+",   "",    None,        false, "yes: caller"),
        (A,      A,     "",    "",    "+",   None,        false, "yes: first"),
        (A,      A,     "+",   "+",   "+",   None,        false, "yes: caller,first"),
        (FIRST,  FIRST, "+",   "+",   "+",   None,        false, "yes: caller,first"),
        // Callers of 0 are let in by the policies of 0, nobody else by any but a grant or a key policy.
        (A,      FIRST, "",    "+",   "+",   None,        false, "yes: caller,first"),
        (A,      FIRST, "+",   "",    "",    None,        false, "no"),
        (A,      B,     "+",   "+",   "+",   None,        false, "no"),
        (FIRST,  A,     "+",   "+",   "+",   None,        false, "no"),
        // A key policy: who it permits, at home.
        (A,      A,     "",    "",    "",    Some("+"),   false, "yes: key"),
        (A,      A,     "+",   "+",   "+",   Some(""),    false, "no"),
        // Abroad his own namespace has to agree; 0 does not agree in its place.
        (A,      B,     "",    "",    "",    Some("+"),   false, "no"),
        (A,      B,     "",    "",    "+",   Some("+"),   false, "no"),
        (A,      B,     "+",   "",    "",    Some("+"),   false, "no"),
        (A,      B,     "",    "+",   "",    Some("+"),   false, "yes: key,caller"),
        (A,      FIRST, "",    "+",   "+",   Some("+"),   false, "yes: key,caller"),
        // It delegates: the caller's namespace decides, or 0.
        (A,      A,     "+",   "+",   "",    Some(">"),   false, "yes: caller"),
        (A,      A,     "",    "",    "+",   Some(">"),   false, "yes: first"),
        (A,      A,     "",    "",    "",    Some(">"),   false, "no"),
        (A,      B,     "",    "+",   "",    Some(">"),   false, "yes: caller"),
        (A,      B,     "+",   "",    "",    Some(">"),   false, "no"),
        (A,      B,     "",    "",    "+",   Some(">"),   false, "yes: first"),
        // A grant, with a key policy or without one.
        (A,      A,     "",    "",    "",    None,        true,  "yes: grant"),
        (A,      A,     "",    "",    "",    Some(""),    true,  "yes: grant"),
        (A,      B,     "",    "",    "",    None,        true,  "no"),
        (A,      B,     "",    "+",   "",    None,        true,  "yes: grant,caller"),
        (A,      A,     "+",   "+",   "",    None,        true,  "yes: grant,caller"),
        // A forbid anywhere wins.
        (A,      B,     "-",   "+",   "",    Some("+"),   false, "forbidden: object"),
        (A,      B,     "",    "+-",  "",    Some("+"),   false, "forbidden: caller"),
        (A,      B,     "",    "+",   "-",   Some("+"),   false, "forbidden: first"),
        (A,      B,     "",    "+",   "",    Some("+-"),  false, "forbidden: key"),
        (A,      A,     "",    "",    "-",   None,        true,  "forbidden: first"),
        (A,      A,     "",    "",    "-",   None,        false, "forbidden: first"),
        (A,      B,     "-",   "-",   "-",   Some("-"),   false, "forbidden: caller,first,key,object"),
        // One that gives way to approvals: only where nothing else is missing.
        (A,      A,     "",    "",    "+2",  None,        false, "2: first"),
        (A,      A,     "",    "",    "2",   None,        false, "no"),
        (A,      A,     "",    "",    "+2",  Some("3"),   true,  "3: first,key"),
        (A,      A,     "",    "",    "+2-", None,        false, "forbidden: first"),
        (A,      B,     "2",   "+",   "",    Some("+"),   false, "2: object"),
        // What fails denies, before all else.
        (A,      A,     "",    "",    "+!",  None,        false, "failed: first"),
        (A,      B,     "!",   "+",   "",    Some("+"),   true,  "failed: object"),
        (A,      B,     "",    "+",   "",    Some("+!"),  false, "failed: key"),
        (A,      A,     "",    "",    "+2-!", None,       true,  "failed: first"),
    ];
    for (row, (of, by, object, caller, first, key, grant, expected)) in table.iter().enumerate() {
        let (of_object, of_caller) = (verdict("object", object), verdict("caller", caller));
        let (of_first, key) = (verdict("first", first), key.map(|says| verdict("key", says)));
        let sources = Sources {
            object_namespace: *of,
            caller_namespace: *by,
            of_object: if of == by { &of_caller } else { &of_object },
            of_caller: &of_caller,
            of_first: &of_first,
            key_policy: key.as_ref(),
            grant: grant.then_some("grant"),
        };
        assert_eq!(shown(&sources.outcome()), *expected, "row {row}: {:?}", table[row]);
    }
}

/// All 2^13 ways for what is said to be said, against the formula written down as it stands in key-model §7.2.
#[test]
fn the_formula_in_every_case() {
    for case in 0..1u32 << 13 {
        let bit = |n: u32| case >> n & 1 == 1;
        let says = |permit: u32, forbid: u32| {
            format!("{}{}", if bit(permit) { "+" } else { "" }, if bit(forbid) { "-" } else { "" })
        };
        let (of_object, of_caller) = (verdict("object", &says(0, 1)), verdict("caller", &says(2, 3)));
        let of_first = verdict("first", &says(4, 5));
        let key = verdict("key", &(says(6, 7) + if bit(8) { ">" } else { "" }));
        let object_namespace = if bit(9) { A } else { FIRST };
        let caller_namespace = [FIRST, A, B][(case >> 10 & 1) as usize + (case >> 11 & 1) as usize];
        let (has_key, grant) = (bit(12), bit(12) ^ bit(8));
        let of = |namespace| match namespace {
            n if n == FIRST => &of_first,
            n if n == caller_namespace => &of_caller,
            _ => &of_object,
        };
        let (object, caller) = (of(object_namespace), of(caller_namespace));
        let sources = Sources {
            object_namespace,
            caller_namespace,
            of_object: object,
            of_caller: caller,
            of_first: &of_first,
            key_policy: has_key.then_some(&key),
            grant: grant.then_some("grant"),
        };
        let yes = |verdict: &Verdict| !verdict.permits.is_empty();
        let forbidden =
            [object, caller, &of_first].iter().any(|of| !of.forbids.is_empty()) || has_key && !key.forbids.is_empty();
        let home = object_namespace == caller_namespace;
        let delegates =
            if has_key { bit(8) } else { caller_namespace == object_namespace || caller_namespace == FIRST };
        let expected = !forbidden
            && ((has_key && yes(&key) || grant) && (home || yes(caller))
                || delegates && (yes(caller) || yes(&of_first)));
        assert_eq!(matches!(sources.outcome(), Outcome::Allowed(_)), expected, "case {case:b}");
    }
}
