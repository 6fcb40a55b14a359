//! What comes to the desk, and what becomes of it.

#![allow(clippy::disallowed_methods, reason = "a test's own world")]

mod admission;
mod allowance;
mod backup;
mod changes;
mod details;
mod floors;
mod import;
mod keys;
mod kinds;
mod last_use;
mod level;
mod names;
mod namespaces;
mod public;
mod refusals;
mod rekey;
mod rotation_sets;
mod secrets;
mod states;
mod time;
mod told;
pub(crate) mod verbs;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::access::{Access, Want};
use quorate_core::action::Action;
use quorate_core::batch::Batch;
use quorate_core::decide::{Create, CreateMany, NewKind, Rotate, Source};
use quorate_core::id::{GroupId, KeyId};
use quorate_core::key_spec::{KeySpec, Usage};
use quorate_core::level::Level;
use quorate_core::principal::{Principal, Role};
use quorate_core::record::Duty;
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::{DeletionWindow, EncryptionContext, KeyCount, KeyHandle, PageLen, Tags, Token};
use quorate_core::seam::{BootClock, WallClock};
use tokio::time::Instant;

use super::{Kms, Tools, Use, UseFacts};
use crate::error::{Error, Reason};
use crate::seal::support::call;
use crate::testing::desk::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
fn as_role(role: Role) -> Principal {
    Principal::certificate(role, "somebody".parse().unwrap())
}
fn admin() -> Principal {
    as_role(Role::Admin)
}
fn user() -> Principal {
    as_role(Role::User)
}
fn aes() -> NewKind {
    NewKind::new(KeySpec::Aes256, None, None).unwrap()
}
fn wanted(alias: Option<&str>, token: Option<Token>) -> Create {
    Create {
        kind: aes(),
        alias: alias.map(|name| name.parse().unwrap()),
        name: None,
        description: Default::default(),
        tags: Tags::default(),
        activation: None,
        purge_protected: false,
        source: Source::Fresh,
        exportable: Default::default(),
        tracked: true,
        token,
    }
}
fn id(key: KeyId) -> KeyHandle {
    KeyHandle::Id(key)
}
fn named(text: &str) -> KeyHandle {
    text.parse().unwrap()
}
fn aad(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::new(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()).unwrap()
}
fn no_aad() -> EncryptionContext {
    aad(&[])
}
#[track_caller]
fn refused<T>(result: Result<T, Error>, reason: Reason) -> String {
    let error = result.err().expect("refused");
    assert_eq!(error.reason(), reason, "{error}");
    error.to_string()
}

/// A use that does something when it looks at its facts, and asks for a key if it is to.
struct Looking {
    key: Option<KeyHandle>,
    look: Box<dyn Fn() + Send + Sync>,
}
impl Use for Looking {
    type Facts = ();
    type Answer = ();
    fn action(&self) -> Action {
        Action::Encrypt
    }
    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<(), F::Error> {
        (self.look)();
        match &self.key {
            Some(key) => at.usable(key, Want::new(Usage::Encrypt)).map(drop),
            None => at.namespace().map(drop),
        }
    }
    fn act(&self, (): (), _: &Tools) -> Result<(), Error> {
        Ok(())
    }
}

/// A use that answers without having asked for anything.
struct Unasked;
impl Use for Unasked {
    type Facts = ();
    type Answer = ();
    fn action(&self) -> Action {
        Action::Encrypt
    }
    fn gather<F: UseFacts>(&self, _: &mut Access<'_, F>) -> Result<(), F::Error> {
        Ok(())
    }
    fn act(&self, (): (), _: &Tools) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_judged_is_not_answered() {
    let rig = Rig::new().await;
    refused(rig.kms.perform(&call(&admin(), soon()), Unasked).await, Reason::Internal);
}
