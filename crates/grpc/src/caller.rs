//! Who is at the other end of a connection: made once at the handshake, carried by each request as an extension.

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_service::Error;
use quorate_service::core::principal::Principal;
use rustls_pki_types::CertificateDer;
use tonic::{Request, Status};

use crate::status::status;

/// The peer of a connection. Whoever accepts connections makes one for each and puts a clone into the extensions of
/// its requests (as tonic's `ConnectInfo`, for instance). The certificates are verified already, by the TLS handshake.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    principal: Result<Principal, Error>,
    address: Option<SocketAddr>,
}

impl Caller {
    /// The caller that verified peer certificates stand for, as `identify` reads them: from the URI SAN of the first.
    /// It must refuse a certificate of another cluster. No certificates: a caller that may do nothing but ask for health.
    pub fn from_certificates(
        certificates: Option<&[CertificateDer<'_>]>,
        identify: impl FnOnce(&[CertificateDer<'_>]) -> Result<Principal, Error>,
        address: Option<SocketAddr>,
    ) -> Self {
        let principal = match certificates {
            Some(certificates) if !certificates.is_empty() => identify(certificates),
            _ => Err(Error::Unauthenticated(
                "no client certificate was presented; use one that `quorate pki client` issued for this cluster".into(),
            )),
        };
        Self(Arc::new(Inner { principal, address }))
    }

    /// Who it is.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a certificate that names a principal of this cluster.
    pub fn principal(&self) -> Result<&Principal, Error> {
        self.0.principal.as_ref().map_err(Clone::clone)
    }

    /// What failures are counted by: the principal if known, else the address.
    pub fn source(&self) -> String {
        match (&self.0.principal, self.0.address) {
            (Ok(principal), _) => principal.to_string(),
            (Err(_), Some(address)) => address.ip().to_string(),
            (Err(_), None) => "unknown".to_owned(),
        }
    }
}

/// The caller of a request.
///
/// # Errors
/// `UNAUTHENTICATED` when the listener put none there: nobody is let in by mistake.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let missing = || status(&Error::Unauthenticated("this connection carries no identity".into()));
    request.extensions().get::<Caller>().cloned().ok_or_else(missing)
}

/// The principal of a request.
///
/// # Errors
/// `UNAUTHENTICATED`.
pub(crate) fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    caller(request)?.principal().cloned().map_err(|e| status(&e))
}

#[cfg(test)]
mod tests {
    use quorate_service::Reason;
    use tonic::Code;

    use super::*;

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from(vec![1, 2, 3])
    }

    #[test]
    fn without_certificate_or_identity_nobody_gets_in() {
        let none = Caller::from_certificates(None, |_| panic!("nothing to read"), Some(([10, 0, 0, 7], 999).into()));
        assert_eq!(none.principal().unwrap_err().reason(), Reason::Unauthenticated);
        assert_eq!(none.source(), "10.0.0.7");
        let empty = Caller::from_certificates(Some(&[]), |_| panic!("nothing to read"), None);
        assert_eq!(empty.principal().unwrap_err().reason(), Reason::Unauthenticated);

        let foreign = |_: &[CertificateDer<'_>]| Err(Error::Unauthenticated("of another cluster".into()));
        let foreign = Caller::from_certificates(Some(&[certificate()]), foreign, None);
        assert_eq!(foreign.principal().unwrap_err().reason(), Reason::Unauthenticated);

        assert_eq!(principal(&Request::new(())).unwrap_err().code(), Code::Unauthenticated);
        let mut request = Request::new(());
        request.extensions_mut().insert(none);
        assert_eq!(principal(&request).unwrap_err().code(), Code::Unauthenticated);
    }

    #[test]
    fn a_known_caller_is_who_the_certificate_says() {
        let who = Principal { role: quorate_service::core::principal::Role::User, name: "web".parse().unwrap() };
        let read = who.clone();
        let caller = Caller::from_certificates(Some(&[certificate()]), |_| Ok(read), None);
        assert_eq!(caller.source(), "user/web");
        let mut request = Request::new(());
        request.extensions_mut().insert(caller);
        assert_eq!(principal(&request).unwrap(), who);
    }
}
