//! Proof of a destruction on the wire.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use quorate_core::evidence::DestructionStatement;
use quorate_core::record::Cause;

use super::*;

fn of(key_id: &str, version: u32) -> v1::GetDestructionRequest {
    v1::GetDestructionRequest { key_id: key_id.into(), version }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_on_the_wire() {
    let rig = Rig::new();
    let (node, shares) = rig.founded(3, 2).await;
    let certificates = ["a certificate", "its CA's"].map(Bytes::from);
    node.set_certificate(certificates.to_vec(), 0);
    let (mut admin, mut auditor) = (keys(&node, Role::Admin).await, keys(&node, Role::Auditor).await);
    let id = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";
    refused(auditor.get_destruction(of(id, 0)).await, Code::Unavailable, "SEALED");
    unseal(&node, &shares[..2]).await;
    for role in [Role::User, Role::Custodian, Role::Node] {
        let refusal = keys(&node, role).await.get_destruction(of(id, 0)).await;
        refused(refusal, Code::PermissionDenied, "DENIED");
    }

    let made = admin.create_key(v1::CreateKeyRequest { alias: "db".into(), ..Default::default() }).await.unwrap();
    let id = made.into_inner().key.unwrap().key_id;
    refused(auditor.get_destruction(of(&id, 0)).await, Code::NotFound, "NOT_FOUND");
    refused(auditor.get_destruction(of(&id, 1)).await, Code::NotFound, "NOT_FOUND");
    for no_id in ["db", "alias/db", ""] {
        let refusal = auditor.get_destruction(of(no_id, 0)).await.unwrap_err();
        assert!(refusal.message().contains("give its id"), "{refusal}");
        assert_eq!(refusal.metadata().get(PART_KEY).unwrap(), "key");
        refused(Err::<(), _>(refusal), Code::InvalidArgument, "INVALID_ARGUMENT");
    }

    admin
        .schedule_key_deletion(v1::ScheduleKeyDeletionRequest { key: id.clone(), ..Default::default() })
        .await
        .unwrap();
    refused(auditor.get_destruction(of(&id, 0)).await, Code::NotFound, "NOT_FOUND");
    admin.purge_key(key(&id)).await.unwrap();
    let answer = auditor.get_destruction(of(&id, 0)).await.unwrap().into_inner();
    assert_eq!(answer.certificates, certificates);
    let said = DestructionStatement::decode(&answer.statement).unwrap();
    assert_eq!((said.destruction.key.to_string(), said.destruction.version, said.name.as_str()), (id, None, "n1"));
    assert!(matches!(&said.destruction.cause, Cause::Purge { by, .. } if *by == principal(Role::Admin, "somebody")));
    let (_, identity) = node.pinned_identities().pop().unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &identity);
    key.verify(&DestructionStatement::signed(&answer.statement), &answer.signature).expect("its HSM's");
}
