//! Whether evidence is to be believed: each statement is signed by a node of the cluster, and all tell of the same.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use quorate_core::evidence::{DestructionStatement, Listed};
use quorate_core::id::Name;
use quorate_core::principal::{Principal, Role};
use quorate_core::record::Unreadable;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use webpki::KeyUsage;

use super::{Evidence, Piece};
use crate::tls::{CaKind, ChainError, Trust, unix_time};

/// Why evidence is not to be believed. Statements are counted from 1, in the order in which the file has them.
#[derive(Debug, Error)]
pub enum Flaw {
    /// The file is none, or was cut.
    #[error("it holds no evidence: {0}")]
    NoEvidence(String),
    /// A statement that is none, or was changed.
    #[error("statement {place} can't be read: {why}")]
    Unreadable {
        /// Which.
        place: usize,
        /// What is wrong.
        why: Unreadable,
    },
    /// No certificate of this cluster stands behind it.
    #[error("statement {place}, of {by}: {why}")]
    Chain {
        /// Which.
        place: usize,
        /// Who is said to have made it.
        by: Name,
        /// What is wrong.
        why: ChainError,
    },
    /// The certificate is somebody else's.
    #[error("statement {place} is said to be {by}'s, and comes with the certificate of {holder}")]
    OtherNode {
        /// Which.
        place: usize,
        /// Who is said to have made it.
        by: Name,
        /// Whose certificate it is.
        holder: Principal,
    },
    /// The certificate is not the one that the statement names.
    #[error("statement {place}, of {by}, names another certificate than the one it comes with")]
    OtherCertificate {
        /// Which.
        place: usize,
        /// Who is said to have made it.
        by: Name,
    },
    /// It was changed, or somebody else signed it.
    #[error("statement {place}, of {by}, is not what that node signed: it, or its signature, was changed")]
    Signature {
        /// Which.
        place: usize,
        /// Who is said to have made it.
        by: Name,
    },
    /// It tells of something else than the first.
    #[error("statement {place}, of {by}, is of another {what} than the first")]
    Differs {
        /// Which.
        place: usize,
        /// Who made it.
        by: Name,
        /// Cluster, key, version; or a later step of the same.
        what: &'static str,
    },
    /// A node speaks once.
    #[error("statement {place} is the second of {by}")]
    Twice {
        /// Which.
        place: usize,
        /// Who made both.
        by: Name,
    },
}

/// What a member said, and it was that member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// What.
    pub statement: DestructionStatement,
    /// Whether its certificate had expired by then, which does not keep a member from being one.
    pub expired: bool,
}

/// Evidence that is to be believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// What each member said; at least one. All tell of the same destruction.
    pub said: Vec<Said>,
    /// Members, by what these knew, of which there is no statement.
    pub missing: Vec<Listed>,
}

impl Verified {
    /// What all of them tell.
    pub fn told(&self) -> &DestructionStatement {
        &self.said[0].statement
    }
}

impl Evidence {
    /// Believes it, or not, by the cluster's root certificate (PEM).
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub fn verify(&self, root_pem: &[u8]) -> Result<Verified, Flaw> {
        let mut said: Vec<Said> = Vec::with_capacity(self.pieces.len());
        for (piece, place) in self.pieces.iter().zip(1..) {
            let one = piece.verify(root_pem, place)?;
            if let Some(first) = said.first() {
                agree(&first.statement, &one.statement, place)?;
            }
            let by = &one.statement.name;
            if said.iter().any(|other| other.statement.node == one.statement.node || other.statement.name == *by) {
                return Err(Flaw::Twice { place, by: by.clone() });
            }
            said.push(one);
        }
        // Whoever knows most knows all members.
        let newest = said.iter().map(|said| &said.statement).max_by_key(|statement| statement.applied);
        let listed = newest.map(|statement| statement.members.clone()).unwrap_or_default();
        let is_silent = |member: &Listed| !said.iter().any(|said| said.statement.node == member.id);
        let missing = listed.into_iter().filter(is_silent).collect();
        match said.is_empty() {
            true => Err(Flaw::NoEvidence("there is no statement in it".into())),
            false => Ok(Verified { said, missing }),
        }
    }
}

impl Piece {
    fn verify(&self, root_pem: &[u8], place: usize) -> Result<Said, Flaw> {
        let statement = DestructionStatement::decode(&self.statement);
        let statement = statement.map_err(|why| Flaw::Unreadable { place, why })?;
        let by = statement.name.clone();
        let chain = |why| Flaw::Chain { place, by: by.clone(), why };
        let certificates: Vec<_> = self.certificates.iter().map(|der| CertificateDer::from(&der[..])).collect();
        let Some((leaf, intermediates)) = certificates.split_first() else {
            return Err(chain(ChainError::Identity("there is none".into())));
        };
        let trust = Trust::new(root_pem, statement.cluster).map_err(chain)?;
        // As it was when the statement was made: evidence outlives certificates.
        let (usage, then) = (KeyUsage::server_auth(), unix_time(statement.stated_ms));
        let holder = trust.verify(leaf, intermediates, CaKind::Node, usage, then, true).map_err(chain)?;
        if holder.principal.role() != Role::Node || holder.principal.name != by {
            return Err(Flaw::OtherNode { place, by, holder: holder.principal });
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        if hash.as_ref() != statement.certificate {
            return Err(Flaw::OtherCertificate { place, by });
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &holder.spki);
        match key.verify(&DestructionStatement::signed(&self.statement), &self.signature) {
            Ok(()) => Ok(Said { statement, expired: holder.expired }),
            Err(_) => Err(Flaw::Signature { place, by }),
        }
    }
}

/// Whether both tell of the same destruction, and of all of it that there was.
fn agree(first: &DestructionStatement, other: &DestructionStatement, place: usize) -> Result<(), Flaw> {
    let (one, two) = (&first.destruction, &other.destruction);
    let differs = |what| Err(Flaw::Differs { place, by: other.name.clone(), what });
    match () {
        () if (first.cluster, first.lineage, first.group) != (other.cluster, other.lineage, other.group) => {
            differs("cluster")
        }
        () if one.key != two.key => differs("key"),
        () if one.version != two.version => differs("version of the key"),
        () if first.destroyed_at != other.destroyed_at || one != two => differs("destruction, or step of it,"),
        () => Ok(()),
    }
}
