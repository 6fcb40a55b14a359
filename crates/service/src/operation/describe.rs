//! Describe a key, and its versions.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::Kind;
use quorate_core::request::{KeyHandle, PageLen};
use quorate_core::views::{KeyView, VersionView};

use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Tells what is known of `key`, its material apart.
///
/// Refused: the key is not found.
pub struct Describe {
    /// The key.
    pub key: KeyHandle,
}

impl Use for Describe {
    type Facts = KeyView;
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Describe
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<KeyView, F::Error> {
        let key = at.object(&self.key)?;
        let (head, mut view) = (at.head(&key, key.current)?, KeyView::from(&*key));
        view.description = at.description(&key)?;
        view.seen(head.as_deref(), at.time());
        if key.spec.kind() == Kind::Symmetric
            && let Some(head) = &head
        {
            view.gcm_uses = at.gcm_uses(head)?;
        }
        Ok(view)
    }

    fn act(&self, key: KeyView, _: &Tools) -> Result<KeyView, Error> {
        Ok(key)
    }
}

/// Tells what is known of the versions of `key`, newest first, some at a time.
///
/// Refused: the key is not found.
pub struct ListVersions {
    /// The key.
    pub key: KeyHandle,
    /// At most so many, and never more than [`ListVersions::LEN_MAX`].
    pub len: PageLen,
    /// Only those before this one; none = from the newest on.
    pub before: Option<KeyVersion>,
}

/// Versions of a key.
pub struct Versions {
    /// The key.
    pub key: KeyId,
    /// Its versions, newest first.
    pub versions: Vec<VersionView>,
    /// Whether there are older ones.
    pub more: bool,
}

impl ListVersions {
    /// Most versions at a time: each is read by itself, while others wait.
    pub const LEN_MAX: usize = 100;
}

impl Use for ListVersions {
    type Facts = Versions;
    type Answer = Versions;

    fn action(&self) -> Action {
        Action::ListVersions
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Versions, F::Error> {
        let key = at.object(&self.key)?;
        let below = self.before.map_or(u32::MAX, |before| before.get() - 1);
        let last = key.newest.get().min(below);
        let first = last.saturating_sub(self.len.get().min(Self::LEN_MAX) as u32) + 1;
        let mut versions = Vec::new();
        for number in (first..=last).rev().filter_map(KeyVersion::new) {
            if let Some(head) = at.head(&key, number)? {
                let gcm_uses = at.gcm_uses(&head)?;
                versions.push(VersionView { gcm_uses, ..VersionView::new(&key, &head, at.time()) });
            }
        }
        Ok(Versions { key: key.id, versions, more: first > 1 })
    }

    fn act(&self, versions: Versions, _: &Tools) -> Result<Versions, Error> {
        Ok(versions)
    }
}
