use std::collections::BTreeSet;

use super::*;
use crate::{Context, ObjectFacts, Principal, PrincipalFacts, Request, Resource, Slices};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Which role has which action: U CryptoUser, O CryptoOfficer, u SecretsUser, o SecretsOfficer, R Reader, A Administrator,
/// a Auditor.
#[test]
#[rustfmt::skip]
fn the_roles() {
    use Action::*;
    let table: &[(&str, &[Action])] = &[
        ("U....A.", &[Encrypt, Decrypt, DataKey, DataKeyWithoutPlaintext, DataKeyPair, DataKeyPairWithoutPlaintext, ReEncryptFrom,
                      ReEncryptTo, Wrap, Unwrap, Sign, Verify, Mac, VerifyMac, Agree, Encapsulate, Decapsulate, DeriveKey, Digest,
                      Random]),
        ("UO...A.", &[PublicKey]),
        ("..uo.A.", &[ReadSecret]),
        ("UOuoRAa", &[Describe, LastUse, ListVersions, ListObjects, NameList]),
        (".O.o.A.", &[Create, Enable, Disable, Update, Tag, Untag, UpdateVersion, DestroyVersion, ScheduleDeletion, Purge,
                      CancelDeletion, Backup, Restore, NameCreate, NameDelete]),
        ("...o.A.", &[AddVersion]),
        (".O...A.", &[CreateMany, Rekey, Archive, Recover, Rotate, Activate, Revoke, SetRotation, ImportParameters, ImportMaterial,
                      DeleteMaterial]),
        (".....A.", &[ExportWrapped, ExportPlain, ProcessCompromised, NamespaceCreate, NamespaceUpdate, NamespaceDelete,
                      PrincipalEnable, PrincipalDisable, CredentialRevoke]),
        (".....Aa", &[ProveDestruction, PrincipalList, CredentialDescribe, CredentialList]),
        ("....RAa", &[NamespaceDescribe, NamespaceList]),
    ];
    let mut seen = Vec::new();
    for (roles, actions) in table {
        for action in *actions {
            for (letter, role) in roles.chars().zip(Role::ALL) {
                assert_eq!(role.has(*action), letter != '.', "{role} {action}");
                assert_eq!(role.actions().any(|of| of == *action), letter != '.', "{role} {action}");
            }
            seen.push(*action);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, Action::ALL, "each action in one row");
}

#[test]
fn a_role_has_a_name_that_is_read_back() {
    for role in Role::ALL {
        assert_eq!(role.as_str().parse(), Ok(role));
    }
    let unknown = "cryptouser".parse::<Role>().unwrap_err().to_string();
    assert!(Role::ALL.iter().all(|role| unknown.contains(role.as_str())), "{unknown}");
}

fn permits(policies: Vec<Policy>, who: &Principal, action: Action, resource: &Resource) -> bool {
    let slice = Slices::of(policies).slice(who, action);
    let request = Request::new(who, action, resource, &Context::default(), slice.reads()).unwrap();
    let verdict = slice.decide(&request);
    assert_eq!(verdict.errors, []);
    !verdict.permits.is_empty()
}

fn somebody(id: &str, groups: &[&str]) -> Principal {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Principal::new(&PrincipalFacts { id: id.into(), groups, ..Default::default() }).unwrap()
}

fn object(id: &str, namespace: u32, kind: &str) -> Resource {
    let namespace = Namespace(namespace);
    Resource::object(&ObjectFacts { id: id.into(), namespace, kind: kind.into(), ..Default::default() }).unwrap()
}

/// Every action × every role: what a certificate's role may do today is what its policy says.
#[test]
fn certificates_may_do_by_policy_what_they_may_by_the_fixed_rule() {
    for role in CertificateRole::ALL {
        let holder = Holder::Group(role.as_str());
        let policies: Vec<_> = of_certificates(name("fixed"), holder, role).into_iter().collect();
        let nobodys = [CertificateRole::Custodian, CertificateRole::Node].contains(&role);
        assert_eq!(policies.is_empty(), nobodys, "{role}");
        for action in Action::ALL.iter().copied() {
            for resource in [object("o", 7, "secret"), object("o", 0, "pair"), Resource::namespace(Namespace(7))] {
                let may = permits(policies.clone(), &somebody("p", &[role.as_str()]), action, &resource);
                assert_eq!(may, action.group().roles().contains(&role), "{role} {action}");
                assert!(!permits(policies.clone(), &somebody(role.as_str(), &["another"]), action, &resource));
            }
        }
    }
}

/// Every action × role × what it is bound on × what is asked for.
#[test]
fn a_binding_gives_its_holder_its_role_where_it_is_bound() {
    let who = somebody("p", &["g"]);
    let others = [somebody("g", &["p"]), somebody("q", &[])];
    for role in Role::ALL {
        for holder in [Holder::Principal("p"), Holder::Group("g")] {
            for within in [Within::Namespace(Namespace(1)), Within::Object("o"), Within::Everything] {
                let policy = Binding { holder, role, within }.policy(name("bound"));
                assert!(policy.reads().is_nothing(), "a verdict on it may be kept");
                assert_eq!(policy.actions().collect::<BTreeSet<_>>(), role.actions().collect());
                for action in Action::ALL.iter().copied() {
                    for (resource, is_in, kind) in [
                        (object("o", 1, "pair"), true, "pair"),
                        (object("o", 1, "secret"), true, "secret"),
                        (object("o2", 1, "mac"), within != Within::Object("o"), "mac"),
                        (object("o2", 2, "mac"), within == Within::Everything, "mac"),
                        (Resource::namespace(Namespace(1)), within != Within::Object("o"), ""),
                        (Resource::namespace(Namespace(2)), within == Within::Everything, ""),
                    ] {
                        let fits = match role {
                            Role::CryptoUser | Role::CryptoOfficer => kind != "secret",
                            Role::SecretsUser | Role::SecretsOfficer => kind == "secret" || kind.is_empty(),
                            Role::Reader | Role::Administrator | Role::Auditor => true,
                        };
                        let may = permits(vec![policy.clone()], &who, action, &resource);
                        assert_eq!(may, role.has(action) && is_in && fits, "{role} {within:?} {action} {kind}");
                        assert!(!others.iter().any(|other| permits(vec![policy.clone()], other, action, &resource)));
                    }
                }
            }
        }
    }
}

/// A binding's text is a policy that would be taken, whatever ids are.
#[test]
fn a_binding_is_a_policy_that_would_be_taken() {
    let strange = "\"); permit(principal, action, resource); //\\ ä\n";
    for role in Role::ALL {
        for holder in [Holder::Principal(strange), Holder::Group(strange)] {
            for within in [Within::Namespace(Namespace(1)), Within::Object(strange), Within::Everything] {
                let policy = Binding { holder, role, within }.policy(name("bound"));
                let text = policy.to_cedar();
                let again = Policy::parse(name("bound"), &text);
                // Cedar warns of ids that don't show what they are; nothing else is wrong with it.
                if let Err(faults) = &again {
                    assert!(faults.0.iter().all(|fault| fault.what == "a name looks like another"), "{faults}\n{text}");
                }
            }
        }
        let plain = Binding { holder: Holder::Group("g"), role, within: Within::Object("o") }.policy(name("bound"));
        let again = Policy::parse(name("bound"), &plain.to_cedar()).unwrap();
        assert_eq!((again.actions, &again.about, again.reads()), (plain.actions, &plain.about, plain.reads()));
    }
}
