//! What the two CAs issue.

use std::net::IpAddr;

use quorate_core::id::Name;
use quorate_core::principal::{Principal, Role};
use quorate_core::seam::Entropy;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType,
};
use zeroize::Zeroizing;

use super::authority::{OpenCa, uri};
use super::{Issued, NodeRequest, PkiError, ledger, serial, validity};
use crate::tls::CertificateFacts;

/// How long a certificate lives unless asked otherwise; a node's always.
pub const LEAF_DAYS: u32 = 90;
/// The longest a client's certificate may live: there is no revocation list, so that a lost one ends by its date.
pub const CLIENT_DAYS_MAX: u32 = 825;

/// A client's certificate and key.
pub struct ClientIdentity {
    /// Certificate, then the client CA's (PEM).
    pub chain_pem: String,
    /// Private key (PKCS#8, PEM).
    pub key_pem: Zeroizing<String>,
}

/// The client CA, open.
pub struct ClientCa(pub(super) OpenCa);

/// The node CA, open.
pub struct NodeCa(pub(super) OpenCa);

impl ClientCa {
    /// A new key and certificate for a client.
    ///
    /// # Errors
    /// The role is not a client's, or the days are out of range or beyond the CA's own.
    pub fn client(
        &self,
        role: Role,
        name: &Name,
        days: u32,
        now_ms: u64,
        entropy: &dyn Entropy,
    ) -> Result<ClientIdentity, PkiError> {
        if role == Role::Node {
            return Err(PkiError::RoleIsNotAClient(role));
        }
        if !(1..=CLIENT_DAYS_MAX).contains(&days) {
            return Err(PkiError::Days { asked: days, max: CLIENT_DAYS_MAX });
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::make("client's key"))?;
        let principal = Principal::certificate(role, name.clone());
        let names = vec![uri(&principal.uri(self.0.cluster))?];
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain_pem = self.0.issue(&key, &principal, names, usages, days, now_ms, entropy)?;
        Ok(ClientIdentity { chain_pem, key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

impl NodeCa {
    /// The certificate chain (PEM) of a node whose request was checked: for servers on both ports and for the node as a
    /// client of its peers. Its names are those it asked for; its URI is ours to give.
    ///
    /// # Errors
    /// The node CA expires too soon.
    pub fn node(&self, request: &NodeRequest, now_ms: u64, entropy: &dyn Entropy) -> Result<String, PkiError> {
        let principal = Principal::certificate(Role::Node, request.name().clone());
        let mut names = request.host_names().to_vec();
        names.push(uri(&principal.uri(self.0.cluster))?);
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.0.issue(request.identity_key(), &principal, names, usages, LEAF_DAYS, now_ms, entropy)
    }
}

impl OpenCa {
    #[expect(clippy::too_many_arguments, reason = "the fields of a certificate, named by the two callers above")]
    pub(super) fn issue(
        &self,
        key: &impl PublicKeyData,
        principal: &Principal,
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        days: u32,
        now_ms: u64,
        entropy: &dyn Entropy,
    ) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, principal.name.as_str());
        params.subject_alt_names = names;
        (params.not_before, params.not_after) = validity(now_ms, days)?;
        if params.not_after.unix_timestamp() > self.not_after_s {
            return Err(PkiError::CaExpires(self.kind.as_str()));
        }
        let serial = serial(entropy);
        params.serial_number = Some(serial.clone());
        let ends_ms = u64::try_from(params.not_after.unix_timestamp()).map_err(|_| PkiError::Clock)? * 1000;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer).map_err(PkiError::make("certificate"))?;
        let facts = CertificateFacts::of(leaf.der());
        let facts = facts.map_err(|reason| PkiError::Make { what: "certificate", reason })?;
        let issued = Issued {
            principal: principal.to_string(),
            serial: hex(&serial.to_bytes()),
            sha256: hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf.der()).as_ref()),
            credential: facts.credential().to_string(),
            issued_ms: now_ms,
            ends_ms,
        };
        ledger::add(&self.ledger, &issued)?;
        Ok(format!("{}{}", leaf.pem(), self.pem))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The names of advertised addresses (`host:port`) for a certificate. A node on the loopback interface gets all its
/// names, as people type now this one, now that one.
pub(super) fn host_names(addresses: &[String]) -> Result<Vec<SanType>, PkiError> {
    let mut hosts: Vec<String> = Vec::new();
    for address in addresses {
        let host = address
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map(|(host, _)| host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned())
            .ok_or_else(|| PkiError::Address(address.clone()))?;
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        hosts.push(host);
        if loopback {
            hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        }
    }
    let mut names: Vec<SanType> = Vec::new();
    for host in hosts {
        let name = host_name(&host).ok_or_else(|| PkiError::Address(host.clone()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn host_name(host: &str) -> Option<SanType> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return (!ip.is_unspecified()).then_some(SanType::IpAddress(ip));
    }
    // A wildcard or a stray dot would be a name for more than this node.
    rustls::pki_types::DnsName::try_from(host).ok()?;
    Ia5String::try_from(host).ok().map(SanType::DnsName)
}

/// Whether a name in a request is one that [`host_names`] could have made.
pub(super) fn is_host_name(name: &SanType) -> bool {
    match name {
        SanType::IpAddress(ip) => !ip.is_unspecified(),
        SanType::DnsName(dns) => host_name(dns.as_str()).as_ref() == Some(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(addresses: &[&str]) -> Result<Vec<String>, PkiError> {
        let addresses: Vec<String> = addresses.iter().map(|&a| a.to_owned()).collect();
        let names = host_names(&addresses)?;
        assert!(names.iter().all(is_host_name));
        Ok(names
            .iter()
            .map(|n| match n {
                SanType::IpAddress(ip) => ip.to_string(),
                SanType::DnsName(dns) => dns.as_str().to_owned(),
                _ => unreachable!("only host names"),
            })
            .collect())
    }

    #[test]
    fn advertised_addresses_become_names_once_each() {
        let names = texts(&["n1.example.com:7600", "n1.example.com:7601", "10.0.0.1:7601", "[fd00::1]:7601"]).unwrap();
        assert_eq!(names, ["n1.example.com", "10.0.0.1", "fd00::1"]);
    }

    #[test]
    fn a_node_on_the_loopback_interface_has_all_its_names() {
        for address in ["127.0.0.1:7600", "localhost:7600", "[::1]:7600"] {
            let mut names = texts(&[address]).unwrap();
            names.sort();
            assert_eq!(names, ["127.0.0.1", "::1", "localhost"]);
        }
    }

    #[test]
    fn addresses_that_name_no_node_are_refused() {
        for bad in
            ["", "n1", "n1:", "n1:x", "n1:70000", ":7600", "*.example.com:7600", "0.0.0.0:7600", "[::]:7600", "a b:1"]
        {
            assert!(matches!(texts(&[bad]), Err(PkiError::Address(_))), "{bad}");
        }
    }
}
