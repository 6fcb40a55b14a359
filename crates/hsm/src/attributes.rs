//! Templates of the node's keys, and the proof that a key in a token is what the template asked for
//! (key-hierarchy §4.2).

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use quorate_crypto::HsmAlg;
use yasna::models::ObjectIdentifier;

use crate::HsmError;
use crate::error::Failure;

/// The one thing a private key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Decrypt,
    Derive,
    Sign,
}

impl Usage {
    pub(crate) fn of_kem(alg: HsmAlg) -> Self {
        match alg {
            HsmAlg::P256Ecdh => Self::Derive,
            HsmAlg::Rsa3072OaepSha256 | HsmAlg::Rsa3072OaepSha1 => Self::Decrypt,
        }
    }

    pub(crate) fn key_type(self) -> KeyType {
        match self {
            Self::Decrypt => KeyType::RSA,
            Self::Derive | Self::Sign => KeyType::EC,
        }
    }
}

/// CKA_EC_PARAMS of P-256: the named curve's OID.
pub(crate) fn p256_params() -> Vec<u8> {
    yasna::construct_der(|w| w.write_oid(&ObjectIdentifier::from_slice(&[1, 2, 840, 10045, 3, 1, 7])))
}

/// Template of a private key. `persistent` keys stay in the token; others vanish with the session (probes).
pub(crate) fn private_template(label: &str, usage: Usage, persistent: bool) -> Vec<Attribute> {
    vec![
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Token(persistent),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(usage == Usage::Decrypt),
        Attribute::Derive(usage == Usage::Derive),
        Attribute::Sign(usage == Usage::Sign),
        Attribute::SignRecover(false),
        Attribute::Unwrap(false),
    ]
}

/// Template of the public half.
pub(crate) fn public_template(label: &str, usage: Usage, persistent: bool, rsa_bits: u64) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Token(persistent),
        Attribute::Private(false),
        Attribute::Encrypt(usage == Usage::Decrypt),
        Attribute::Verify(usage == Usage::Sign),
        Attribute::Wrap(false),
    ];
    match usage {
        Usage::Decrypt => {
            template.push(Attribute::ModulusBits(rsa_bits.into()));
            template.push(Attribute::PublicExponent(vec![1, 0, 1]));
        }
        Usage::Derive => {
            template.push(Attribute::Derive(true));
            template.push(Attribute::EcParams(p256_params()));
        }
        Usage::Sign => template.push(Attribute::EcParams(p256_params())),
    }
    template
}

/// Refuses a private key that could exist elsewhere, could be taken out, or could be used for something else.
pub(crate) fn check_private(session: &Session, key: ObjectHandle, label: &str, usage: Usage) -> Result<(), Failure> {
    let (yes, no) = (Some(true), Some(false));
    // (attribute, its name, the value it must have, whether a token may leave it out)
    let demands = [
        (AttributeType::Token, "CKA_TOKEN", yes, false),
        (AttributeType::Private, "CKA_PRIVATE", yes, false),
        (AttributeType::Sensitive, "CKA_SENSITIVE", yes, false),
        (AttributeType::Extractable, "CKA_EXTRACTABLE", no, false),
        (AttributeType::Local, "CKA_LOCAL", yes, false),
        (AttributeType::AlwaysSensitive, "CKA_ALWAYS_SENSITIVE", yes, false),
        (AttributeType::NeverExtractable, "CKA_NEVER_EXTRACTABLE", yes, false),
        (AttributeType::Decrypt, "CKA_DECRYPT", Some(usage == Usage::Decrypt), usage != Usage::Decrypt),
        (AttributeType::Derive, "CKA_DERIVE", Some(usage == Usage::Derive), usage != Usage::Derive),
        (AttributeType::Sign, "CKA_SIGN", Some(usage == Usage::Sign), usage != Usage::Sign),
        (AttributeType::Unwrap, "CKA_UNWRAP", no, true),
        (AttributeType::SignRecover, "CKA_SIGN_RECOVER", no, true),
    ];
    let types: Vec<AttributeType> = demands.iter().map(|d| d.0).collect();
    let values = session.get_attributes(key, &types)?;
    for (kind, name, expected, optional) in demands {
        let found = values.iter().find(|v| v.attribute_type() == kind).and_then(as_bool);
        if found == expected || (found.is_none() && optional) {
            continue;
        }
        let word = |b: Option<bool>| match b {
            Some(true) => "true",
            Some(false) => "false",
            None => "no value",
        };
        return Err(HsmError::AttributeWrong {
            label: label.to_owned(),
            attribute: name,
            expected: word(expected),
            found: word(found).to_owned(),
        }
        .into());
    }
    match session.get_attributes(key, &[AttributeType::KeyType])?.first() {
        Some(Attribute::KeyType(t)) if *t == usage.key_type() => Ok(()),
        other => Err(HsmError::AttributeWrong {
            label: label.to_owned(),
            attribute: "CKA_KEY_TYPE",
            expected: if usage == Usage::Decrypt { "CKK_RSA" } else { "CKK_EC" },
            found: format!("{other:?}"),
        }
        .into()),
    }
}

fn as_bool(a: &Attribute) -> Option<bool> {
    match a {
        Attribute::Token(b)
        | Attribute::Private(b)
        | Attribute::Sensitive(b)
        | Attribute::Extractable(b)
        | Attribute::Local(b)
        | Attribute::AlwaysSensitive(b)
        | Attribute::NeverExtractable(b)
        | Attribute::Decrypt(b)
        | Attribute::Derive(b)
        | Attribute::Sign(b)
        | Attribute::Unwrap(b)
        | Attribute::SignRecover(b) => Some(*b),
        _ => None,
    }
}

/// Search template for objects of a class and label that live in the token.
pub(crate) fn search(class: ObjectClass, label: &str) -> Vec<Attribute> {
    vec![Attribute::Class(class), Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec())]
}
