//! What the token tests share.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests edit the token's files on purpose")]

use std::path::PathBuf;
use std::sync::OnceLock;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::TokenInfo;
use cryptoki::types::AuthPin;
use quorate_core::id::Name;
use quorate_core::seam::Entropy;
use quorate_hsm::soft_token::SoftToken;
use quorate_hsm::{Hsm, KeyId};
use tempfile::TempDir;

pub const PIN: &str = "123456";

pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the generator works");
    }
}

pub fn name(s: &str) -> Name {
    s.parse().expect("a name")
}

/// A new token, and this process's environment set for it.
pub fn fresh(label: &str) -> (TempDir, SoftToken) {
    let dir = tempfile::tempdir().expect("temp dir");
    let token = SoftToken::create(dir.path(), label, PIN).expect("SoftHSM2 is installed");
    token.danger_set_test_environment();
    (dir, token)
}

/// Another token of the SoftHSM that this process has already.
pub fn in_shared_environment(label: &str) -> (&'static TempDir, SoftToken) {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().expect("temp dir");
        // Every token before the first use: the module reads its folder when it starts.
        for label in ["ec", "rsa"] {
            SoftToken::create(dir.path(), label, PIN).expect("SoftHSM2 is installed").danger_set_test_environment();
        }
        dir
    });
    (dir, SoftToken { dir: dir.path().to_owned(), label: label.to_owned(), pin: PIN.to_owned() })
}

pub fn open(token: &SoftToken) -> Hsm {
    Hsm::open(&token.config().expect("installed"), token.pin()).expect("opens")
}

/// The token without quorate: an operator's, or an attacker's, own tool.
pub struct Raw {
    pub session: Session,
    pub pkcs11: Pkcs11,
}

impl Raw {
    pub fn open(token: &SoftToken) -> Self {
        Self::connect(token, true)
    }

    pub fn open_without_login(token: &SoftToken) -> Self {
        Self::connect(token, false)
    }

    fn connect(token: &SoftToken, login: bool) -> Self {
        let pkcs11 = Pkcs11::new(SoftToken::module().expect("installed")).expect("loads");
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(e) => panic!("{e}"),
        }
        let slots = pkcs11.get_slots_with_token().expect("slots");
        let slot = slots
            .into_iter()
            .find(|s| pkcs11.get_token_info(*s).is_ok_and(|i| i.label() == token.label))
            .expect("the token is there");
        let session = pkcs11.open_rw_session(slot).expect("session");
        if !login {
            return Self { session, pkcs11 };
        }
        match session.login(UserType::User, Some(&AuthPin::from(token.pin.as_str()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(e) => panic!("{e}"),
        }
        Self { session, pkcs11 }
    }

    fn one(&self, class: ObjectClass, label: &str) -> ObjectHandle {
        let template = [Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())];
        let found = self.session.find_objects(&template).expect("search");
        assert_eq!(found.len(), 1, "{label}");
        found[0]
    }

    pub fn private(&self, label: &str) -> ObjectHandle {
        self.one(ObjectClass::PRIVATE_KEY, label)
    }

    pub fn public(&self, label: &str) -> ObjectHandle {
        self.one(ObjectClass::PUBLIC_KEY, label)
    }

    pub fn count(&self, label: &str) -> usize {
        self.session.find_objects(&[Attribute::Label(label.as_bytes().to_vec())]).expect("search").len()
    }

    /// A P-256 pair with the right id; returns its SPKI.
    pub fn ec_pair(&self, label: &str, usage: AttributeType, extractable: bool) -> Vec<u8> {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
        const P256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let (sign, derive) = (usage == AttributeType::Sign, usage == AttributeType::Derive);
        let label = Attribute::Label(label.as_bytes().to_vec());
        let (public, private) = self
            .session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &[label.clone(), Attribute::Token(true), Attribute::Private(false), Attribute::EcParams(P256.to_vec())],
                &[
                    label,
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(extractable),
                    Attribute::Sign(sign),
                    Attribute::Derive(derive),
                    Attribute::Decrypt(false),
                    Attribute::Unwrap(false),
                    Attribute::SignRecover(false),
                ],
            )
            .expect("made");
        let Some(Attribute::EcPoint(point)) =
            self.session.get_attributes(public, &[AttributeType::EcPoint]).expect("read").pop()
        else {
            panic!("no point")
        };
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point[2..]).expect("a point");
        let spki: PublicKeyX509Der<'_> = key.as_der().expect("encoded");
        let id = [Attribute::Id(KeyId::of(spki.as_ref()).0.to_vec())];
        self.session.update_attributes(public, &id).expect("set");
        self.session.update_attributes(private, &id).expect("set");
        spki.as_ref().to_vec()
    }
}

/// The token's object files.
pub fn object_files(token: &SoftToken) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(token.tokens()).expect("tokens").flatten() {
        for file in std::fs::read_dir(folder.path()).expect("token").flatten() {
            let path = file.path();
            if path.extension().is_some_and(|e| e == "object") && path.file_stem().is_some_and(|s| s != "token") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Runs `make`, and tells which object files are new after it.
pub fn new_objects<T>(token: &SoftToken, make: impl FnOnce() -> T) -> (T, Vec<PathBuf>) {
    let before = object_files(token);
    let made = make();
    (made, object_files(token).into_iter().filter(|f| !before.contains(f)).collect())
}

/// What the token says of itself now.
pub fn token_info(raw: &Raw, label: &str) -> TokenInfo {
    let slots = raw.pkcs11.get_slots_with_token().expect("slots");
    slots
        .into_iter()
        .filter_map(|s| raw.pkcs11.get_token_info(s).ok())
        .find(|i| i.label() == label)
        .expect("the token is there")
}
