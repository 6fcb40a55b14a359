//! Fail-over, retries and trust, against real servers over real TLS.

mod support;

use std::time::Duration;

use quorate_client::v1::{CreateKeyRequest, KeyRequest};
use quorate_client::{Client, ClientConfig, reason};
use rcgen::ExtendedKeyUsagePurpose;
use support::{Act, CLUSTER, Node, Pki};
use tokio::time::Instant;
use tonic::Code;

const SEALED: Act = Act::Refuse(Code::FailedPrecondition, "SEALED");
const UNAVAILABLE: Act = Act::Refuse(Code::Unavailable, "UNAVAILABLE");
const UNKNOWN: Act = Act::Refuse(Code::Unknown, "UNKNOWN_OUTCOME");

fn key() -> KeyRequest {
    KeyRequest { key: "k".into() }
}

async fn two() -> (Pki, Node, Node) {
    let pki = Pki::new();
    let (a, b) = (Node::start(&pki, "a").await, Node::start(&pki, "b").await);
    (pki, a, b)
}

async fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn the_first_node_answers_and_the_other_is_left_alone() {
    let (pki, a, b) = two().await;
    let client = pki.connect(&[&a, &b]).await;
    let answer = client.describe_key(key()).await.unwrap();
    assert_eq!(answer.key.unwrap().key_id, a.address.to_string());
    assert_eq!((a.calls(), b.calls()), (1, 0));
    let identity = client.server_identity().unwrap();
    assert_eq!((identity.cluster.to_string().as_str(), identity.node.as_str()), (CLUSTER, "a"));
}

#[tokio::test]
async fn a_dead_node_is_passed_over_and_then_no_longer_tried_first() {
    let (pki, a, _) = two().await;
    let mut config = pki.config(&[&a]);
    config.addrs.insert(0, nobody().await);
    let client = Client::connect(config).await.unwrap();
    for _ in 0..2 {
        client.disable_key(key()).await.unwrap();
    }
    assert_eq!(a.calls(), 2);
}

#[tokio::test]
async fn a_refusal_that_proves_no_effect_goes_to_the_next_node_even_for_a_change() {
    for act in [
        SEALED,
        UNAVAILABLE,
        Act::Refuse(Code::ResourceExhausted, "BUSY"),
        Act::Refuse(Code::ResourceExhausted, "NO_SPACE"),
        Act::Refuse(Code::FailedPrecondition, "UNINITIALIZED"),
    ] {
        let (pki, a, b) = two().await;
        a.always(act);
        pki.connect(&[&a, &b]).await.disable_key(key()).await.unwrap();
        assert_eq!((a.done().len(), b.done().len()), (0, 1), "{act:?}");
    }
}

#[tokio::test]
async fn an_answer_of_the_domain_is_final() {
    let (pki, a, b) = two().await;
    a.always(Act::Refuse(Code::FailedPrecondition, "KEY_DISABLED"));
    let error = pki.connect(&[&a, &b]).await.describe_key(key()).await.unwrap_err();
    assert_eq!((error.reason.as_str(), error.code), ("KEY_DISABLED", Code::FailedPrecondition));
    assert_eq!(error.endpoint, Some(a.address.to_string()));
    assert_eq!(b.calls(), 0);
}

#[tokio::test]
async fn all_sealed_is_said_at_once() {
    let (pki, a, b) = two().await;
    a.always(SEALED);
    b.always(SEALED);
    let started = Instant::now();
    let error = pki.connect(&[&a, &b]).await.describe_key(key()).await.unwrap_err();
    assert!(error.is(reason::SEALED) && started.elapsed() < Duration::from_secs(5), "{error:?}");
    assert_eq!((a.calls(), b.calls()), (1, 1));
}

#[tokio::test]
async fn full_disks_are_said_at_once_and_before_anything_else() {
    let (pki, a, b) = two().await;
    a.always(SEALED);
    b.always(Act::Refuse(Code::ResourceExhausted, "NO_SPACE"));
    let error = pki.connect(&[&a, &b]).await.disable_key(key()).await.unwrap_err();
    assert_eq!((error.reason.as_str(), error.code), (reason::NO_SPACE, Code::ResourceExhausted));
    assert_eq!((a.calls(), b.calls()), (1, 1));
}

#[tokio::test]
async fn an_election_is_waited_out() {
    let (pki, a, b) = two().await;
    a.then([UNAVAILABLE, UNAVAILABLE]);
    b.then([UNAVAILABLE, UNAVAILABLE, UNAVAILABLE]);
    pki.connect(&[&a, &b]).await.disable_key(key()).await.unwrap();
    assert_eq!(a.done().len() + b.done().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_node_ends_in_order_costs_no_change() {
    let pki = Pki::new();
    let node = Node::start_impatient(&pki, "a", Duration::from_millis(2)).await;
    let client = pki.connect(&[&node]).await;
    let changes = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                client.disable_key(key()).await.expect("ended before it was sent, or answered");
            }
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    assert_eq!(node.done().len(), 800, "each of them once");
}

#[tokio::test]
async fn a_broken_connection_is_retried_for_reads() {
    let (pki, a, b) = two().await;
    a.then([Act::DoAndCut]);
    let answer = pki.connect(&[&a, &b]).await.describe_key(key()).await.unwrap();
    assert_eq!(answer.key.unwrap().key_id, b.address.to_string());
}

#[tokio::test]
async fn a_broken_connection_during_a_change_is_an_unknown_outcome_and_not_repeated() {
    let (pki, a, b) = two().await;
    a.then([Act::DoAndCut]);
    let error = pki.connect(&[&a, &b]).await.disable_key(key()).await.unwrap_err();
    assert!(error.is(reason::UNKNOWN_OUTCOME) && error.message.contains("may or may not"), "{error:?}");
    assert_eq!((a.done().len(), b.calls()), (1, 0));
}

#[tokio::test]
async fn a_create_is_repeated_with_the_same_token() {
    for act in [Act::DoAndCut, UNKNOWN] {
        let (pki, a, b) = two().await;
        a.then([act]);
        let client = pki.connect(&[&a, &b]).await;
        client.create_key(CreateKeyRequest::default()).await.unwrap();
        let (_, token) = b.done().pop().unwrap();
        assert_eq!(token.len(), 16);
        if matches!(act, Act::DoAndCut) {
            assert_eq!(a.done(), [("CreateKey".to_owned(), token.clone())]);
        }
        client.create_key(CreateKeyRequest::default()).await.unwrap();
        assert_ne!(b.done().pop().unwrap().1, token, "a new call is a new key");
        let mine = CreateKeyRequest { token: b"0123456789abcdef".to_vec().into(), ..Default::default() };
        client.create_key(mine).await.unwrap();
        assert_eq!(b.done().pop().unwrap().1, b"0123456789abcdef", "the caller's own token is kept");
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_passed_on_when_there_is_no_token() {
    let (pki, a, b) = two().await;
    a.always(UNKNOWN);
    let error = pki.connect(&[&a, &b]).await.disable_key(key()).await.unwrap_err();
    assert!(error.is(reason::UNKNOWN_OUTCOME) && error.message == "refused: UNKNOWN_OUTCOME", "{error:?}");
    assert_eq!(b.calls(), 0);
}

#[tokio::test]
async fn doubt_survives_later_refusals() {
    let (pki, a, b) = two().await;
    a.then([Act::DoAndCut]).always(SEALED);
    b.always(SEALED);
    let client = pki.connect(&[&a, &b]).await.with_deadline(Duration::from_secs(2));
    let error = client.create_key(CreateKeyRequest::default()).await.unwrap_err();
    assert!(error.is(reason::UNKNOWN_OUTCOME), "{error:?}");
}

#[tokio::test]
async fn a_node_that_falls_silent_costs_seconds_not_the_call() {
    let (pki, a, b) = two().await;
    let client = pki.connect(&[&a, &b]).await;
    client.describe_key(key()).await.unwrap();
    a.fall_silent();
    let started = Instant::now();
    let answer = client.describe_key(key()).await.unwrap();
    assert_eq!(answer.key.unwrap().key_id, b.address.to_string());
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // A fresh client meets it already silent.
    pki.connect(&[&a, &b]).await.describe_key(key()).await.unwrap();
}

#[tokio::test]
async fn the_deadline_is_sent_and_kept() {
    let (pki, a, _) = two().await;
    a.always(Act::DoAndHang);
    let client = pki.connect(&[&a]).await.with_deadline(Duration::from_millis(600));
    let started = Instant::now();
    let error = client.describe_key(key()).await.unwrap_err();
    assert!(error.is(reason::DEADLINE_EXCEEDED), "{error:?}");
    let error = client.disable_key(key()).await.unwrap_err();
    assert!(error.is(reason::UNKNOWN_OUTCOME), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(a.calls(), 2, "no second attempt without time");
    for timeout in a.timeouts() {
        let (number, unit) = timeout.split_at(timeout.len() - 1);
        let micros = number.parse::<u64>().unwrap()
            * [("u", 1), ("m", 1000), ("n", 0)].iter().find(|(u, _)| *u == unit).unwrap().1;
        assert!(micros <= 600_000, "{timeout}");
    }
}

#[tokio::test]
async fn the_last_refusal_is_not_hidden_by_an_attempt_without_time() {
    let (pki, a, _) = two().await;
    // After the pauses there are 90 ms left for the eighth attempt.
    a.then([UNAVAILABLE; 7]).always(Act::DoAndHang);
    let client = pki.connect(&[&a]).await.with_deadline(Duration::from_millis(1350));
    let error = client.describe_key(key()).await.unwrap_err();
    assert!(error.is(reason::UNAVAILABLE), "{error:?}");
}

#[tokio::test]
async fn an_impatient_client_takes_the_first_no() {
    let (pki, a, _) = two().await;
    a.then([UNAVAILABLE]);
    let mut config = pki.config(&[&a]);
    config.addrs.insert(0, nobody().await);
    let client = Client::connect(config).await.unwrap();
    assert!(client.impatient().describe_key(key()).await.unwrap_err().is(reason::UNAVAILABLE));
    assert!(client.node(0).unwrap().impatient().describe_key(key()).await.unwrap_err().is(reason::UNREACHABLE));
    assert_eq!(a.calls(), 1);
}

#[tokio::test]
async fn who_waits_at_a_terminal_is_told_at_once_that_nobody_is_there() {
    let (pki, a, _) = two().await;
    let mut config = pki.config(&[&a]);
    let gone = [nobody().await, nobody().await];
    config.addrs = gone.to_vec();
    config.deadline = Duration::from_secs(3600);
    let client = Client::connect(config.clone()).await.unwrap();
    let error = client.while_reachable().describe_key(key()).await.unwrap_err();
    assert!(error.is(reason::UNREACHABLE) && gone.iter().all(|address| error.message.contains(address)), "{error:?}");
    // As long as one is there, it may be the one that serves soon.
    config.addrs.push(a.address.to_string());
    a.then([UNAVAILABLE]);
    let client = Client::connect(config).await.unwrap();
    client.while_reachable().describe_key(key()).await.unwrap();
    assert_eq!(a.calls(), 2);
}

#[tokio::test]
async fn one_node_alone_has_no_fail_over() {
    let (pki, a, b) = two().await;
    let client = pki.connect(&[&a, &b]).await;
    client.node(1).unwrap().describe_key(key()).await.unwrap();
    assert_eq!((a.calls(), b.calls()), (0, 1));
    b.always(SEALED);
    assert!(client.node(1).unwrap().describe_key(key()).await.unwrap_err().is(reason::SEALED));
    assert_eq!(a.calls(), 0);
    assert!(client.node(2).is_none());
}

#[tokio::test]
async fn a_server_of_another_root_or_without_a_node_identity_gets_nothing() {
    let pki = Pki::new();
    let other = Pki::new();
    let admin = format!("quorate://{CLUSTER}/admin/ada");
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    for (identity, expected) in [
        (other.node("a"), "not to be trusted"),
        (pki.issue(Some(&admin), server.clone()), "of admin/ada, not of a node"),
        (pki.issue(None, server.clone()), "no quorate identity"),
        (pki.issue(Some("https://example.com/x"), server), "no quorate identity"),
        (
            pki.issue(Some(&format!("quorate://{CLUSTER}/node/a")), ExtendedKeyUsagePurpose::ClientAuth),
            "not to be trusted",
        ),
    ] {
        let node = Node::start_as(&pki, identity).await;
        let started = Instant::now();
        let error = pki.connect(&[&node]).await.disable_key(key()).await.unwrap_err();
        assert!(error.is(reason::UNTRUSTED_SERVER) && error.message.contains(expected), "{expected}: {error:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "said at once");
        assert_eq!(node.calls(), 0);
    }
}

#[tokio::test]
async fn a_pinned_client_refuses_every_other_node_under_the_same_root() {
    let pki = Pki::new();
    let (a, a2) = (Node::start(&pki, "a").await, Node::start(&pki, "a2").await);
    let foreign = "quorate://00000000-0000-4000-8000-000000000000/node/b";
    let b = Node::start_as(&pki, pki.issue(Some(foreign), ExtendedKeyUsagePurpose::ServerAuth)).await;
    let client = pki.connect(&[&a, &a2, &b]).await;
    client.describe_key(key()).await.unwrap();
    let pinned = client.pinned(&client.server_identity().unwrap()).unwrap();
    pinned.node(0).unwrap().describe_key(key()).await.unwrap();
    for (place, other) in [(1, &a2), (2, &b)] {
        let error = pinned.node(place).unwrap().describe_key(key()).await.unwrap_err();
        assert!(error.is(reason::UNTRUSTED_SERVER) && error.message.contains("not a of"), "{error:?}");
        assert_eq!(other.calls(), 0);
    }
}

#[tokio::test]
async fn with_two_roots_the_right_one_is_told() {
    let (pki, other) = (Pki::new(), Pki::new());
    let a = Node::start(&pki, "a").await;
    let mut config = pki.config(&[&a]);
    config.ca_pem = format!("{}{}", other.ca_pem, pki.ca_pem).into();
    let client = Client::connect(config).await.unwrap();
    client.describe_key(key()).await.unwrap();
    let single = pki.connect(&[&a]).await;
    single.describe_key(key()).await.unwrap();
    assert_eq!(client.server_identity(), single.server_identity());
}

#[tokio::test]
async fn a_client_certificate_of_another_root_is_refused_in_words() {
    let (pki, other) = (Pki::new(), Pki::new());
    let a = Node::start(&pki, "a").await;
    let stranger = other.client();
    let mut config = pki.config(&[&a]);
    (config.cert_pem, config.key_pem) = (stranger.cert_pem.into(), stranger.key_pem.into_bytes().into());
    let error = Client::connect(config).await.unwrap().describe_key(key()).await.unwrap_err();
    assert!(error.is(reason::CERTIFICATE_REFUSED) && error.message.contains("pki client"), "{error:?}");
    assert_eq!(a.calls(), 0);
}

#[tokio::test]
async fn settings_that_can_not_work_are_named() {
    let pki = Pki::new();
    let me = pki.client();
    let good = ClientConfig::new(
        vec!["127.0.0.1:1".into()],
        pki.ca_pem.clone().into(),
        me.cert_pem.clone().into(),
        me.key_pem.clone().into(),
    );
    type Change = fn(&mut ClientConfig);
    let broken: [(&str, Change); 6] = [
        ("QUORATE_ADDR", |c| c.addrs.clear()),
        ("host:port", |c| c.addrs = vec!["http://x".into()]),
        ("QUORATE_CACERT", |c| c.ca_pem = b"nothing".to_vec()),
        ("QUORATE_CLIENT_CERT", |c| c.cert_pem = b"nothing".to_vec()),
        ("QUORATE_CLIENT_KEY", |c| c.key_pem = b"nothing".to_vec().into()),
        ("don't belong together", |c| {
            c.key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes().into()
        }),
    ];
    for (expected, change) in broken {
        let mut config = good.clone();
        change(&mut config);
        let error = Client::connect(config).await.err().expect(expected);
        assert!(error.is(reason::INVALID_CONFIG) && error.message.contains(expected), "{expected}: {error:?}");
    }
}
