//! The file: JSON, with the very bytes that were signed. Nothing in it is said twice, so that nothing can be said otherwise beside
//! what is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_client::v1::DestructionResponse;
use quorate_core::evidence::STATEMENT_LEN_MAX;
use serde::{Deserialize, Serialize};

use super::Flaw;

/// What the file says to be.
const FORMAT: &str = "quorate-evidence-1";
/// Longest file, in bytes: a statement of each of 256 members, and their certificates.
pub const FILE_LEN_MAX: usize = 256 * 2 * STATEMENT_LEN_MAX;

/// Statements of one thing by several members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// Those.
    pub pieces: Vec<Piece>,
}

/// One statement, as a member gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Its canonical bytes.
    pub statement: Vec<u8>,
    /// Of those.
    pub signature: Vec<u8>,
    /// The member's certificate, then its CA's (DER).
    pub certificates: Vec<Vec<u8>>,
}

impl From<DestructionResponse> for Piece {
    fn from(answer: DestructionResponse) -> Self {
        let certificates = answer.certificates.iter().map(|certificate| certificate.to_vec()).collect();
        Self { statement: answer.statement.into(), signature: answer.signature.into(), certificates }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    statements: Vec<WrittenPiece>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPiece {
    statement: String,
    signature: String,
    certificates: Vec<String>,
}

impl Evidence {
    /// As the file holds it.
    pub fn to_json(&self) -> serde_json::Value {
        let piece = |Piece { statement, signature, certificates }: &Piece| WrittenPiece {
            statement: STANDARD.encode(statement),
            signature: STANDARD.encode(signature),
            certificates: certificates.iter().map(|certificate| STANDARD.encode(certificate)).collect(),
        };
        let statements = self.pieces.iter().map(piece).collect();
        serde_json::json!(Written { format: FORMAT.into(), statements })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Flaw::NoEvidence`], with what it has not.
    pub fn read(bytes: &[u8]) -> Result<Self, Flaw> {
        let written: Written = serde_json::from_slice(bytes).map_err(|e| Flaw::NoEvidence(e.to_string()))?;
        if written.format != FORMAT {
            let why = format!("its format is {:?}, and this quorate reads {FORMAT:?}", written.format);
            return Err(Flaw::NoEvidence(why));
        }
        let binary = |what: &str, text: &str| {
            STANDARD.decode(text).map_err(|e| Flaw::NoEvidence(format!("a {what} in it is not base64: {e}")))
        };
        let piece = |piece: &WrittenPiece| {
            Ok(Piece {
                statement: binary("statement", &piece.statement)?,
                signature: binary("signature", &piece.signature)?,
                certificates: piece
                    .certificates
                    .iter()
                    .map(|certificate| binary("certificate", certificate))
                    .collect::<Result<_, _>>()?,
            })
        };
        let pieces: Vec<_> = written.statements.iter().map(piece).collect::<Result<_, Flaw>>()?;
        if pieces.is_empty() {
            return Err(Flaw::NoEvidence("there is no statement in it".into()));
        }
        Ok(Self { pieces })
    }
}
