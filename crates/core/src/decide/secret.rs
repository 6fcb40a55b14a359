//! Set a secret's value, which makes the secret if there is none, else a version; change what is said of it.

use super::create::{birth, fresh, fresh_id};
use super::version::changed;
use super::{Change, Decide, Filed, NewDate, Refusal, Retry, Slot, Write, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::codec::Writer;
use crate::facts::Basis;
use crate::id::KeyVersion;
use crate::key_spec::{KeySpec, Mode, Usages};
use crate::lifecycle::{Dates, Row, VersionState};
use crate::name::{Class, FoldedName, Named};
use crate::record::{KeyRecord, KeyVersionRecord, NameRecord, request_hash};
use crate::request::{ContentType, InvalidRequest, KeyHandle, ObjectName, Part, SECRET_LEN_MAX, Tags, Token};
use crate::seam::NewIds;
use crate::time::utc;
use crate::views::{KeyView, SecretView, VersionView};

/// Sets the value of the secret called `name`: the change's first given secret. The answer is the secret, whose current version it
/// is; or, if the same token set it before, as it is now.
///
/// Refused: it waits for its destruction, or is disabled; too many tags; dates that contradict each other;
/// [`Refusal::TokenReused`], [`Refusal::VersionsMax`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetSecret {
    /// Its name.
    pub name: ObjectName,
    /// What kind of content the value is.
    pub content_type: ContentType,
    /// From when it is good, ms since 1970; 0 = none said. It is told, and forbids nothing.
    pub not_before_ms: u64,
    /// Until when, likewise.
    pub expires_ms: u64,
    /// Whether it may be read.
    pub enabled: bool,
    /// Tags for the secret, over those of the same names.
    pub tags: Tags,
    /// Whether nobody can have it destroyed before its day: once said, for ever.
    pub purge_protected: bool,
    /// Tells the value from others to whoever has the keyring, so that the same token with another value is refused. With a token,
    /// the desk puts it in.
    pub value_tag: [u8; 32],
    /// Makes a retry recognisable; without one, a retry makes another version.
    pub token: Option<Token>,
}

impl SetSecret {
    /// Whether a value of so many bytes can be kept: an empty one is none, and mostly somebody's mistake.
    ///
    /// # Errors
    /// [`InvalidRequest`].
    pub fn check(len: usize) -> Result<(), InvalidRequest> {
        match len {
            0 => Err(InvalidRequest::wrong(
                Part::Value,
                format!("the value is empty; a secret has 1 to {SECRET_LEN_MAX} bytes"),
            )),
            1..=SECRET_LEN_MAX => Ok(()),
            len => Err(InvalidRequest::TooLarge { part: Part::Value, len, max: SECRET_LEN_MAX }),
        }
    }

    fn said(&self) -> Vec<u8> {
        let said = Writer::new().field(self.name.folded().as_bytes()).field(self.content_type.as_str().as_bytes());
        let flags = u8::from(self.enabled) | u8::from(self.purge_protected) << 1;
        self.tags.write(said.u64(self.not_before_ms).u64(self.expires_ms).u8(flags)).finish()
    }

    /// The secret, to be made.
    fn made<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<KeyRecord, F::Error> {
        let home = at.acting(Action::Create).home()?;
        let (id, kind) = (fresh_id(at, ids, home.namespace, Class::Secret)?, (KeySpec::Secret, Usages::NONE));
        let birth = birth("set secret", &[&self.said()]);
        let secret = fresh(id, home, kind, birth, at.time());
        // When it was read last nobody could look at, nor switch off.
        Ok(KeyRecord { name: Some(self.name.clone()), tracked: false, ..secret })
    }

    /// The secret that is there, with one version more.
    fn added<F: Basis>(&self, at: &mut Access<'_, F>) -> Result<KeyRecord, F::Error> {
        let handle = KeyHandle::Secret(self.name.clone());
        let before = at.secret(&handle)?;
        version(at, Row::AddVersion, &before, None)?;
        // What belongs to the secret, and not to the version, takes the right to change that.
        let protects = self.purge_protected && !before.purge_protected;
        for (asked, action) in [(!before.tags.include(&self.tags), Action::Tag), (protects, Action::Update)] {
            if asked {
                at.acting(action).secret(&handle)?;
            }
        }
        let mut key = KeyRecord::clone(&before);
        key.current = key.newest.next().ok_or(Refusal::VersionsMax(key.id))?;
        key.newest = key.current;
        touch(&mut key, at.time());
        key.rotated_ms = key.updated_ms;
        Ok(key)
    }

    fn version(&self, key: &KeyRecord) -> Write {
        let (number, made_ms) = (key.current, key.updated_ms);
        let mut head = KeyVersionRecord::new(key.id, number, KeySpec::Secret, Mode::Free, Usages::NONE, made_ms);
        head.life.enabled = self.enabled;
        head.life.dates.protect_start = self.not_before_ms;
        head.life.dates.protect_stop = self.expires_ms;
        head.content_type = self.content_type.clone();
        Write::CreateWith(head.into(), Slot::Given(0))
    }
}

impl Decide for SetSecret {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::AddVersion
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, |token| {
            let request_hash = request_hash("set secret", &[&self.said(), &self.value_tag]);
            Retry::Filed(Filed { token, request_hash, key_of: |secret| secret.id, answer: |secret| secret.into() })
        })
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        in_order(self.not_before_ms, self.expires_ms)?;
        let name = FoldedName::object(at.within()?, Class::Secret, &self.name);
        let there = at.get::<NameRecord>(name)?.is_some();
        let mut key = if there { self.added(at)? } else { self.made(at, ids)? };
        key.tags = key.tags.with(&self.tags).map_err(Refusal::Invalid)?;
        key.purge_protected |= self.purge_protected;
        let (answer, mut writes) = (KeyView::from(&key), vec![self.version(&key)]);
        if there {
            writes.push(Write::Update(key.into()));
        } else {
            let named = Named::Object(Class::Secret, self.name.clone());
            writes.push(Write::Create(NameRecord::new(named, &key, key.created_ms).into()));
            writes.push(Write::Create(key.into()));
        }
        Ok(Change { writes, answer })
    }
}

/// Whether a value that is good from `start` on can be good until `end`.
fn in_order(start: u64, end: u64) -> Result<(), Refusal> {
    if end == 0 || start < end {
        return Ok(());
    }
    let why = format!("it would expire on {}, before it is good on {}", utc(end), utc(start));
    Err(Refusal::Invalid(InvalidRequest::wrong(Part::Date, why)))
}

/// Changes what is said of a secret and of one of its versions; what is `None`, or empty, stays.
///
/// Refused: the secret or the version is not found, or the secret waits for its destruction; too many tags; dates that contradict each
/// other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateSecret {
    /// The secret.
    pub secret: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
    /// Whether the version may be read.
    pub enabled: Option<bool>,
    /// What kind of content the version's value is.
    pub content_type: Option<ContentType>,
    /// From when the version's value is good.
    pub not_before: NewDate,
    /// Until when.
    pub expires: NewDate,
    /// Tags that are put on the secret, over those of the same names.
    pub tags: Tags,
    /// Names of tags that are taken off it first.
    pub untag: Vec<String>,
}

impl Decide for UpdateSecret {
    type Answer = SecretView;

    fn action(&self) -> Action {
        Action::UpdateVersion
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<SecretView>, F::Error> {
        let (before, now) = (at.secret(&self.secret)?, at.time());
        let head = version(at, Row::Update, &before, self.version)?;
        let puts = self.tags.iter().next().is_some();
        for (asked, action) in [(puts, Action::Tag), (!self.untag.is_empty(), Action::Untag)] {
            if asked {
                at.acting(action).secret(&self.secret)?;
            }
        }
        let (mut key, mut after) = (KeyRecord::clone(&before), KeyVersionRecord::clone(&head));
        key.tags = before.tags.without(&self.untag).with(&self.tags).map_err(Refusal::Invalid)?;
        after.life.enabled = self.enabled.unwrap_or(after.life.enabled);
        after.content_type = self.content_type.clone().unwrap_or(after.content_type);
        let dates = &mut after.life.dates;
        dates.protect_start = self.not_before.unwrap_or(dates.protect_start);
        dates.protect_stop = self.expires.unwrap_or(dates.protect_stop);
        let Dates { protect_start, protect_stop, destroyed, .. } = *dates;
        in_order(protect_start, protect_stop)?;
        if (&key, &after) == (&*before, &*head) {
            let version = VersionView::new(&key, &after, now);
            return Ok(Change::none(SecretView { secret: KeyView::from(&key), version }));
        }
        // A version whose value is gone has none to keep.
        let Change { writes, answer: version } = changed(&key, after, now, destroyed == 0);
        touch(&mut key, now);
        Ok(Change { writes, answer: SecretView { secret: KeyView::from(&key), version } })
    }
}

/// Why something can't be done with a secret, for people.
pub(super) fn words(name: &ObjectName, why: &Refusal) -> String {
    match why {
        Refusal::Disabled(_) => format!("secret {name} is disabled; enable it first"),
        Refusal::PendingDeletion { at_ms, .. } => {
            format!("secret {name} was deleted, and is destroyed on {}; recover it, or purge it, first", utc(*at_ms))
        }
        Refusal::NotPendingDeletion(_) => {
            format!("secret {name} is not deleted; only one that is deleted is recovered, or purged")
        }
        Refusal::NoVersion(_, version) => format!("secret {name} has no version {version}"),
        Refusal::VersionDisabled(_, version) => {
            format!("version {version} of secret {name} is disabled; enable it first")
        }
        Refusal::VersionState(_, version, _, VersionState::Compromised) => format!(
            "version {version} of secret {name} is compromised: only who manages secrets still reads it; set another value"
        ),
        Refusal::VersionState(_, version, _, state) => {
            format!("version {version} of secret {name} is {}", state.as_str())
        }
        Refusal::MaterialMissing(_) => format!("the value of secret {name} is gone"),
        Refusal::VersionsMax(_) => {
            format!("secret {name} has as many versions as a secret can have; delete it, purge it, and set it anew")
        }
        Refusal::PurgeProtected(_) => {
            format!("secret {name} was set so that nothing of it is destroyed before the day that a deletion sets")
        }
        other => other.to_string(),
    }
}
