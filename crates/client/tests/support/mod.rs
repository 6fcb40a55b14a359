//! A node made small: a real gRPC server over real mutual TLS, that answers by script, behind a wire that can be cut
//! or fall silent.
#![allow(clippy::disallowed_methods)] // Tests use the real network.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use quorate_client::v1::*;
use quorate_client::{Client, ClientConfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status};

pub const CLUSTER: &str = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";

/// An offline root and what it signs.
pub struct Pki {
    pub ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root");
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { ca_pem, issuer: Issuer::new(params, key) }
    }

    pub fn issue(&self, uri: Option<&str>, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().unwrap();
        let cert_pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { cert_pem, key_pem: key.serialize_pem() }
    }

    pub fn node(&self, name: &str) -> Identity {
        self.issue(Some(&format!("quorate://{CLUSTER}/node/{name}")), ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self) -> Identity {
        self.issue(Some(&format!("quorate://{CLUSTER}/admin/ada")), ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub fn config(&self, nodes: &[&Node]) -> ClientConfig {
        let me = self.client();
        let addrs = nodes.iter().map(|n| n.address.to_string()).collect();
        ClientConfig::new(addrs, self.ca_pem.clone().into(), me.cert_pem.into(), me.key_pem.into())
    }

    pub async fn connect(&self, nodes: &[&Node]) -> Client {
        Client::connect(self.config(nodes)).await.unwrap()
    }
}

/// What a node does with a request.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Refuse(Code, &'static str),
    /// Does it, and the wire is cut before the answer.
    DoAndCut,
    /// Does it, and never answers.
    DoAndHang,
}

#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    always: Option<Act>,
    /// Calls that took effect, by method and client token.
    done: Vec<(String, Vec<u8>)>,
    calls: usize,
    timeouts: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Up,
    Cut(u32),
    Silent,
}

#[derive(Clone)]
pub struct Node {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    wire: Arc<watch::Sender<Wire>>,
}

impl Node {
    pub async fn start(pki: &Pki, name: &str) -> Self {
        Self::start_as(pki, pki.node(name)).await
    }

    /// One that ends its connections, in order, when they are older than this.
    pub async fn start_impatient(pki: &Pki, name: &str, age: std::time::Duration) -> Self {
        Self::serve(pki, pki.node(name), tonic::transport::Server::builder().max_connection_age(age)).await
    }

    pub async fn start_as(pki: &Pki, identity: Identity) -> Self {
        Self::serve(pki, identity, tonic::transport::Server::builder()).await
    }

    async fn serve(pki: &Pki, identity: Identity, mut server: tonic::transport::Server) -> Self {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let back = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let back_address = back.local_addr().unwrap();
        let node = Self {
            address: front.local_addr().unwrap(),
            script: Arc::default(),
            wire: Arc::new(watch::Sender::new(Wire::Up)),
        };
        let wire = node.wire.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = front.accept().await {
                let wire = wire.subscribe();
                tokio::spawn(async move {
                    let server = TcpStream::connect(back_address).await.unwrap();
                    carry(client, server, wire).await;
                });
            }
        });

        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (send, receive) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = back.accept().await {
                let (acceptor, send) = (acceptor.clone(), send.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        let _ = send.send(Ok::<_, std::io::Error>(stream)).await;
                    }
                });
            }
        });
        let service = node.clone();
        tokio::spawn(
            server.add_service(service).serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(receive)),
        );
        node
    }

    /// The next requests are treated like this, then all are served.
    pub fn then(&self, acts: impl IntoIterator<Item = Act>) -> &Self {
        self.script.lock().unwrap().acts.extend(acts);
        self
    }

    /// Every request without an entry in the script is treated like this.
    pub fn always(&self, act: Act) -> &Self {
        self.script.lock().unwrap().always = Some(act);
        self
    }

    pub fn calls(&self) -> usize {
        self.script.lock().unwrap().calls
    }

    pub fn done(&self) -> Vec<(String, Vec<u8>)> {
        self.script.lock().unwrap().done.clone()
    }

    pub fn timeouts(&self) -> Vec<String> {
        self.script.lock().unwrap().timeouts.clone()
    }

    pub fn cut(&self) {
        self.wire.send_modify(|w| *w = if let Wire::Cut(n) = *w { Wire::Cut(n + 1) } else { Wire::Cut(0) });
    }

    /// From now on nothing passes, and no connection is closed either.
    pub fn fall_silent(&self) {
        self.wire.send_replace(Wire::Silent);
    }

    async fn act(&self, method: &str, token: &[u8], timeout: Option<String>) -> Result<(), Status> {
        let act = {
            let mut script = self.script.lock().unwrap();
            script.calls += 1;
            script.timeouts.extend(timeout);
            let act = script.acts.pop_front().or(script.always);
            if !matches!(act, Some(Act::Refuse(..))) {
                script.done.push((method.to_owned(), token.to_vec()));
            }
            act
        };
        match act {
            None => Ok(()),
            Some(Act::Refuse(code, reason)) => {
                let mut status = Status::new(code, format!("refused: {reason}"));
                status.metadata_mut().insert("quorate-reason", reason.parse().unwrap());
                Err(status)
            }
            Some(Act::DoAndCut) => {
                self.cut();
                std::future::pending().await
            }
            Some(Act::DoAndHang) => std::future::pending().await,
        }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut wire: watch::Receiver<Wire>) {
    wire.mark_unchanged();
    if *wire.borrow() == Wire::Silent {
        std::future::pending::<()>().await;
    }
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        Ok(()) = wire.changed() => {
            if *wire.borrow() == Wire::Silent {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn timeout_of<T>(request: &Request<T>) -> Option<String> {
    request.metadata().get("grpc-timeout").map(|v| v.to_str().unwrap().to_owned())
}

impl tonic::server::NamedService for Node {
    const NAME: &'static str = "quorate.v1.Keys";
}

impl tower::Service<http::Request<Body>> for Node {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let node = self.clone();
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let key = || Some(Key { key_id: node_name(&node), ..Default::default() });
        let answer = KeyResponse { key: key() };
        Box::pin(async move {
            Ok(match method.as_str() {
                "CreateKey" => {
                    let service = tower::service_fn(move |request: Request<CreateKeyRequest>| {
                        let (node, answer) = (node.clone(), answer.clone());
                        async move {
                            let timeout = timeout_of(&request);
                            node.act("CreateKey", &request.get_ref().token, timeout).await?;
                            Ok(Response::new(answer))
                        }
                    });
                    tonic::server::Grpc::new(tonic_prost::ProstCodec::default()).unary(service, request).await
                }
                method => {
                    let method = method.to_owned();
                    let service = tower::service_fn(move |request: Request<KeyRequest>| {
                        let (node, answer, method) = (node.clone(), answer.clone(), method.clone());
                        async move {
                            let timeout = timeout_of(&request);
                            node.act(&method, b"", timeout).await?;
                            Ok(Response::new(answer))
                        }
                    });
                    tonic::server::Grpc::new(tonic_prost::ProstCodec::default()).unary(service, request).await
                }
            })
        })
    }
}

fn node_name(node: &Node) -> String {
    node.address.to_string()
}
