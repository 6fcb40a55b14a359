//! What a request consists of, as errors name it.

use thiserror::Error;

macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident: $word:literal, $text:literal;)+) => {
        /// A part of a request, as errors name it: each door has its own word for it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Part {
            $($(#[$doc])* $part,)+
        }

        impl Part {
            /// Every part.
            pub const ALL: &'static [Self] = &[$(Self::$part,)+];

            /// For machines: stable, clients match on it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$part => $word,)+ }
            }
            /// For people.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$part => $text,)+ }
            }
        }
    };
}

parts! {
    /// What the key is called by.
    Key: "key", "the key";
    /// The name of an alias.
    Alias: "alias", "the alias";
    /// The name of an object.
    Name: "name", "the name";
    /// Which namespace.
    Namespace: "namespace", "the namespace";
    /// The value of a secret.
    Value: "value", "the value";
    /// What kind of content a value is.
    ContentType: "content-type", "the content type";
    /// The description.
    Description: "description", "the description";
    /// The tags.
    Tags: "tags", "the tags";
    /// Which version.
    Version: "version", "the version";
    /// A date.
    Date: "date", "the date";
    /// The client token.
    Token: "token", "the token";
    /// How many keys.
    Count: "count", "the number of keys";
    /// How long a deletion waits.
    Window: "window", "the time until the deletion";
    /// How often something is done.
    Period: "period", "the period";
    /// The states asked for.
    State: "state", "the state";
    /// The length of a page.
    PageLen: "page-length", "the length of the page";
    /// Where a page begins.
    PageToken: "page-token", "the page token";
    /// The encryption context, or associated data.
    Context: "context", "the associated data";
    /// The plaintext.
    Plaintext: "plaintext", "the plaintext";
    /// The ciphertext.
    Ciphertext: "ciphertext", "the ciphertext";
    /// What kind of key.
    Spec: "spec", "the key spec";
    /// What a key is for.
    Usage: "usage", "the usage";
    /// By which algorithm.
    Algorithm: "algorithm", "the algorithm";
    /// The bytes of a key that is brought along.
    Material: "material", "the key material";
    /// A public key that is brought along.
    PublicKey: "public-key", "the public key";
    /// Whether a key may be exported.
    Exportable: "exportable", "whether it may be exported";
    /// Where a key's material comes from.
    Origin: "origin", "the origin";
    /// The token of an import.
    ImportToken: "import-token", "the import token";
    /// The backup of a key.
    Backup: "backup", "the backup";
    /// A key that is wrapped.
    WrappedKey: "wrapped-key", "the wrapped key";
    /// What is to be signed or authenticated.
    Input: "input", "the input";
    /// A message's digest.
    Digest: "digest", "the digest";
    /// The signature.
    Signature: "signature", "the signature";
    /// The authentication code.
    Mac: "mac", "the authentication code";
    /// The initialisation vector.
    Iv: "iv", "the IV";
    /// The authentication tag.
    Tag: "tag", "the authentication tag";
    /// The salt.
    Salt: "salt", "the salt";
    /// How many iterations.
    Iterations: "iterations", "the number of iterations";
    /// Somebody who may ask.
    Principal: "principal", "the principal";
    /// What somebody presents.
    Credential: "credential", "the credential";
    /// Why something is revoked.
    Reason: "reason", "the reason";
    /// How many bytes are wanted.
    Len: "length", "the number of bytes";
    /// The whole of it.
    Message: "message", "the request's message";
}

impl Part {
    /// For people, after "is no".
    pub(crate) fn noun(self) -> &'static str {
        self.as_str().trim_start_matches("the ")
    }
    /// What to do when it is too long; empty, or beginning with "; ".
    const fn hint(self) -> &'static str {
        match self {
            Self::Plaintext => "; encrypt larger data under a data key",
            Self::Input => "; sign its digest",
            Self::Value => "; encrypt it under a data key, and keep that as the secret",
            _ => "",
        }
    }
}

/// A part of a request is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    /// It can't be what was meant.
    #[error("{why}")]
    Wrong {
        /// Which part.
        part: Part,
        /// What is wrong, and what is expected.
        why: String,
    },
    /// It is too long.
    #[error("{} is too large: {len} bytes, at most {max} are allowed{}", part.as_str(), part.hint())]
    TooLarge {
        /// Which part.
        part: Part,
        /// Its length, bytes.
        len: usize,
        /// The limit, bytes.
        max: usize,
    },
}

impl InvalidRequest {
    /// That part can't be what was meant: what is wrong, and what is expected.
    pub fn wrong(part: Part, why: impl Into<String>) -> Self {
        Self::Wrong { part, why: why.into() }
    }

    /// The part that is wrong.
    pub fn part(&self) -> Part {
        match self {
            Self::Wrong { part, .. } | Self::TooLarge { part, .. } => *part,
        }
    }
}
