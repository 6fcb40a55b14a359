//! A PKCS#11 module that passes every call on to another one, and breaks those that use the token's keys when it is told to:
//! a token that fails, hangs or computes wrongly, for the harness in `jepsen/`.
//!
//! The environment says which module ([`MODULE`]) and where orders are read ([`ORDERS`]). It knows no key, keeps nothing, and
//! says of each call to which it did something one line in a file ([`order::account`]).
#![allow(clippy::disallowed_methods, reason = "a test module reads its orders from a file")]
#![allow(unsafe_code, reason = "PKCS#11 is a C interface: function pointers and caller's buffers")]
#![allow(non_snake_case, reason = "the standard's names")]

pub mod order;

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use cryptoki_sys::*;

use order::{Order, account};

/// Environment variable: path of the real module.
pub const MODULE: &str = "JEPSEN_FORWARDER_MODULE";
/// Environment variable: path of the file with the order.
pub const ORDERS: &str = "JEPSEN_FORWARDER_ORDERS";

/// How often a hanging call looks whether it may go on.
const LOOK: Duration = Duration::from_millis(20);

struct Forwarder {
    real: CK_FUNCTION_LIST,
    ours: CK_FUNCTION_LIST,
    orders: PathBuf,
    /// Keeps the functions of `real` loaded.
    _module: Pkcs11,
}

static FORWARDER: OnceLock<Option<Forwarder>> = OnceLock::new();

fn forwarder() -> Option<&'static Forwarder> {
    FORWARDER.get_or_init(load).as_ref()
}

fn load() -> Option<Forwarder> {
    let orders = std::env::var_os(ORDERS)?.into();
    // SAFETY: loading a library runs its initialisers; it is the module that the node's configuration would name itself.
    let module = unsafe { Pkcs11::new(std::env::var_os(MODULE)?) }.ok()?;
    let mut list = std::ptr::null_mut();
    // SAFETY: the function fills in a pointer to a list that lives as long as the library, which is never unloaded.
    let real = unsafe { (module.C_GetFunctionList(&mut list) == CKR_OK && !list.is_null()).then(|| *list) }?;
    let ours = CK_FUNCTION_LIST {
        C_GetFunctionList: Some(C_GetFunctionList),
        C_OpenSession: Some(open_session),
        C_GetAttributeValue: Some(get_attribute_value),
        C_SignInit: Some(sign_init),
        C_Sign: Some(sign),
        C_Decrypt: Some(decrypt),
        C_DeriveKey: Some(derive_key),
        C_GenerateRandom: Some(generate_random),
        ..real
    };
    Some(Forwarder { real, ours, orders, _module: module })
}

impl Forwarder {
    fn order(&self) -> Order {
        Order::parse(&std::fs::read_to_string(&self.orders).unwrap_or_default())
    }

    fn note(&self, call: &str, order: Order) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(account(&self.orders));
        // What can't be noted did not happen, as far as the harness knows.
        let _ = file.and_then(|mut file| writeln!(file, "{call} {}", order.words()));
    }
}

/// Passes a call on, or does to it what was ordered. `spoil` makes what the real module returned wrong, and says whether
/// there was anything to spoil.
fn pass<F>(
    call: &str,
    function: fn(&CK_FUNCTION_LIST) -> Option<F>,
    run: impl FnOnce(F) -> CK_RV,
    spoil: impl FnOnce() -> bool,
) -> CK_RV {
    let Some(forwarder) = forwarder() else { return CKR_GENERAL_ERROR };
    let Some(function) = function(&forwarder.real) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let order = forwarder.order();
    match order {
        Order::None => return run(function),
        Order::Wrong => {
            let result = run(function);
            if result == CKR_OK && spoil() {
                forwarder.note(call, order);
            }
            return result;
        }
        _ => forwarder.note(call, order),
    }
    match order {
        Order::DeviceError => return CKR_DEVICE_ERROR,
        Order::SessionInvalid => return CKR_SESSION_HANDLE_INVALID,
        Order::Delay(time) => std::thread::sleep(time),
        _ => {
            while forwarder.order() == Order::Hang {
                std::thread::sleep(LOOK);
            }
        }
    }
    run(function)
}

/// Flips a bit of the last of `len` bytes.
///
/// # Safety
/// `bytes` is null, or valid for `len` bytes.
unsafe fn flip(bytes: *mut CK_BYTE, len: CK_ULONG) -> bool {
    if bytes.is_null() || len == 0 || len == CK_UNAVAILABLE_INFORMATION {
        return false;
    }
    // SAFETY: within the caller's buffer, and not the first call that only asks for the length.
    unsafe { *bytes.add(len as usize - 1) ^= 1 };
    true
}

/// The module's entry, as PKCS#11 defines it.
///
/// # Safety
/// `list` is valid for one pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let Some(forwarder) = forwarder() else { return CKR_GENERAL_ERROR };
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: checked above; the caller only reads through it, as the standard says.
    unsafe { *list = (&raw const forwarder.ours).cast_mut() };
    CKR_OK
}

// Each of these is called with what PKCS#11 asks of the caller, and hands it on as it is.

unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut std::ffi::c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_OpenSession>| unsafe { f(slot, flags, application, notify, session) };
    pass("C_OpenSession", |l| l.C_OpenSession, run, || false)
}

unsafe extern "C" fn get_attribute_value(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_GetAttributeValue>| unsafe { f(session, object, template, count) };
    // Only what a derivation made: a key's public half is in the certificate anyway.
    let spoil = || {
        (0..count as usize).fold(false, |done, place| {
            // SAFETY: `template` holds `count` attributes, and the real module filled them in.
            let attribute = unsafe { &*template.add(place) };
            // SAFETY: the value is valid for its length, or null.
            let hit = attribute.type_ == CKA_VALUE && unsafe { flip(attribute.pValue.cast(), attribute.ulValueLen) };
            hit || done
        })
    };
    pass("C_GetAttributeValue", |l| l.C_GetAttributeValue, run, spoil)
}

unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_SignInit>| unsafe { f(session, mechanism, key) };
    pass("C_SignInit", |l| l.C_SignInit, run, || false)
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_Sign>| unsafe { f(session, data, data_len, signature, signature_len) };
    // SAFETY: the real module wrote so many bytes of the signature.
    let spoil = || unsafe { flip(signature, *signature_len) };
    pass("C_Sign", |l| l.C_Sign, run, spoil)
}

unsafe extern "C" fn decrypt(
    session: CK_SESSION_HANDLE,
    ciphertext: *mut CK_BYTE,
    ciphertext_len: CK_ULONG,
    out: *mut CK_BYTE,
    out_len: *mut CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_Decrypt>| unsafe { f(session, ciphertext, ciphertext_len, out, out_len) };
    // SAFETY: the real module wrote so many bytes of plaintext.
    let spoil = || unsafe { flip(out, *out_len) };
    pass("C_Decrypt", |l| l.C_Decrypt, run, spoil)
}

unsafe extern "C" fn derive_key(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    base: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    key: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_DeriveKey>| unsafe { f(session, mechanism, base, template, count, key) };
    pass("C_DeriveKey", |l| l.C_DeriveKey, run, || false)
}

unsafe extern "C" fn generate_random(session: CK_SESSION_HANDLE, out: *mut CK_BYTE, len: CK_ULONG) -> CK_RV {
    // SAFETY: the caller's arguments, unchanged.
    let run = |f: Real<CK_C_GenerateRandom>| unsafe { f(session, out, len) };
    pass("C_GenerateRandom", |l| l.C_GenerateRandom, run, || false)
}

/// The function behind one of the standard's optional pointers.
type Real<F> = <F as IntoIterator>::Item;
