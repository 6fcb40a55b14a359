//! What aws-lc has and aws-lc-rs does not offer: key wrap under 192 bits, Ed25519ph, ML-DSA with a context or of mu, ML-KEM
//! keys from their seed. The only calls into the C library; its version is the one that aws-lc-rs is built on (two can't be
//! linked), so that what is reached here is what was tested there.

#![expect(unsafe_code, reason = "a foreign interface")]

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use aws_lc_sys as lc;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// An ML-DSA signature's mu is SHAKE256's output of 64 bytes (FIPS 204).
pub(super) const MU_LEN: usize = 64;

/// How a key is wrapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyWrap {
    /// RFC 3394.
    Exact,
    /// RFC 5649.
    Padded,
}

/// An expanded AES key, wiped when dropped.
struct AesSchedule(MaybeUninit<lc::AES_KEY>);

impl AesSchedule {
    /// For one direction, which `set` is for. `None` = no AES key of that length.
    fn new(
        kek: &[u8],
        set: unsafe extern "C" fn(*const u8, std::ffi::c_uint, *mut lc::AES_KEY) -> std::ffi::c_int,
    ) -> Option<Self> {
        let mut schedule = Self(MaybeUninit::zeroed());
        let bits = u32::try_from(kek.len() * 8).ok()?;
        // SAFETY: reads `bits` of `kek`, writes one AES_KEY.
        (unsafe { set(kek.as_ptr(), bits, schedule.0.as_mut_ptr()) } == 0).then_some(schedule)
    }
}

impl Drop for AesSchedule {
    fn drop(&mut self) {
        // SAFETY: these bytes are self's.
        unsafe { lc::OPENSSL_cleanse(self.0.as_mut_ptr().cast(), size_of::<lc::AES_KEY>()) }
    }
}

/// Wraps `key` under an AES key. `None` = not of a length that can be wrapped so.
pub(super) fn wrap_key(by: KeyWrap, kek: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let schedule = AesSchedule::new(kek, lc::AES_set_encrypt_key)?;
    let schedule = schedule.0.as_ptr();
    // Wrapping adds at most a block of 8 bytes and the padding.
    let mut out = vec![0; key.len() + 16];
    let (to, from) = (out.as_mut_ptr(), key.as_ptr());
    let len = match by {
        // SAFETY: reads `key`, writes 8 bytes more than it has; no IV = that of the RFC.
        KeyWrap::Exact => {
            usize::try_from(unsafe { lc::AES_wrap_key(schedule, ptr::null(), to, from, key.len()) }).ok()?
        }
        KeyWrap::Padded => {
            let (mut len, max) = (0, out.len());
            // SAFETY: reads `key`, writes at most `max` bytes and says how many.
            let done = unsafe { lc::AES_wrap_key_padded(schedule, to, &raw mut len, max, from, key.len()) };
            (done == 1).then_some(len)?
        }
    };
    out.truncate(len);
    Some(out)
}

/// Unwraps what [`wrap_key`] made; `None` = it is not that, for whatever reason.
pub(super) fn unwrap_key(by: KeyWrap, kek: &[u8], wrapped: &[u8]) -> Option<SecretBytes> {
    let schedule = AesSchedule::new(kek, lc::AES_set_decrypt_key)?;
    let schedule = schedule.0.as_ptr();
    let mut out = Zeroizing::new(vec![0; wrapped.len()]);
    let (to, from) = (out.as_mut_ptr(), wrapped.as_ptr());
    let len = match by {
        // SAFETY: reads `wrapped`, writes 8 bytes fewer; no IV = that of the RFC.
        KeyWrap::Exact => {
            usize::try_from(unsafe { lc::AES_unwrap_key(schedule, ptr::null(), to, from, wrapped.len()) }).ok()?
        }
        KeyWrap::Padded => {
            let (mut len, max) = (0, out.len());
            // SAFETY: reads `wrapped`, writes at most `max` bytes and says how many.
            let done = unsafe { lc::AES_unwrap_key_padded(schedule, to, &raw mut len, max, from, wrapped.len()) };
            (done == 1).then_some(len)?
        }
    };
    out.truncate(len);
    Some(out)
}

/// Signs a SHA-512 digest by Ed25519ph; `key` = seed ‖ public key. `None` = the context is longer than 255 bytes.
pub(super) fn ed25519ph_sign(key: &[u8; 64], digest: &[u8; 64], context: &[u8]) -> Option<[u8; 64]> {
    let mut signature = [0; 64];
    let (to, digest, key) = (signature.as_mut_ptr(), digest.as_ptr(), key.as_ptr());
    // SAFETY: all have the lengths that the function's prototype gives.
    let done = unsafe { lc::ED25519ph_sign_digest(to, digest, key, context.as_ptr(), context.len()) };
    (done == 1).then_some(signature)
}

/// Whether that is such a signature.
pub(super) fn ed25519ph_verify(public: &[u8; 32], digest: &[u8; 64], signature: &[u8; 64], context: &[u8]) -> bool {
    let (digest, signature, public) = (digest.as_ptr(), signature.as_ptr(), public.as_ptr());
    // SAFETY: all have the lengths that the function's prototype gives.
    unsafe { lc::ED25519ph_verify_digest(digest, signature, public, context.as_ptr(), context.len()) == 1 }
}

/// A key of the library; it wipes what is secret when it frees it.
struct Pkey(NonNull<lc::EVP_PKEY>);

// SAFETY: the library counts references atomically, and an EVP_PKEY may be used by many threads at once as long as nobody
// changes it (evp.h); nothing here does.
unsafe impl Send for Pkey {}
// SAFETY: as above.
unsafe impl Sync for Pkey {}

impl Drop for Pkey {
    fn drop(&mut self) {
        // SAFETY: self owns one reference.
        unsafe { lc::EVP_PKEY_free(self.0.as_ptr()) }
    }
}

impl Pkey {
    /// What `get` writes, asked first how long it is.
    fn raw(
        &self,
        get: unsafe extern "C" fn(*const lc::EVP_PKEY, *mut u8, *mut usize) -> std::ffi::c_int,
    ) -> Option<SecretBytes> {
        let mut len = 0;
        // SAFETY: without a buffer only the length is written.
        if unsafe { get(self.0.as_ptr(), ptr::null_mut(), &raw mut len) } != 1 {
            return None;
        }
        let mut out = Zeroizing::new(vec![0; len]);
        // SAFETY: writes at most `len` bytes and says how many.
        let done = unsafe { get(self.0.as_ptr(), out.as_mut_ptr(), &raw mut len) };
        out.truncate(len);
        (done == 1).then_some(out)
    }
}

/// An operation's state in the library.
struct MdCtx(NonNull<lc::EVP_MD_CTX>);

impl MdCtx {
    fn new() -> Option<Self> {
        // SAFETY: no arguments; null = no memory.
        NonNull::new(unsafe { lc::EVP_MD_CTX_new() }).map(Self)
    }
}

impl Drop for MdCtx {
    fn drop(&mut self) {
        // SAFETY: self owns it.
        unsafe { lc::EVP_MD_CTX_free(self.0.as_ptr()) }
    }
}

/// An operation's state for one key.
struct PkeyCtx(NonNull<lc::EVP_PKEY_CTX>);

impl PkeyCtx {
    fn new(key: &Pkey) -> Option<Self> {
        // SAFETY: takes a reference of its own to the key.
        NonNull::new(unsafe { lc::EVP_PKEY_CTX_new(key.0.as_ptr(), ptr::null_mut()) }).map(Self)
    }
}

impl Drop for PkeyCtx {
    fn drop(&mut self) {
        // SAFETY: self owns it.
        unsafe { lc::EVP_PKEY_CTX_free(self.0.as_ptr()) }
    }
}

type Init = unsafe extern "C" fn(
    *mut lc::EVP_MD_CTX,
    *mut *mut lc::EVP_PKEY_CTX,
    *const lc::EVP_MD,
    *mut lc::ENGINE,
    *mut lc::EVP_PKEY,
) -> std::ffi::c_int;

/// The parameter sets of ML-DSA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MlDsaSet {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl MlDsaSet {
    fn nid(self) -> i32 {
        match self {
            Self::MlDsa44 => lc::NID_MLDSA44,
            Self::MlDsa65 => lc::NID_MLDSA65,
            Self::MlDsa87 => lc::NID_MLDSA87,
        }
    }
    pub(super) const fn signature_len(self) -> usize {
        match self {
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
        }
    }
}

/// An ML-DSA key: a pair, or its public half.
pub(super) struct MlDsa {
    key: Pkey,
    set: MlDsaSet,
}

impl MlDsa {
    /// The pair that a seed makes.
    pub(super) fn from_seed(set: MlDsaSet, seed: &[u8; 32]) -> Option<Self> {
        // SAFETY: reads the seed.
        let key = unsafe { lc::EVP_PKEY_pqdsa_new_raw_private_key(set.nid(), seed.as_ptr(), seed.len()) };
        Some(Self { key: NonNull::new(key).map(Pkey)?, set })
    }
    /// A public key; `None` = not of its length.
    pub(super) fn from_public(set: MlDsaSet, public: &[u8]) -> Option<Self> {
        // SAFETY: reads `public`.
        let key = unsafe { lc::EVP_PKEY_pqdsa_new_raw_public_key(set.nid(), public.as_ptr(), public.len()) };
        Some(Self { key: NonNull::new(key).map(Pkey)?, set })
    }
    /// The public key, as FIPS 204 encodes it.
    pub(super) fn public(&self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut *self.key.raw(lc::EVP_PKEY_get_raw_public_key)?))
    }
    /// The private key, as FIPS 204 encodes it.
    pub(super) fn expanded(&self) -> Option<SecretBytes> {
        self.key.raw(lc::EVP_PKEY_get_raw_private_key)
    }

    /// A state for the message's operation, under that context (at most 255 bytes).
    fn begin(&self, init: Init, context: &[u8]) -> Option<MdCtx> {
        let (state, mut of_key) = (MdCtx::new()?, ptr::null_mut());
        // SAFETY: takes a reference of its own to the key; `of_key` is `state`'s, and lives as long.
        let begun = unsafe {
            init(state.0.as_ptr(), &raw mut of_key, ptr::null(), ptr::null_mut(), self.key.0.as_ptr()) == 1
                && lc::EVP_PKEY_CTX_set1_signature_context_string(of_key, context.as_ptr(), context.len()) == 1
        };
        begun.then_some(state)
    }
    /// Signs a message.
    pub(super) fn sign(&self, message: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let state = self.begin(lc::EVP_DigestSignInit, context)?;
        let mut signature = vec![0; self.set.signature_len()];
        let mut len = signature.len();
        let (to, message, message_len) = (signature.as_mut_ptr(), message.as_ptr(), message.len());
        // SAFETY: reads the message, writes at most `len` bytes.
        let done = unsafe { lc::EVP_DigestSign(state.0.as_ptr(), to, &raw mut len, message, message_len) };
        (done == 1 && len == signature.len()).then_some(signature)
    }
    /// Signs a message of which the caller made mu.
    pub(super) fn sign_mu(&self, mu: &[u8; MU_LEN]) -> Option<Vec<u8>> {
        let state = PkeyCtx::new(&self.key)?;
        let mut signature = vec![0; self.set.signature_len()];
        let mut len = signature.len();
        // SAFETY: reads mu, writes at most `len` bytes.
        let done = unsafe {
            lc::EVP_PKEY_sign_init(state.0.as_ptr()) == 1
                && lc::EVP_PKEY_sign(state.0.as_ptr(), signature.as_mut_ptr(), &raw mut len, mu.as_ptr(), MU_LEN) == 1
        };
        (done && len == signature.len()).then_some(signature)
    }
    /// Whether that is the signature of a message.
    pub(super) fn verify(&self, message: &[u8], context: &[u8], signature: &[u8]) -> bool {
        let Some(state) = self.begin(lc::EVP_DigestVerifyInit, context) else { return false };
        let (signature, len) = (signature.as_ptr(), signature.len());
        // SAFETY: reads signature and message.
        unsafe { lc::EVP_DigestVerify(state.0.as_ptr(), signature, len, message.as_ptr(), message.len()) == 1 }
    }
    /// Whether that is the signature of a message of which the caller made mu.
    pub(super) fn verify_mu(&self, mu: &[u8; MU_LEN], signature: &[u8]) -> bool {
        let Some(state) = PkeyCtx::new(&self.key) else { return false };
        let (signature, len) = (signature.as_ptr(), signature.len());
        // SAFETY: reads signature and mu.
        unsafe {
            lc::EVP_PKEY_verify_init(state.0.as_ptr()) == 1
                && lc::EVP_PKEY_verify(state.0.as_ptr(), signature, len, mu.as_ptr(), MU_LEN) == 1
        }
    }
}

/// The public key and the expanded private key of an ML-KEM key in PKCS#8, seed form; `None` = it is none.
pub(super) fn ml_kem_expand(pkcs8: &[u8]) -> Option<(Vec<u8>, SecretBytes)> {
    let mut from = MaybeUninit::zeroed();
    // SAFETY: `from` is initialised, and reads `pkcs8`, which outlives it.
    let key = unsafe {
        lc::CBS_init(from.as_mut_ptr(), pkcs8.as_ptr(), pkcs8.len());
        lc::EVP_parse_private_key(from.as_mut_ptr())
    };
    let key = NonNull::new(key).map(Pkey)?;
    let public = std::mem::take(&mut *key.raw(lc::EVP_PKEY_get_raw_public_key)?);
    Some((public, key.raw(lc::EVP_PKEY_get_raw_private_key)?))
}
