//! Connections: TCP and mutual TLS 1.3 with a hybrid post-quantum key exchange, to a node of the right cluster.
//!
//! A server is trusted when its chain goes to the configured root, its certificate names the address *and* carries
//! `quorate://C/node/NAME`: a client certificate of the same root, though it chains, is no server.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use quorate_core::id::ClusterId;
use quorate_core::principal::{Principal, Role};
use rustls::AlertDescription;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{Address, ClientConfig};
use crate::error::ClientError;

/// Longest time from the first packet to the end of the handshake; a paused node accepts TCP but answers nothing.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// Who answered, as proven by the handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerIdentity {
    /// The cluster in the server's certificate.
    pub cluster: ClusterId,
    /// The node's name.
    pub node: String,
    /// SubjectPublicKeyInfo (DER) of its identity key.
    pub identity_spki: Vec<u8>,
    /// SubjectPublicKeyInfo (DER) of the root its chain goes to; a share's fingerprint is checked against it.
    pub root_spki: Vec<u8>,
}

/// Why no connection came about; nothing of the request was sent.
#[derive(Debug)]
pub(crate) enum ConnectFailure {
    /// Nobody there, or no answer in time: may be different in a moment.
    Unreachable(String),
    /// A server that is not what it should be, or a name that means nothing: will stay so.
    Untrusted(String),
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(m) | Self::Untrusted(m) => f.write_str(m),
        }
    }
}
impl StdError for ConnectFailure {}

/// One root certificate and the verifier that accepts chains to it alone.
struct Root {
    spki: Vec<u8>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// TLS settings shared by all connections of a client.
pub(crate) struct Tls {
    connector: TlsConnector,
    roots: Vec<Root>,
}

impl Tls {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        let bad = |what: &str, e: &dyn fmt::Display| ClientError::config(format!("{what}: {e}"));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut store = rustls::RootCertStore::empty();
        let mut roots = Vec::new();
        for cert in CertificateDer::pem_slice_iter(&config.ca_pem) {
            let cert = cert.map_err(|e| bad("the root certificate (QUORATE_CACERT) is not PEM", &e))?;
            let mut single = rustls::RootCertStore::empty();
            single.add(cert.clone()).map_err(|e| bad("the root certificate (QUORATE_CACERT) can't be used", &e))?;
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(single), provider.clone())
                .build()
                .map_err(|e| bad("the root certificate (QUORATE_CACERT) can't be used", &e))?;
            let (_, parsed) = X509Certificate::from_der(&cert)
                .map_err(|e| bad("the root certificate (QUORATE_CACERT) can't be read", &e))?;
            roots.push(Root { spki: parsed.public_key().raw.to_vec(), verifier });
            store.add(cert).map_err(|e| bad("the root certificate (QUORATE_CACERT) can't be used", &e))?;
        }
        if roots.is_empty() {
            return Err(ClientError::config(
                "the root certificate file (QUORATE_CACERT) holds no certificate; give the ca.pem that `quorate pki init` made",
            ));
        }
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| bad("TLS 1.3 is not available", &e))?
            .with_root_certificates(store);
        let mut tls = if config.cert_pem.is_empty() && config.key_pem.is_empty() {
            builder.with_no_client_auth()
        } else {
            let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&config.cert_pem)
                .collect::<Result<_, _>>()
                .map_err(|e| bad("the client certificate (QUORATE_CLIENT_CERT) is not PEM", &e))?;
            if chain.is_empty() {
                return Err(ClientError::config(
                    "the client certificate file (QUORATE_CLIENT_CERT) holds no certificate",
                ));
            }
            let key = PrivateKeyDer::from_pem_slice(&config.key_pem)
                .map_err(|e| bad("the client key (QUORATE_CLIENT_KEY) is not a private key in PEM", &e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| {
                bad("client certificate and key (QUORATE_CLIENT_CERT, QUORATE_CLIENT_KEY) don't belong together", &e)
            })?
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(tls)), roots })
    }

    /// Reads who the server is from its verified chain.
    fn identify(&self, chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> Result<ServerIdentity, ConnectFailure> {
        let untrusted = |m: &str| ConnectFailure::Untrusted(m.to_owned());
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| untrusted("the server sent no certificate"))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| untrusted("the server's certificate can't be read"))?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let mut nodes = names.iter().flat_map(|n| n.value.general_names.iter()).filter_map(|n| match n {
            GeneralName::URI(uri) => Principal::parse_uri(uri).ok(),
            _ => None,
        });
        let (cluster, principal) = match (nodes.next(), nodes.next()) {
            (Some(one), None) => one,
            _ => return Err(untrusted("the server's certificate carries no quorate identity: it is not a node")),
        };
        if principal.role() != Role::Node {
            return Err(ConnectFailure::Untrusted(format!(
                "the server presents the certificate of {principal}, not of a node"
            )));
        }
        // The handshake has accepted the chain; with several roots configured, find out which one it goes to.
        let root = match self.roots.as_slice() {
            [one] => Some(one),
            several => several
                .iter()
                .find(|r| r.verifier.verify_server_cert(leaf, intermediates, name, &[], UnixTime::now()).is_ok()),
        };
        let root_spki = root.ok_or_else(|| untrusted("the server's chain goes to no configured root"))?.spki.clone();
        let identity_spki = parsed.public_key().raw.to_vec();
        Ok(ServerIdentity { cluster, node: principal.name.to_string(), identity_spki, root_spki })
    }
}

/// Makes the connections to one node.
#[derive(Clone)]
pub(crate) struct Connector {
    pub address: Address,
    pub tls: Arc<Tls>,
    /// Only this server will do: this node of this cluster, under this root.
    pub pinned: Option<ServerIdentity>,
    /// What the connections showed.
    pub watch: Watch,
}

/// What the last connection to a node showed.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    identity: Option<ServerIdentity>,
    alert: Option<AlertDescription>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who answered.
    pub(crate) fn identity(&self) -> Option<ServerIdentity> {
        self.lock().identity.clone()
    }

    /// The alert with which the node refused this client's certificate.
    pub(crate) fn alert(&self) -> Option<AlertDescription> {
        self.lock().alert
    }

    /// In TLS 1.3 the client's handshake is done before the server has looked at its certificate: a refusal comes as an
    /// alert on the open connection, and HTTP/2 would hand it on as mere text.
    fn note(&self, e: &io::Error) {
        use AlertDescription as A;
        if let Some(rustls::Error::AlertReceived(alert)) = tls_error(e)
            && matches!(
                alert,
                A::BadCertificate
                    | A::UnsupportedCertificate
                    | A::CertificateRevoked
                    | A::CertificateExpired
                    | A::CertificateUnknown
                    | A::CertificateRequired
                    | A::UnknownCA
                    | A::AccessDenied
                    | A::DecryptError
            )
        {
            self.lock().alert = Some(*alert);
        }
    }
}

/// A connection whose read errors are noted.
pub(crate) struct Watched {
    stream: TlsStream<TcpStream>,
    watch: Watch,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(e)) = &result {
            self.watch.note(e);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connector {
    async fn connect(self) -> Result<Watched, ConnectFailure> {
        let address = self.address.to_string();
        let unreachable =
            |e: &dyn fmt::Display| ConnectFailure::Unreachable(format!("no connection to {address}: {e}"));
        tokio::time::timeout(CONNECT_TIME_MAX, self.handshake())
            .await
            .unwrap_or_else(|_| Err(unreachable(&format_args!("no answer within {CONNECT_TIME_MAX:?}"))))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the client's network; it runs outside the node")]
    async fn handshake(&self) -> Result<Watched, ConnectFailure> {
        let address = &self.address;
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|e| {
            let m = format!("no connection to {address}: {e}");
            // A name that does not resolve comes as `Uncategorized`, an unreachable host with its own kind.
            match e.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::NotFound => ConnectFailure::Untrusted(m),
                _ => ConnectFailure::Unreachable(m),
            }
        })?;
        // Requests are small and each waits for its answer: never hold one back to fill a packet.
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(address.host.clone())
            .map_err(|_| ConnectFailure::Untrusted(format!("{address}: not a host name or IP address")))?;
        let stream = self.tls.connector.connect(name.clone(), tcp).await.map_err(|e| match tls_error(&e) {
            // What a node says at the port for its peers.
            Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
                let why = "it serves no clients: this is perhaps the port for the other nodes, and the one for clients another";
                ConnectFailure::Untrusted(format!("{address}: {why} (7600, unless configured)"))
            }
            Some(tls) => ConnectFailure::Untrusted(format!("{address} is not to be trusted: {tls}")),
            None => ConnectFailure::Unreachable(format!("no connection to {address}: {e}")),
        })?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let identity =
            self.tls.identify(chain, &name).map_err(|e| ConnectFailure::Untrusted(format!("{address}: {e}")))?;
        if let Some(pinned) = &self.pinned
            && *pinned != identity
        {
            return Err(ConnectFailure::Untrusted(format!(
                "{address} is node {} of cluster {} now, not {} of {}",
                identity.node, identity.cluster, pinned.node, pinned.cluster
            )));
        }
        *self.watch.lock() = Seen { identity: Some(identity), alert: None };
        Ok(Watched { stream, watch: self.watch.clone() })
    }
}

fn tls_error(e: &io::Error) -> Option<&rustls::Error> {
    e.get_ref()?.downcast_ref()
}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.connect().await.map(TokioIo::new) })
    }
}
