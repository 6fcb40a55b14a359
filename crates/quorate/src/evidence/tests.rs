//! Evidence is believed when it is what nodes of the cluster have signed, and nothing else is.

use quorate_core::evidence::{DestructionStatement, Listed};
use quorate_core::id::{ClusterId, GroupId, KeyId, KeyVersion, Lineage, NodeId};
use quorate_core::principal::{Principal, Role};
use quorate_core::record::{DestructionRecord, Record, RecordName};
use quorate_core::seam::WallClock;
use quorate_hsm::Hsm;

use super::*;
use crate::tls::NodeCertificate;
use crate::tls::tests::{Cluster, Tokens, certs};
use crate::wiring::SystemClock;

const DAY_MS: u64 = 86_400_000;

/// Nodes of one cluster, with their keys in a token.
struct Nodes {
    cluster: Cluster,
    of: Vec<(Hsm, NodeCertificate)>,
}

impl Nodes {
    fn new(tokens: &Tokens) -> Self {
        let cluster = Cluster::new();
        let node = |n: u64| {
            let hsm = tokens.hsm(&format!("n{n}"));
            // The third one's certificate has expired meanwhile.
            let issued_ms = SystemClock.now_ms() - if n == 3 { 100 * DAY_MS } else { 0 };
            let certificate = cluster.certificate(&hsm, &format!("n{n}"), issued_ms);
            (hsm, certificate)
        };
        Self { of: (1..=3).map(node).collect(), cluster }
    }

    /// What the `n`th node states, but for what `change` makes of it.
    fn says(&self, n: usize, change: impl FnOnce(&mut DestructionStatement)) -> Piece {
        let (hsm, certificate) = &self.of[n - 1];
        let mut statement = statement(self.cluster.pki.cluster(), n as u64);
        let leaf = &certificate.chain[0];
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        statement.certificate = hash.as_ref().try_into().expect("32 bytes");
        change(&mut statement);
        self.signed(hsm, statement.encode(), certificate)
    }

    fn signed(&self, hsm: &Hsm, statement: Vec<u8>, certificate: &NodeCertificate) -> Piece {
        let signature =
            hsm.sign_identity_blocking(&DestructionStatement::signed(&statement), hsm.soon()).expect("signed");
        Piece { statement, signature, certificates: certificate.chain.iter().map(|c| c.to_vec()).collect() }
    }

    fn all(&self) -> Evidence {
        Evidence { pieces: (1..=3).map(|n| self.says(n, |_| {})).collect() }
    }

    fn verify(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<Verified, Flaw> {
        Evidence { pieces: pieces.into_iter().collect() }.verify(&self.cluster.root_pem)
    }

    #[track_caller]
    fn refused(&self, pieces: impl IntoIterator<Item = Piece>) -> String {
        self.verify(pieces).expect_err("it is not to be believed").to_string()
    }
}

fn statement(cluster: ClusterId, n: u64) -> DestructionStatement {
    let listed = |n: u64| Listed { id: NodeId(n), name: format!("n{n}").parse().expect("a name"), voter: true };
    DestructionStatement {
        cluster,
        lineage: Lineage([2; 16]),
        group: GroupId(0),
        node: NodeId(n),
        name: listed(n).name,
        certificate: [0; 32],
        stated_ms: SystemClock.now_ms(),
        applied: 20 + n,
        destroyed_at: 15,
        log_from: if n == 1 { 15 } else { 3 },
        state_at: 16,
        is_here: false,
        members: (1..=3).map(listed).collect(),
        destruction: destruction(KeyVersion::new(2)),
    }
}

/// Of AES-256, by admin/alice; read back from its bytes, which are drawn at the record.
fn destruction(version: Option<KeyVersion>) -> DestructionRecord {
    use quorate_core::codec::Writer;
    let by = Principal::certificate(Role::Admin, "alice".parse().expect("a name")).encode();
    let number = version.map_or(2, KeyVersion::get);
    let body = Writer::new().u8(1).u8(1).u32(0).u16(1).u32(number).u32(number).u64(5).u64(6).u64(6);
    let listed = body.u16(1).u32(number).raw(&[9; 32]).u8(1).u64(0);
    let body = listed.u16(1).u8(1).field(&by).finish();
    match Record::decode(&RecordName::Destruction((KeyId([7; 16]), version)), &body) {
        Ok(Record::Destruction(record)) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nodes_have_signed_is_believed_and_who_is_silent_is_named() {
    let tokens = Tokens::new();
    let nodes = Nodes::new(&tokens);
    let evidence = nodes.all();
    assert_eq!(Evidence::read(evidence.to_json().to_string().as_bytes()).expect("it reads back"), evidence);
    let verified = evidence.verify(&nodes.cluster.root_pem).expect("it is genuine");
    let said: Vec<_> =
        verified.said.iter().map(|s| (s.statement.node.0, s.statement.log_may_hold(), s.expired)).collect();
    assert_eq!(said, [(1, false, false), (2, true, false), (3, true, true)]);
    assert!(verified.missing.is_empty());
    assert_eq!(verified.told().destruction.key, KeyId([7; 16]));

    let verified = nodes.verify([nodes.says(2, |_| {})]).expect("one is enough");
    let missing: Vec<_> = verified.missing.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(missing, ["n1", "n3"]);
}

#[test]
fn any_byte_that_was_changed_is_noticed() {
    let tokens = Tokens::new();
    let nodes = Nodes::new(&tokens);
    let evidence = nodes.all();
    let file = evidence.to_json().to_string().into_bytes();
    let believed = |bytes: &[u8]| Evidence::read(bytes).and_then(|e| e.verify(&nodes.cluster.root_pem)).is_ok();
    assert!(believed(&file));
    for at in (0..file.len()).step_by(61) {
        for bit in [1, 0x20] {
            let mut changed = file.clone();
            changed[at] ^= bit;
            assert!(!believed(&changed), "byte {at}");
        }
    }
    for cut in (0..file.len()).step_by(997).chain([file.len() - 1]) {
        assert!(!believed(&file[..cut]), "cut to {cut} bytes");
    }
    // Each byte of one statement, in clear.
    let piece = &evidence.pieces[1];
    for at in 0..piece.statement.len() {
        let mut changed = piece.clone();
        changed.statement[at] ^= 1;
        nodes.refused([changed]);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let tokens = Tokens::new();
    let (nodes, others) = (Nodes::new(&tokens), Nodes::new(&tokens));
    let first = || nodes.says(1, |_| {});
    let says = |flaw: String, words: &[&str]| assert!(words.iter().all(|word| flaw.contains(word)), "{flaw}");

    // Files.
    let read = |text: &str| Evidence::read(text.as_bytes()).expect_err("no evidence").to_string();
    says(read(""), &["holds no evidence"]);
    says(read(r#"{"format":"quorate-evidence-1","statements":[]}"#), &["no statement"]);
    says(read(r#"{"format":"quorate-evidence-2","statements":[]}"#), &["quorate-evidence-2", "reads"]);
    says(read(r#"{"format":"quorate-evidence-1","statements":[],"note":"all is well"}"#), &["note"]);
    let odd = r#"{"format":"quorate-evidence-1","statements":[{"statement":"%","signature":"","certificates":[]}]}"#;
    says(read(odd), &["not base64"]);
    says(nodes.refused([]), &["no statement"]);

    // Who signed.
    says(others.verify([first()]).expect_err("another root").to_string(), &["statement 1, of n1", "root certificate"]);
    let foreign = others.says(1, |s| s.cluster = nodes.cluster.pki.cluster());
    says(nodes.refused([foreign]), &["of n1", "root certificate"]);
    let mut bare = first();
    bare.certificates.clear();
    says(nodes.refused([bare]), &["of n1", "there is none"]);
    let client = nodes.cluster.client(Role::Admin, 30, SystemClock.now_ms());
    let mut by_client = first();
    by_client.certificates = certs(&client.chain_pem).iter().map(|c| c.to_vec()).collect();
    says(nodes.refused([by_client]), &["of n1", "not made for this use"]);
    let as_n1 = nodes.says(2, |s| s.name = "n1".parse().expect("a name"));
    says(nodes.refused([as_n1]), &["said to be n1's", "certificate of node/n2"]);
    let other_certificate = nodes.says(1, |s| s.certificate = [1; 32]);
    says(nodes.refused([other_certificate]), &["names another certificate"]);
    let mut not_signed = first();
    not_signed.signature = nodes.says(1, |s| s.applied += 1).signature;
    says(nodes.refused([not_signed]), &["statement 1, of n1", "not what that node signed"]);
    let by_another = nodes.signed(&nodes.of[1].0, first().statement, &nodes.of[0].1);
    says(nodes.refused([by_another]), &["not what that node signed"]);
    let before = nodes.says(1, |s| s.stated_ms -= 500 * DAY_MS);
    says(nodes.refused([before]), &["not valid yet"]);

    // What they tell.
    let unlike = |change: fn(&mut DestructionStatement)| nodes.refused([first(), nodes.says(2, change)]);
    says(unlike(|s| s.destruction.key = KeyId([8; 16])), &["statement 2, of n2", "another key than the first"]);
    says(unlike(|s| s.destruction = destruction(KeyVersion::new(3))), &["another version of the key"]);
    says(unlike(|s| s.lineage = Lineage([3; 16])), &["another cluster"]);
    says(unlike(|s| s.destroyed_at += 1), &["another destruction"]);
    says(unlike(|s| s.destruction.ended_ms += 1), &["another destruction"]);
    says(nodes.refused([first(), first()]), &["statement 2 is the second of n1"]);
    let newer = nodes.signed(&nodes.of[0].0, [&[9], &first().statement[1..]].concat(), &nodes.of[0].1);
    says(nodes.refused([newer]), &["statement 1 can't be read", "does not know"]);
}
