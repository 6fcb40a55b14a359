//! Who is at the other end of a connection, as its certificate says; read once for each connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Extensions, HeaderMap};
use quorate_proto::NAMESPACE_KEY;
use quorate_service::Error;
use quorate_service::core::access::{Caller, Door};
use quorate_service::core::credential::Presented;
use quorate_service::core::principal::Principal;
use quorate_service::core::request::{InvalidRequest, NamespaceName, Part};
use rustls_pki_types::CertificateDer;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Status};

use crate::keys::refused;
use crate::status::status;

/// Reads a certificate chain, leaf first, that the TLS handshake has verified: whose it is, and which credential. It refuses a
/// certificate of another cluster, and says why in words for its holder.
pub type CallerOf = Arc<dyn Fn(&[CertificateDer<'static>]) -> Result<Identified, String> + Send + Sync>;

/// Who a certificate says that its holder is.
#[derive(Clone, Debug)]
pub struct Identified {
    /// Who.
    pub principal: Principal,
    /// The certificate, as a credential.
    pub presented: Presented,
}

impl Identified {
    /// As who calls through this door, from there.
    pub fn caller(self, source: Option<SocketAddr>) -> Caller {
        let Self { principal, presented } = self;
        Caller { principal, presented, source, door: Door::Native, namespace: None }
    }
}

/// Connections whose callers are remembered; beyond that all are forgotten and read again.
const REMEMBERED_MAX: usize = 4096;

type Chain = Vec<CertificateDer<'static>>;

/// Tells callers from their connections.
pub(crate) struct Callers {
    caller_of: CallerOf,
    /// By the address of the connection's chain in memory; that is not used again while the `Weak` lives.
    seen: Mutex<HashMap<usize, (Weak<Chain>, Identified)>>,
}

impl Callers {
    pub(crate) fn new(caller_of: CallerOf) -> Self {
        Self { caller_of, seen: Mutex::default() }
    }

    /// The caller of a request: as its extensions say, when whoever accepted the connection put a [`Caller`] there,
    /// else by the client certificate of its connection.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a certificate, or with one that names nobody here.
    pub(crate) fn of<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.named_in(request.extensions())
    }

    /// The same, of a request whose body has not been read.
    pub(crate) fn named_in(&self, extensions: &Extensions) -> Result<Caller, Status> {
        if let Some(caller) = extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let connection = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        let identified = self.identify(connection.and_then(TlsConnectInfo::peer_certs)).map_err(|e| status(&e))?;
        let source = connection.and_then(|c| c.get_ref().remote_addr());
        Ok(identified.caller(source))
    }

    /// The same with its head: in the namespace that its metadata names.
    ///
    /// # Errors
    /// Likewise; `INVALID_ARGUMENT` when that is no name, or stands there twice.
    pub(crate) fn headed(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Caller, Status> {
        let caller = self.named_in(extensions)?;
        Ok(Caller { namespace: namespace(headers).map_err(refused)?, ..caller })
    }

    fn identify(&self, chain: Option<Arc<Chain>>) -> Result<Identified, Error> {
        let chain = chain.filter(|chain| !chain.is_empty()).ok_or_else(|| {
            Error::Unauthenticated(
                "no client certificate was presented; use one that was issued for this cluster".into(),
            )
        })?;
        let place = Arc::as_ptr(&chain) as usize;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, identified)) = seen.get(&place) {
            return Ok(identified.clone());
        }
        drop(seen);
        let identified = (self.caller_of)(&chain).map_err(Error::Unauthenticated)?;
        seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX {
            seen.retain(|_, (chain, _)| chain.strong_count() > 0);
            if seen.len() >= REMEMBERED_MAX {
                seen.clear();
            }
        }
        seen.insert(place, (Arc::downgrade(&chain), identified.clone()));
        Ok(identified)
    }
}

/// The namespace that a request's metadata names.
fn namespace(headers: &HeaderMap) -> Result<Option<NamespaceName>, InvalidRequest> {
    let wrong = |why: &str| InvalidRequest::wrong(Part::Namespace, format!("the metadata {NAMESPACE_KEY} {why}"));
    let mut named = headers.get_all(NAMESPACE_KEY).iter();
    let (Some(one), more) = (named.next(), named.next()) else { return Ok(None) };
    if more.is_some() {
        return Err(wrong("stands there more than once; name one namespace, or none"));
    }
    one.to_str().map_err(|_| wrong("is no text; name a namespace, or none"))?.parse().map(Some)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use quorate_service::Reason;
    use quorate_service::core::credential::CredentialId;
    use quorate_service::core::principal::Role;
    use tonic::Code;

    use super::*;

    /// Reads the "certificate" as the name of a user; an empty one is somebody else's.
    fn callers(reads: Arc<AtomicUsize>) -> Callers {
        Callers::new(Arc::new(move |chain| {
            reads.fetch_add(1, Ordering::SeqCst);
            let name = std::str::from_utf8(&chain[0]).unwrap();
            let name = name.parse().map_err(|_| "of another cluster".to_owned())?;
            let presented = Presented { id: CredentialId::Certificate([1; 32]), ends_ms: 0 };
            Ok(Identified { principal: Principal::certificate(Role::User, name), presented })
        }))
    }
    fn chain(name: &str) -> Option<Arc<Chain>> {
        Some(Arc::new(vec![CertificateDer::from(name.as_bytes().to_vec())]))
    }

    #[test]
    fn without_certificate_or_with_a_foreign_one_nobody_gets_in() {
        let reads = Arc::new(AtomicUsize::new(0));
        let callers = callers(reads.clone());
        for nobody in [None, Some(Arc::new(Vec::new()))] {
            assert_eq!(callers.identify(nobody).unwrap_err().reason(), Reason::Unauthenticated);
        }
        assert_eq!(reads.load(Ordering::SeqCst), 0);
        let foreign = callers.identify(chain("")).unwrap_err();
        assert_eq!(foreign.to_string(), "not authenticated: of another cluster");
        assert_eq!(callers.of(&Request::new(())).unwrap_err().code(), Code::Unauthenticated);
    }

    #[test]
    fn metadata_name_one_namespace_or_none() {
        let named = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(NAMESPACE_KEY, http::HeaderValue::from_bytes(value).unwrap());
            }
            namespace(&headers)
        };
        assert_eq!(named(&[]), Ok(None));
        assert_eq!(named(&[b"Team-1"]), Ok(Some("team-1".parse().unwrap())));
        for bad in [&[&b""[..]][..], &[b"a b"], &[b"-a"], &[&[0xff]], &[b"a", b"a"], &[&[b'x'; 65]]] {
            let error = named(bad).unwrap_err();
            assert_eq!(error.part(), Part::Namespace, "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_certificate_is_read_once_a_connection_and_never_taken_for_anothers() {
        let reads = Arc::new(AtomicUsize::new(0));
        let callers = callers(reads.clone());
        for n in 0..2 * REMEMBERED_MAX {
            // Each chain is freed before the next is made: its place in memory may be used again.
            let name = format!("user-{n}");
            let chain = chain(&name);
            assert_eq!(callers.identify(chain.clone()).unwrap().principal.name.as_str(), name);
            assert_eq!(callers.identify(chain).unwrap().principal.name.as_str(), name);
        }
        assert_eq!(reads.load(Ordering::SeqCst), 2 * REMEMBERED_MAX);
        assert!(callers.seen.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
