use super::*;

fn parse(text: &str) -> Result<Policy, Faults> {
    Policy::parse("p".parse().unwrap(), text)
}

fn faults(text: &str) -> Vec<String> {
    parse(text).expect_err(text).0.iter().map(ToString::to_string).collect()
}

const ALL: &str = "permit(principal, action, resource)";

/// Every way to be wrong: the text, where, and what is said of it.
#[test]
#[rustfmt::skip]
fn bad_policies_are_told_where_why_and_what_to_do() {
    let when = |condition: &str| format!("{ALL}\nwhen {{ {condition} }};");
    let objects = |condition: &str| format!("permit(principal, action, resource is Q::Object)\nwhen {{ {condition} }};");
    let table: Vec<(String, &str, &[&str])> = vec![
        // Syntax.
        (String::new(), "1:1", &["this is not Cedar"]),
        ("permit(principal, action, resource)".into(), "1:36", &["this is not Cedar", "expected"]),
        ("permit(principal, action);".into(), "1:25", &["this is not Cedar", "resource"]),
        ("allow(principal, action, resource);".into(), "1:1", &["this is not Cedar", "allow"]),
        (when("principal."), "2:19", &["this is not Cedar", "unexpected token"]),
        (when("\"ä\" == principal.\u{1F600}"), "2:25", &["this is not Cedar"]),
        (format!("{ALL};\n{ALL};"), "2:1", &["more than one policy", "a text of its own"]),
        ("permit(principal == ?principal, action, resource);".into(), "1:21", &["no slots", "bind a role"]),
        // What there is not.
        ("permit(principal, action == Q::Action::\"Encript\", resource);".into(), "1:29", &["no such action", "Encript", "did you mean", "Encrypt"]),
        ("permit(principal, action == Action::\"Encrypt\", resource);".into(), "1:29", &["no such action", "did you mean Q::Action::\"Encrypt\""]),
        ("permit(principal is Q::User, action, resource);".into(), "1:21", &["no such type", "Q::User"]),
        ("permit(principal == Q::Principle::\"x\", action, resource);".into(), "1:21", &["no such type", "Q::Principal"]),
        (objects("resource.size == 3"), "2:8", &["no such attribute", "size"]),
        (when("resource.spec == \"aes-256\""), "2:8", &["no such attribute", "resource is Q::Object"]),
        (when("context.colour == \"red\""), "2:8", &["no such attribute", "colour"]),
        (when("context.ip.isPrivate()"), "2:8", &["isPrivate"]),
        // What may be absent.
        (when("context.ip.isLoopback()"), "2:8", &["may be absent", "`has`"]),
        (when("principal.getTag(\"team\") == \"a\""), "2:8", &["tag may be absent", "hasTag"]),
        (when("resource.getTag(\"team\") == \"a\""), "2:8", &["tag may be absent", "hasTag"]),
        // Types.
        (when("principal.name == 3"), "2:8", &["don't go together"]),
        (when("principal.name"), "2:8", &["don't go together", "String"]),
        (when("principal.name > \"a\""), "2:8", &["don't go together"]),
        (when("[].contains(principal.name)"), "2:8", &["empty set"]),
        (when("context has ip && context.ip.isInRange(ip(\"10.0.0.0/33\"))"), "2:47", &["arguments are not right"]),
        (when("context has ip && context.ip.isInRange(ip(principal.name))"), "2:47", &["arguments are not right"]),
        // Never true.
        (when("false"), "1:1", &["never true"]),
        (when("principal has colour"), "1:1", &["never true"]),
        ("permit(principal, action, resource == Q::Group::\"g\");".into(), "1:1", &["never true", "Q::Object or Q::Namespace"]),
        ("permit(principal is Q::Group, action, resource);".into(), "1:1", &["never true"]),
        // What nobody brings.
        (objects("resource has owner && resource.owner.name == \"x\""), "2:30", &["something else than who asks"]),
        (when("Q::Principal::\"x\".name == \"x\""), "2:8", &["something else than who asks"]),
        // What could fail.
        (when("context has days && context.days + 1 > 2"), "2:41", &["may fail", "`+`"]),
        (when("context has now && context.now.offset(duration(\"9999999d\")) > datetime(\"2027-01-01\")"), "2:39", &["may fail", "six digits"]),
        // What looks like something else.
        (when("principal.name == \"admin\u{202E}\""), "2:26", &["look like another"]),
        // Annotations.
        (format!("@approvals(\"2\")\n{ALL};"), "1:1", &["on a permit"]),
        ("@approvals(\"0\")\nforbid(principal, action, resource);".into(), "1:1", &["no number of approvals", "1 to 9"]),
        ("@description(\"x\")\n  @approvals(\"10\")\nforbid(principal, action, resource);".into(), "2:3", &["no number of approvals"]),
        ("@approvals(\"+2\")\nforbid(principal, action, resource);".into(), "1:1", &["no number of approvals"]),
        ("@approvals\nforbid(principal, action, resource);".into(), "1:1", &["no number of approvals"]),
        ("@approval(\"2\")\nforbid(principal, action, resource);".into(), "1:1", &["no such annotation", "@approvals"]),
        (format!("@id(\"q\") {ALL};"), "1:1", &["two ids", "\"q\"", "\"p\""]),
        (format!("@delegates(\"yes\") {ALL};"), "1:1", &["takes no value"]),
        ("@delegates forbid(principal, action, resource);".into(), "1:1", &["on a forbid"]),
        (format!("@id(\"p\") @id(\"p\") {ALL};"), "1:10", &["this is not Cedar", "duplicate annotation"]),
        // Size.
        (format!("{ALL};{}", " ".repeat(POLICY_LEN_MAX)), "1:32769", &["too long", "32804 bytes"]),
    ];
    let mut wrong = Vec::new();
    for (text, place, says) in &table {
        let found = parse(text).map_or_else(|faults| faults.0.iter().map(ToString::to_string).collect(), |_| vec!["taken".to_owned()]);
        let first = found.first().cloned().unwrap_or_default();
        if !first.starts_with(&format!("{place}: ")) || !says.iter().all(|part| first.contains(part)) {
            wrong.push(format!("{text:.100}\n  expected {place} {says:?}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_faults_are_told_in_the_order_of_the_text() {
    let found = faults(
        "@colour(\"red\")\npermit(principal, action == Q::Action::\"Fly\", resource)\nwhen { context.days > 1 };",
    );
    assert!(found.len() >= 2, "{found:#?}");
    assert!(found[0].starts_with("1:1: there is no such annotation") && found[1].starts_with("2:"), "{found:#?}");
}

#[test]
fn good_policies_are_read() {
    let forbid = parse(
        "// Two people, to destroy.\n@id(\"p\") @description(\"four eyes\") @approvals(\"2\")\n\
         forbid(principal, action in [Q::Action::\"Purge\", Q::Action::\"Secrets\"], resource is Q::Object in Q::Namespace::\"3\")\n\
         when { context has ip && !context.ip.isInRange(ip(\"10.0.0.0/8\")) };",
    )
    .unwrap();
    assert_eq!((forbid.effect(), forbid.approvals(), forbid.delegates()), (Effect::Forbid, Some(2), false));
    assert_eq!(forbid.actions().collect::<Vec<_>>(), [Action::ReadSecret, Action::Purge]);
    assert_eq!(forbid.reads().iter().collect::<Vec<_>>(), ["ip"]);
    assert_eq!(forbid.scope(), ["everybody", "Purge, Secrets", "every object in Q::Namespace::\"3\""]);
    let permit = parse("@delegates permit(principal in Q::Namespace::\"1\", action, resource);").unwrap();
    assert_eq!((permit.effect(), permit.delegates(), permit.reads().is_nothing()), (Effect::Permit, true, true));
    assert_eq!(permit.actions().count(), Action::ALL.len());
    for condition in [
        // All that key-model §7.2 has of attributes.
        "resource is Q::Object && resource has owner && resource.owner == principal",
        "resource is Q::Object && resource has group && principal in resource.group",
        "resource is Q::Object && resource.usage.contains(\"sign\") && [\"p-256\", \"ed25519\"].contains(resource.spec)",
        "resource is Q::Object && resource.hasTag(\"team\") && principal.hasTag(\"team\") && resource.getTag(\"team\") == principal.getTag(\"team\")",
        "context has aad && context.aad.hasTag(\"tenant\") && context.aad.getTag(\"tenant\") like \"a*\"",
        "context has aadKeys && context.aadKeys.containsAll([\"a\", \"b\"])",
        "context has now && context.now.offset(duration(\"-1h\")).toTime() >= duration(\"8h\")",
        "context has now && context.now < datetime(\"2027-01-31T00:00:00Z\")",
        "context has days && context.days >= 30",
        "context has grant && !context.grant.hasConstraint && context.grant.operations.containsAny([\"Encrypt\"])",
        "context has tags && context.tags.hasTag(\"team\")",
        "context has wrapping && context.wrapping == \"x\" && context has algorithm && context has alias",
        "principal.name == \"日本語 and latin\"",
    ] {
        parse(&format!("{ALL} when {{ {condition} }};")).unwrap_or_else(|e| panic!("{condition}: {e}"));
    }
}

/// On a stack of 2 MiB, as threads of servers have it: what goes as deep as may be is read, judged and dropped; what goes deeper, up
/// to the longest text, is refused before it is read.
#[test]
fn nothing_overflows_a_stack() {
    let one = |opening: &str, closing: &str, n: usize| {
        format!("{ALL} when {{ {}1 == 1{} }};", opening.repeat(n), closing.repeat(n))
    };
    let parts = [
        ("(", ")"),
        ("[", "].contains(1)"),
        ("{a: ", "}.a"),
        ("if true then ", " else false"),
        ("if ", " then true else false"),
        ("!", ""),
        ("!(", ")"),
        ("-", ""),
        ("principal.", ""),
        ("true && ", ""),
        ("principal.name == \"x\" || ", ""),
        ("1 + ", ""),
        ("context has a.", ""),
        ("Q::", ""),
        ("(((", ")))"),
        ("principal has x && (", ")"),
    ];
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(move || {
        for (opening, closing) in parts {
            for n in (0..12).map(|power| 1 << power).chain([NESTING_MAX - 1, CHAIN_MAX - 3]) {
                drop(parse(&one(opening, closing, n)));
            }
            let most = (POLICY_LEN_MAX - 100) / (opening.len() + closing.len());
            assert!(parse(&one(opening, closing, most)).is_err(), "{opening}");
            drop(parse(&format!("{ALL} when {{ {}", opening.repeat(most))));
        }
        // The deepest that is taken, by all means at once.
        let chain = "principal.name != \"x\" && ".repeat(CHAIN_MAX - 40);
        let n = NESTING_MAX - 1;
        let deep = format!("{ALL} when {{ {chain}{}{chain}true{} }};", "(".repeat(n), ")".repeat(n));
        assert!(parse(&deep).is_err(), "both chains count");
        let deep = format!("{ALL} when {{ {}{chain}true{} }};", "(".repeat(n), ")".repeat(n));
        let policy = parse(&deep).expect("as deep as may be");
        let who = crate::Principal::new(&crate::PrincipalFacts::default()).unwrap();
        let there = crate::Resource::namespace(quorate_core::id::Namespace::FIRST);
        let slices = crate::Slices::of([policy]);
        let slice = slices.slice(&who, Action::Encrypt);
        let request =
            crate::Request::new(&who, Action::Encrypt, &there, &crate::Context::default(), slice.reads()).unwrap();
        let verdict = slice.decide(&request);
        assert_eq!((verdict.permits.len(), verdict.errors.len()), (1, 0), "{verdict:?}");
    });
    thread.expect("a thread").join().expect("no panic");
}

/// As many `if` as may be in one another, around the longest expression: 0.2 s where nothing is optimised. Each more would double it.
#[test]
fn nothing_takes_long_to_check() {
    let chain = "principal.name != \"x\" && ".repeat(CHAIN_MAX - 10);
    let ifs = "if principal.name == \"y\" then false else ".repeat(IF_NESTING_MAX);
    let slow = format!("{ALL} when {{ {ifs} ({chain} true) }};");
    assert!(parse(&slow).is_ok());
    assert!(parse(&slow.replacen("{ if", "{ if true then false else if", 1)).is_err());
}

mod random {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~ä\\n]{0,200}") {
            drop(super::parse(&text));
        }

        #[test]
        fn nor_does_one_that_is_nearly_right(parts in proptest::collection::vec(
            prop::sample::select(vec![
                "permit", "forbid", "(", ")", "principal", "action", "resource", "context", ",", ";", "when", "unless", "{", "}",
                "==", "in", "is", "has", "like", "Q::", "Object", "Action::\"Encrypt\"", ".", "name", "\"x\"", "@id", "@approvals",
                "if", "then", "else", "&&", "||", "!", "-", "1", "99999999999999999999", "[", "]", "?principal", "//", "\n",
                "getTag", "hasTag", "ip(\"::1\")", "decimal(\"1.0\")", "\\u{0}", "\"\\u{110000}\"",
            ]), 0..60)) {
            drop(super::parse(&parts.join(" ")));
            drop(super::parse(&format!("permit(principal, action, resource) when {{ {} }};", parts.join(" "))));
        }
    }
}
