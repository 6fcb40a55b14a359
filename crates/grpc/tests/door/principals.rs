//! Who is shut out, on the wire: on connections that were open before, through every service.

use quorate_proto::v1::operator_client::OperatorClient;
use quorate_proto::v1::principals_client::PrincipalsClient;

use super::*;

async fn principals(node: &Arc<Node>, role: Role, name: &str) -> PrincipalsClient<Channel> {
    PrincipalsClient::new(connect(node, Some(principal(role, name))).await)
}
fn who(name: &str) -> v1::PrincipalRequest {
    v1::PrincipalRequest { principal: name.into() }
}
fn credential(of: &Principal) -> String {
    certificate(of).to_string()
}
fn revoke(of: &Principal) -> v1::RevokeCredentialRequest {
    let reason = "key-compromise".into();
    v1::RevokeCredentialRequest { credential: credential(of), principal: of.to_string(), reason }
}

/// Every call, with whether it only looks.
async fn every_call(client: &mut PrincipalsClient<Channel>) -> Vec<(bool, Result<(), Status>)> {
    let victim = principal(Role::User, "victim");
    let described = v1::CredentialRequest { credential: credential(&victim) };
    vec![
        (true, client.list_principals(v1::ListPrincipalsRequest::default()).await.map(drop)),
        (true, client.list_credentials(v1::ListCredentialsRequest::default()).await.map(drop)),
        (true, client.describe_credential(described).await.map(drop)),
        (false, client.disable_principal(who("user/victim")).await.map(drop)),
        (false, client.enable_principal(who("user/victim")).await.map(drop)),
        (false, client.revoke_credential(revoke(&victim)).await.map(drop)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_say_who_may_ask_and_auditors_see_it() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    for role in [Role::User, Role::Custodian, Role::Auditor] {
        for (looks, answer) in every_call(&mut principals(&node, role, "somebody").await).await {
            match role == Role::Auditor && looks {
                true => answer.unwrap(),
                false => drop(refused(answer, Code::PermissionDenied, "DENIED")),
            }
        }
    }
    let mut admin = principals(&node, Role::Admin, "alice").await;
    let all = admin.list_principals(v1::ListPrincipalsRequest::default()).await.unwrap().into_inner();
    assert!(all.principals.is_empty() && all.next_page_token.is_empty(), "nothing was changed");
    for (_, answer) in every_call(&mut admin).await {
        answer.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_is_nobody_on_the_connection_that_he_had() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut alice = principals(&node, Role::Admin, "alice").await;
    let (bob, web) = (principal(Role::Admin, "bob"), principal(Role::User, "web"));
    let mut bobs = connect(&node, Some(bob.clone())).await;
    let mut keys_of_web = KeysClient::new(connect(&node, Some(web.clone())).await);
    let made = keys(&node, Role::Admin).await.create_key(v1::CreateKeyRequest::default()).await.unwrap();
    let key_id = made.into_inner().key.unwrap().key_id;
    let encrypt = || plain(&key_id, b"x");
    keys_of_web.encrypt(encrypt()).await.unwrap();

    let disabled = alice.disable_principal(who("user/web")).await.unwrap().into_inner().principal.unwrap();
    assert_eq!(
        (disabled.principal.as_str(), disabled.enabled, disabled.updated_by.as_str()),
        ("user/web", false, "admin/alice")
    );
    let said = refused(keys_of_web.encrypt(encrypt()).await, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(said.contains("user/web is disabled"), "{said}");
    let random = v1::GenerateRandomRequest { bytes: 8 };
    refused(keys_of_web.generate_random(random).await, Code::Unauthenticated, "UNAUTHENTICATED");
    alice.enable_principal(who("user/web")).await.unwrap();
    keys_of_web.encrypt(encrypt()).await.unwrap();

    let revoked = alice.revoke_credential(revoke(&web)).await.unwrap().into_inner().credential.unwrap();
    assert_eq!((revoked.reason.as_str(), revoked.revoked_ms > 0), ("key-compromise", true));
    let said = refused(keys_of_web.encrypt(encrypt()).await, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(said.contains("was revoked") && said.contains(&credential(&web)), "{said}");
    let again = alice.revoke_credential(v1::RevokeCredentialRequest { reason: "superseded".into(), ..revoke(&web) });
    assert_eq!(again.await.unwrap().into_inner().credential, Some(revoked.clone()), "it stays as it was");
    let listed = alice.list_credentials(v1::ListCredentialsRequest::default()).await.unwrap().into_inner().credentials;
    assert_eq!(listed, std::slice::from_ref(&revoked));
    let asked = v1::CredentialRequest { credential: credential(&web).to_uppercase() };
    assert_eq!(alice.describe_credential(asked).await.unwrap().into_inner().credential, Some(revoked));

    // The other doors of an unsealed node, too.
    let mut operator = OperatorClient::new(bobs.clone());
    operator.status(v1::StatusRequest {}).await.unwrap();
    alice.revoke_credential(revoke(&bob)).await.unwrap();
    let nobody = |answer: Result<(), Status>| drop(refused(answer, Code::Unauthenticated, "UNAUTHENTICATED"));
    nobody(operator.status(v1::StatusRequest {}).await.map(drop));
    nobody(operator.list_members(v1::ListMembersRequest::default()).await.map(drop));
    nobody(operator.seal(v1::SealRequest { cluster: false }).await.map(drop));
    nobody(operator.seal(v1::SealRequest { cluster: true }).await.map(drop));
    let invite = v1::InviteRequest { name: "n9".into(), ..Default::default() };
    nobody(operator.invite(invite).await.map(drop));
    bobs = connect(&node, Some(bob)).await;
    nobody(KeysClient::new(bobs).list_keys(v1::ListKeysRequest::default()).await.map(drop));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_nobody_or_oneself_is_refused_in_words_and_changes_nothing() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut alice = principals(&node, Role::Admin, "alice").await;
    let said = refused(alice.disable_principal(who("admin/alice")).await, Code::PermissionDenied, "DENIED");
    assert!(said.contains("another administrator"), "{said}");
    let own = revoke(&principal(Role::Admin, "alice"));
    refused(alice.revoke_credential(own).await, Code::PermissionDenied, "DENIED");
    for bad in ["", "web", "root/web", "user/", "user/a b", "node/n1", &"x".repeat(5000)] {
        let said = refused(alice.disable_principal(who(bad)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert!(said.len() < 600, "{said}");
    }
    let good = revoke(&principal(Role::User, "web"));
    for bad in [
        v1::RevokeCredentialRequest { credential: "ab".into(), ..good.clone() },
        v1::RevokeCredentialRequest { credential: String::new(), ..good.clone() },
        v1::RevokeCredentialRequest { principal: "web".into(), ..good.clone() },
        v1::RevokeCredentialRequest { principal: "node/n1".into(), ..good.clone() },
        v1::RevokeCredentialRequest { reason: "certificate-hold".into(), ..good },
    ] {
        refused(alice.revoke_credential(bad).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    let token = v1::ListCredentialsRequest { page_token: b"other".to_vec().into(), ..Default::default() };
    refused(alice.list_credentials(token).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let all = alice.list_principals(v1::ListPrincipalsRequest::default()).await.unwrap().into_inner();
    assert!(all.principals.is_empty());
    let all = alice.list_credentials(v1::ListCredentialsRequest::default()).await.unwrap().into_inner();
    assert!(all.credentials.is_empty());
}
