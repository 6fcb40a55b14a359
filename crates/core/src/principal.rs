//! Who asks: namespace, kind and name (key-model §7.1). A certificate carries role and name in its URI SAN,
//! `quorate://C/ROLE/NAME` (design §6).
//!
//! Reading the certificate and checking its chain is the door's; what a principal may do is judged in [`crate::access`], and in
//! [`crate::authorize`] where no record is needed.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{ClusterId, Name, Namespace, quoted};

/// What a certificate entitles its holder to, by a fixed rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Everything, key use included.
    Admin,
    /// Use, describe and list keys.
    User,
    /// Status, and shares of the unseal key.
    Custodian,
    /// Status and audit.
    Auditor,
    /// A node of the cluster, on the peer port; it may call nothing on the API port.
    Node,
}

impl Role {
    /// Every role, in the order help texts show them.
    pub const ALL: [Self; 5] = [Self::Admin, Self::User, Self::Custodian, Self::Auditor, Self::Node];

    /// The word in the URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Custodian => "custodian",
            Self::Auditor => "auditor",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidPrincipal;
    fn from_str(s: &str) -> Result<Self, InvalidPrincipal> {
        Self::ALL.into_iter().find(|role| role.as_str() == s).ok_or_else(|| InvalidPrincipal::Role(s.to_owned()))
    }
}

/// Why a URI names no principal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidPrincipal {
    /// Not of the form at all.
    #[error("not a quorate identity: {}; expected quorate://CLUSTER/ROLE/NAME", quoted(.0))]
    Form(String),
    /// The cluster part is no UUID.
    #[error("{0}, as the cluster of quorate://CLUSTER/ROLE/NAME")]
    Cluster(crate::id::InvalidId),
    /// No such role.
    #[error("unknown role {}; the roles are admin, user, custodian, auditor and node", quoted(.0))]
    Role(String),
    /// The name part is no name.
    #[error("{0}")]
    Name(crate::id::InvalidId),
}

/// What kind of principal it is: of two kinds that have the same name, each is somebody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PrincipalKind {
    /// The holder of a certificate of the cluster, with that role.
    Certificate(Role),
}

impl PrincipalKind {
    /// Its number in records, which never changes.
    const fn code(self) -> u8 {
        let Self::Certificate(role) = self;
        match role {
            Role::Admin => 1,
            Role::User => 2,
            Role::Custodian => 3,
            Role::Auditor => 4,
            Role::Node => 5,
        }
    }
}

/// Somebody who may ask for something: one value from the wire to the data.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Principal {
    /// Whose it is.
    pub namespace: Namespace,
    /// Of what kind.
    pub kind: PrincipalKind,
    /// What it is called among those.
    pub name: Name,
}

impl Principal {
    /// What every such URI begins with.
    pub const SCHEME: &'static str = "quorate://";

    /// The holder of a certificate: those stand above the tenants, in the first namespace.
    pub fn certificate(role: Role, name: Name) -> Self {
        Self { namespace: Namespace::FIRST, kind: PrincipalKind::Certificate(role), name }
    }

    /// The role that a certificate entitles to.
    pub fn role(&self) -> Role {
        let PrincipalKind::Certificate(role) = self.kind;
        role
    }

    /// Canonical bytes, which tell it from every other: `namespace u32 ‖ kind u8 ‖ name field`.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().u32(self.namespace.0).u8(self.kind.code()).field(self.name.as_str().as_bytes()).finish()
    }

    /// Reads canonical bytes; `None` = of a kind that this version does not know.
    ///
    /// # Errors
    /// When they are not canonical.
    pub fn read(from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let (namespace, kind) = (Namespace(from.u32()?), from.u8()?);
        let name = from.text(Name::LEN_MAX)?.parse().map_err(|_| Malformed("name of a principal"))?;
        let known = Role::ALL.map(PrincipalKind::Certificate).into_iter().find(|known| known.code() == kind);
        Ok(known.map(|kind| Self { namespace, kind, name }))
    }

    /// Reads `quorate://C/ROLE/NAME`; exact and case-sensitive, no escapes, no trailing parts.
    ///
    /// # Errors
    /// When any part is not what it should be; the caller compares the cluster with its own.
    pub fn parse_uri(uri: &str) -> Result<(ClusterId, Self), InvalidPrincipal> {
        let form = || InvalidPrincipal::Form(uri.chars().take(200).collect());
        let mut parts = uri.strip_prefix(Self::SCHEME).ok_or_else(form)?.splitn(3, '/');
        let (Some(cluster), Some(role), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form());
        };
        let id: ClusterId = cluster.parse().map_err(InvalidPrincipal::Cluster)?;
        if id.to_string() != cluster {
            return Err(form());
        }
        let name = name.parse().map_err(InvalidPrincipal::Name)?;
        Ok((id, Self::certificate(role.parse()?, name)))
    }

    /// The URI for a certificate of cluster `cluster`.
    pub fn uri(&self, cluster: ClusterId) -> String {
        format!("{}{cluster}/{}/{}", Self::SCHEME, self.role(), self.name)
    }
}

impl FromStr for Principal {
    type Err = InvalidPrincipal;
    /// As it is shown: `role/name`.
    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        let (role, name) =
            text.split_once('/').ok_or_else(|| InvalidPrincipal::Form(text.chars().take(200).collect()))?;
        Ok(Self::certificate(role.parse()?, name.parse().map_err(InvalidPrincipal::Name)?))
    }
}

impl fmt::Display for Principal {
    /// `role/name`, as shown to people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = "6f1c1c9e-0f6a-4a8e-9d2c-0123456789ab";

    #[test]
    fn a_uri_reads_back_as_it_was_written() {
        for role in Role::ALL {
            let principal = Principal::certificate(role, "team/web-1".parse().unwrap());
            let uri = principal.uri(C.parse().unwrap());
            assert_eq!(uri, format!("quorate://{C}/{role}/team/web-1"));
            assert_eq!(Principal::parse_uri(&uri).unwrap(), (C.parse().unwrap(), principal));
        }
    }

    #[test]
    fn anything_else_is_refused_and_says_which_part() {
        use InvalidPrincipal as E;
        let refused = |uri: &str| Principal::parse_uri(uri).unwrap_err();
        assert!(matches!(refused(""), E::Form(_)));
        assert!(matches!(refused("https://example.org"), E::Form(_)));
        assert!(matches!(refused(&format!("quorate://{C}")), E::Form(_)));
        assert!(matches!(refused(&format!("quorate://{C}/admin")), E::Form(_)));
        assert!(matches!(refused(&format!("QUORATE://{C}/admin/a")), E::Form(_)));
        assert!(matches!(refused(&format!("quorate://{}/admin/a", C.to_uppercase())), E::Form(_)));
        assert!(matches!(refused("quorate://x/admin/a"), E::Cluster(_)));
        assert!(matches!(refused(&format!("quorate://{C}/root/a")), E::Role(_)));
        assert!(matches!(refused(&format!("quorate://{C}/Admin/a")), E::Role(_)));
        assert!(matches!(refused(&format!("quorate://{C}/admin/")), E::Name(_)));
        assert!(matches!(refused(&format!("quorate://{C}/admin/a%20b")), E::Name(_)));
    }
}
