//! Create a key, with a name and an alias if wanted. Enabled at once; its first version is made with it.
//!
//! With a token, the token makes the id: a retry finds the key itself, and no answer has to be kept.

use std::collections::BTreeSet;

use super::details::told;
use super::{Change, Decide, Refusal, Retry, Slot, Write};
use crate::access::{Access, Home};
use crate::action::Action;
use crate::codec::Writer;
use crate::facts::Basis;
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::key_spec::{Algorithm, KeySpec, Mode, Purpose, Usages};
use crate::lifecycle::KeyState;
use crate::name::{Class, FoldedName, Named};
use crate::record::{Exportable, Imported, KeyRecord, KeyVersionRecord, NameRecord, Origin, request_hash};
use crate::request::{AliasName, Description, InvalidRequest, KeyHandle, ObjectName, Part, Tags, Token};
use crate::seam::NewIds;
use crate::time::Time;
use crate::views::KeyView;

/// Makes a key; the answer is the new key, or the one that the same token made before, as it is now.
///
/// Refused: [`Refusal::AliasTaken`], [`Refusal::NameTaken`], [`Refusal::ExportableCapped`], [`Refusal::TokenReused`]; the token's key is
/// destroyed already; a public key of another kind, or one that is for nothing without its private half.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create {
    /// What kind of key.
    pub kind: NewKind,
    /// An alias for it.
    pub alias: Option<AliasName>,
    /// The name that it has for life.
    pub name: Option<ObjectName>,
    /// Free text.
    pub description: Description,
    /// Tags for it.
    pub tags: Tags,
    /// When it becomes active, ms since 1970; 0 = not before somebody activates it; none = now.
    pub activation: Option<u64>,
    /// Whether nobody can have it destroyed before its day; for ever.
    pub purge_protected: bool,
    /// Where its material comes from.
    pub source: Source,
    /// Whether its material may leave; for ever.
    pub exportable: Exportable,
    /// Whether it is written down when it was used last.
    pub tracked: bool,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

/// Where the material of a new key comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// It is made here.
    Fresh,
    /// It is imported, once the key is there.
    Import,
    /// There is none: this is somebody else's public key.
    Public(PublicPart),
}

/// A public key that was read and checked; what it says of itself is so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicPart {
    /// Of what kind it is.
    pub spec: KeySpec,
    /// SubjectPublicKeyInfo, DER (RFC 5280 §4.1.2.7).
    pub spki: Vec<u8>,
}

impl Source {
    /// The kind of key that it makes when nobody says which.
    pub fn spec(&self) -> KeySpec {
        if let Self::Public(public) = self { public.spec } else { KeySpec::DEFAULT }
    }

    /// Its canonical bytes.
    fn encode(&self) -> &[u8] {
        match self {
            Self::Fresh => &[0],
            Self::Import => &[1],
            Self::Public(public) => &public.spki,
        }
    }

    /// What a key of that kind has of it at first, and may be used for.
    fn first(&self, kind: NewKind, exportable: Exportable) -> Result<(Origin, Usages), Refusal> {
        let wrong = |part, why: String| Err(Refusal::Invalid(InvalidRequest::wrong(part, why)));
        let public = match self {
            Self::Fresh => return Ok((Origin::Here, kind.usage())),
            Self::Import => return Ok((Origin::Imported(Imported::NEW), kind.usage())),
            Self::Public(public) => public,
        };
        let (spec, asked) = (public.spec.as_str(), kind.spec.as_str());
        let usage = kind.usage().of_public();
        if public.spec != kind.spec {
            return wrong(Part::PublicKey, format!("the public key is of kind {spec}, not {asked}"));
        }
        if usage.is_empty() {
            let why = format!("to {} takes the private half of a pair; this is a public key", kind.purpose.as_str());
            return wrong(Part::Usage, why);
        }
        if exportable != Exportable::No {
            let why = "a public key has no material to be exported; everybody who may describe it gets it anyway";
            return wrong(Part::Exportable, why.to_owned());
        }
        Ok((Origin::Public, usage))
    }

    /// The public key that the first version has from the start.
    fn public(&self) -> Vec<u8> {
        if let Self::Public(public) = self { public.spki.clone() } else { Vec::new() }
    }
}

/// What kind of key is made, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewKind {
    spec: KeySpec,
    purpose: Purpose,
    mode: Mode,
}

impl NewKind {
    /// A key of `spec`; for its default purpose, by that purpose's default algorithm, unless something else is said.
    ///
    /// # Errors
    /// When such a key is not for that, or not by that algorithm.
    pub fn new(spec: KeySpec, purpose: Option<Purpose>, by: Option<Algorithm>) -> Result<Self, InvalidRequest> {
        let fitting = || spec.purposes().iter().copied().find(|one| Mode::new(spec, *one, by).is_ok());
        let Some(purpose) = purpose.or_else(fitting).or(spec.purpose()) else {
            return Err(InvalidRequest::wrong(Part::Spec, format!("{} is no kind of key", spec.as_str())));
        };
        let mode = Mode::new(spec, purpose, by)?;
        if purpose == Purpose::Wrap && !matches!(mode, Mode::Wrap | Mode::Free) {
            let why = "a key to wrap others goes by aes-kwp or aes-kw; to encrypt keys otherwise, make one for encrypt";
            return Err(InvalidRequest::wrong(Part::Algorithm, why));
        }
        Ok(Self { spec, purpose, mode })
    }

    /// Of what kind.
    pub fn spec(self) -> KeySpec {
        self.spec
    }

    /// What its first version is for.
    pub(super) fn usage(self) -> Usages {
        self.purpose.usages()
    }

    /// Its canonical bytes.
    pub(super) fn encode(self) -> Vec<u8> {
        let head = Writer::new().u16(self.spec.code()).u8(self.mode.code());
        head.u32(self.purpose.usages().bits()).finish()
    }
}

impl Decide for Create {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Create
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, Retry::Id)
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let home = at.home()?;
        let alias = self.alias.as_ref().map_or("", AliasName::as_str);
        let name = self.name.as_ref().map_or("", ObjectName::as_str);
        let tags = self.tags.write(Writer::new()).finish();
        let activation = self.activation.map_or(Vec::new(), |at_ms| at_ms.to_be_bytes().to_vec());
        let protected = [u8::from(self.purge_protected)];
        let material = [self.source.encode(), &[u8::from(self.tracked)], self.exportable.as_str().as_bytes()].concat();
        let birth = birth(
            "create",
            &[
                &self.kind.encode(),
                alias.as_bytes(),
                self.description.as_str().as_bytes(),
                &tags,
                &activation,
                &protected,
                &material,
                name.as_bytes(),
            ],
        );
        let id = match new_key(at, ids, home.namespace, self.token, 0, birth)? {
            NewKey::Made(earlier) => return Ok(Change::none(*earlier)),
            NewKey::Free(id) => id,
        };
        if let Some(name) = &self.alias
            && let Some(taken) = at.get::<NameRecord>(FoldedName::alias(home.namespace, name))?
        {
            return Err(Refusal::AliasTaken { name: name.clone(), key: taken.key }.into());
        }
        if let Some(name) = &self.name
            && let Some(taken) = at.get::<NameRecord>(FoldedName::object(home.namespace, Class::Key, name))?
        {
            return Err(Refusal::NameTaken { name: name.clone(), key: taken.key }.into());
        }
        if self.exportable > home.settings.exportable {
            return Err(Refusal::ExportableCapped { most: home.settings.exportable }.into());
        }

        let (origin, usage) = self.source.first(self.kind, self.exportable)?;
        let kind = (self.kind.spec, usage);
        let mut key = fresh(id, home, kind, birth, at.time());
        key.aliases.extend(self.alias.clone());
        key.name = self.name.clone();
        key.tags = self.tags.clone();
        key.purge_protected = self.purge_protected;
        key.origin = origin;
        key.exportable = self.exportable;
        key.tracked &= self.tracked;
        let details = told(&mut key, &self.description);
        let mut writes = creation(&key, self.kind, &self.source, self.activation, 0).to_vec();
        writes.extend(details);
        let alias = self.alias.iter().cloned().map(Named::Alias);
        let name = self.name.iter().map(|name| Named::Object(Class::Key, name.clone()));
        let named = |named| Write::Create(NameRecord::new(named, &key, key.created_ms).into());
        writes.extend(alias.chain(name).map(named));
        Ok(Change { writes, answer: KeyView::from(&key) })
    }
}

/// What a key keeps of the request that made it.
pub(super) fn birth(verb: &str, fields: &[&[u8]]) -> [u8; 16] {
    let hash = request_hash(verb, fields);
    std::array::from_fn(|i| hash[i])
}

/// What there is under the id of a key to be made.
pub(super) enum NewKey {
    /// Nothing.
    Free(KeyId),
    /// The key that the same request made before.
    Made(Box<KeyView>),
}

/// The id of the `n`th key that a request makes in that namespace.
///
/// # Errors
/// [`Refusal::TokenReused`] when another request made it, [`Refusal::KeyNotFound`] when it is being destroyed.
pub(super) fn new_key<F: Basis>(
    at: &mut Access<'_, F>,
    ids: &dyn NewIds,
    namespace: Namespace,
    token: Option<Token>,
    n: u32,
    birth: [u8; 16],
) -> Result<NewKey, F::Error> {
    let Some(token) = token else {
        return Ok(NewKey::Free(fresh_id(at, ids, namespace, Class::Key)?));
    };
    let id = ids.of_token(at.principal(), namespace, token, n);
    match at.get::<KeyRecord>(id)? {
        None => Ok(NewKey::Free(id)),
        Some(key) if key.birth != birth => Err(Refusal::TokenReused.into()),
        Some(key) if key.state == KeyState::Destroyed => Err(Refusal::KeyNotFound(KeyHandle::Id(id)).into()),
        Some(key) => Ok(NewKey::Made(Box::new(KeyView::from(&*key)))),
    }
}

/// An id that nothing has.
pub(super) fn fresh_id<F: Basis>(
    at: &mut Access<'_, F>,
    ids: &dyn NewIds,
    namespace: Namespace,
    class: Class,
) -> Result<KeyId, F::Error> {
    // Fresh ones nearly never meet: 42 random bits in one millisecond.
    loop {
        let id = ids.fresh(namespace, class, at.time().stamp_ms());
        if at.get::<KeyRecord>(id)?.is_none() {
            return Ok(id);
        }
    }
}

/// A new object, of that kind and for that.
pub(super) fn fresh(id: KeyId, home: Home, (spec, usage): (KeySpec, Usages), birth: [u8; 16], time: Time) -> KeyRecord {
    let created_ms = time.stamp_ms();
    KeyRecord {
        id,
        namespace: home.namespace,
        state: KeyState::Enabled,
        spec,
        usage,
        birth,
        current: KeyVersion::FIRST,
        newest: KeyVersion::FIRST,
        protect_floor: KeyVersion::FIRST,
        process_floor: KeyVersion::FIRST,
        destroyed_through: 0,
        created_ms,
        updated_ms: created_ms,
        rotated_ms: 0,
        has_details: false,
        aliases: BTreeSet::new(),
        tags: Tags::default(),
        rotation: None,
        purge_protected: false,
        origin: Origin::Here,
        exportable: Exportable::No,
        archived: false,
        name: None,
        tracked: home.settings.tracked,
        backed_up_ms: 0,
        born_as: None,
        replaces: None,
        replaced_by: None,
        deletion_by: None,
    }
}

/// What makes a new key, with its first version, of the change's `nth` fresh material, or without any.
pub(super) fn creation(
    key: &KeyRecord,
    kind: NewKind,
    source: &Source,
    activation: Option<u64>,
    nth: usize,
) -> [Write; 2] {
    let mut version = KeyVersionRecord::new(key.id, key.current, key.spec, kind.mode, key.usage, key.created_ms);
    version.life.dates.activation = activation.unwrap_or(version.life.dates.activation);
    version.has_material = *source == Source::Fresh;
    version.public = source.public();
    let version = match source {
        Source::Fresh => Write::CreateWith(version.into(), Slot::Fresh(nth, key.spec)),
        Source::Import | Source::Public(_) => Write::Create(version.into()),
    };
    [Write::Create(key.clone().into()), version]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_for_what_its_algorithm_is_for() {
        let new = |spec, purpose, by| NewKind::new(spec, purpose, by).map(|kind| (kind.purpose, kind.mode));
        assert_eq!(new(KeySpec::Aes256, None, None), Ok((Purpose::Encrypt, Mode::Blob)));
        assert_eq!(new(KeySpec::Aes256, None, Some(Algorithm::AesKwp)), Ok((Purpose::Wrap, Mode::Wrap)));
        assert_eq!(new(KeySpec::Rsa2048, None, None), Ok((Purpose::Sign, Mode::Free)));
        assert_eq!(new(KeySpec::Rsa2048, None, Some(Algorithm::RsaOaepSha1)), Ok((Purpose::Encrypt, Mode::Free)));
        assert_eq!(new(KeySpec::P256, Some(Purpose::Agree), None), Ok((Purpose::Agree, Mode::Free)));
        assert!(new(KeySpec::P256, Some(Purpose::Encrypt), None).is_err());
        assert!(new(KeySpec::Aes256, Some(Purpose::Wrap), Some(Algorithm::AesGcm)).is_err());
        assert!(new(KeySpec::Ed25519, None, Some(Algorithm::RsaPssSha256)).is_err());
    }
}
