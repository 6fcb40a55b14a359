//! That material was destroyed: what an auditor can keep of it (key-model §1.4, §8).
//!
//! It is written by the very change that takes the material away, outlives what was destroyed, and never goes: some 200 bytes for
//! each. Nothing in it is a secret, or tells anything about one.

use std::collections::BTreeSet;

use super::key::{ALIASES_LEN_MAX, alias_fields, read_aliases};
use super::optional::{Fields, Present, moment, other, read_moment, read_other, read_principal};
use super::{BAD_NAME, Formats, KeyRecord, KeyVersionRecord, Kind, MaterialId, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::key_spec::{KeySpec, Kind as SpecKind};
use crate::lifecycle::KeyState;
use crate::name::Class;
use crate::principal::Principal;
use crate::record_key::Table;
use crate::request::{AliasName, ObjectName};

/// Versions that are listed one by one, at most; of those beyond it is known how many they were.
pub const LISTED_MAX: usize = 112;

/// That somebody asked for the destruction of an object on a later day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheduled {
    /// Who; none = it was not written down.
    pub by: Option<Principal>,
    /// When (display time, ms since 1970).
    pub since_ms: u64,
    /// For when (cluster time, ms since 1970).
    pub due_ms: u64,
}

impl Scheduled {
    /// What is known of a key that waits for its destruction; none = it does not.
    pub fn of(key: &KeyRecord) -> Option<Self> {
        match key.state {
            KeyState::PendingDeletion { at_ms, since_ms, .. } => {
                Some(Self { by: key.deletion_by.clone(), since_ms, due_ms: at_ms })
            }
            KeyState::Enabled | KeyState::Disabled | KeyState::Destroyed => None,
        }
    }
}

/// How it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Somebody destroyed one version.
    Version {
        /// Who.
        by: Principal,
    },
    /// Somebody destroyed the object before its day.
    Purge {
        /// Who.
        by: Principal,
        /// Whose day that was.
        scheduled: Scheduled,
    },
    /// Its day had come.
    Due {
        /// Whose day that was.
        scheduled: Scheduled,
    },
}

impl Cause {
    /// As shown to people and clients.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Version { .. } => "destroy-version",
            Self::Purge { .. } => "purge",
            Self::Due { .. } => "scheduled",
        }
    }
    const fn code(&self) -> u8 {
        match self {
            Self::Version { .. } => 1,
            Self::Purge { .. } => 2,
            Self::Due { .. } => 3,
        }
    }
    /// Who destroyed it by his own act; none: the cluster did, on the day.
    pub const fn by(&self) -> Option<&Principal> {
        match self {
            Self::Version { by } | Self::Purge { by, .. } => Some(by),
            Self::Due { .. } => None,
        }
    }
    /// The day that had been set, if one had.
    pub const fn scheduled(&self) -> Option<&Scheduled> {
        match self {
            Self::Version { .. } => None,
            Self::Purge { scheduled, .. } | Self::Due { scheduled } => Some(scheduled),
        }
    }
}

/// A version whose record, or material, went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// Its number.
    pub version: KeyVersion,
    /// Of its material; zeros = it never had any.
    pub material_id: MaterialId,
    /// Whether its material was still there.
    pub had_material: bool,
    /// When its material left for the first time (display time, ms since 1970); 0 = it never did.
    pub first_exported_ms: u64,
}

impl Gone {
    /// Of a version that is about to go.
    pub fn of(head: &KeyVersionRecord) -> Self {
        Self {
            version: head.version,
            material_id: head.material_id,
            had_material: head.has_material,
            first_exported_ms: head.first_exported_ms,
        }
    }
}

/// Versions that went beyond those that are listed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct More {
    /// How many.
    pub count: u32,
    /// When the material of one of them left for the first time; 0 = none did.
    pub first_exported_ms: u64,
}

/// The destruction of a version, or of a whole object.
///
/// ```text
/// format u8 ‖ cause u8 ‖ namespace u32 ‖ spec u16 ‖ newest u32 ‖ through u32 ‖ created_ms u64 ‖ began_ms u64 ‖ ended_ms u64
///   ‖ n u16 × {version u32 ‖ material id 32 ‖ had material u8 ‖ first exported_ms u64}
///   ‖ optional: 1 by (principal), 2 scheduled (since_ms u64 ‖ due_ms u64 ‖ principal, or nothing), 3 name as written,
///     4 aliases (field × n), 5 backed up (u64), 6 born as (16), 7 earlier (u32), 8 more (count u32 ‖ first exported_ms u64)
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestructionRecord {
    /// The object.
    pub key: KeyId,
    /// The version; none = the object as a whole.
    pub version: Option<KeyVersion>,
    /// How it came about.
    pub cause: Cause,
    /// Whose it was.
    pub namespace: Namespace,
    /// The kind of its material: of the version, or of the current one.
    pub spec: KeySpec,
    /// The last version to go.
    pub newest: u32,
    /// Versions up to this number have gone: all of them, once it is `newest`. Of many, some go with each step.
    pub through: u32,
    /// When the object was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When the destruction began (display time, ms since 1970): from then on nobody used, or found, it.
    pub began_ms: u64,
    /// When the last of it went (likewise), as far as it has.
    pub ended_ms: u64,
    /// What went, in order.
    pub gone: Vec<Gone>,
    /// What went beyond that.
    pub more: More,
    /// The name that it had for life.
    pub name: Option<ObjectName>,
    /// The aliases that went with it, or that the key of the version had.
    pub aliases: BTreeSet<AliasName>,
    /// When a backup of it was made last (display time, ms since 1970); 0 = never.
    pub backed_up_ms: u64,
    /// What its id was when it was first made, if it was restored under another: material ids are made with it.
    pub born_as: Option<KeyId>,
    /// How often it had been destroyed before, and came back from a backup each time.
    pub earlier: u32,
}

impl DestructionRecord {
    /// Of that key, nothing of which has gone yet; `newest` is the last version to go, and `before` the record of an earlier
    /// destruction.
    fn begun(key: &KeyRecord, cause: Cause, newest: u32, before: Option<&Self>, now_ms: u64) -> Self {
        Self {
            key: key.id,
            version: None,
            cause,
            namespace: key.namespace,
            spec: key.spec,
            newest,
            through: 0,
            created_ms: key.created_ms,
            began_ms: now_ms,
            ended_ms: now_ms,
            gone: Vec::new(),
            more: More::default(),
            name: key.name.clone(),
            aliases: key.aliases.clone(),
            backed_up_ms: key.backed_up_ms,
            born_as: key.born_as,
            earlier: before.map_or(0, |before| before.earlier.saturating_add(1)),
        }
    }

    /// Of a whole key, as it was before.
    pub(crate) fn of_key(key: &KeyRecord, cause: Cause, before: Option<&Self>, now_ms: u64) -> Self {
        Self::begun(key, cause, key.newest.get(), before, now_ms)
    }

    /// Of one version of a key, as both were before.
    pub(crate) fn of_version(
        key: &KeyRecord,
        head: &KeyVersionRecord,
        by: Principal,
        before: Option<&Self>,
        now_ms: u64,
    ) -> Self {
        let (version, number) = (Some(head.version), head.version.get());
        let begun = Self::begun(key, Cause::Version { by }, number, before, now_ms);
        Self { version, spec: head.spec, through: number, gone: vec![Gone::of(head)], ..begun }
    }

    /// Notes that these have gone, and with them all up to `through`.
    pub(crate) fn went<'a>(
        &mut self,
        heads: impl IntoIterator<Item = &'a KeyVersionRecord>,
        through: u32,
        now_ms: u64,
    ) {
        for gone in heads.into_iter().map(Gone::of) {
            if self.gone.len() < LISTED_MAX {
                self.gone.push(gone);
            } else {
                self.more.count += 1;
                self.more.first_exported_ms = first(self.more.first_exported_ms, gone.first_exported_ms);
            }
        }
        (self.through, self.ended_ms) = (through, self.ended_ms.max(now_ms));
    }

    /// Whether all of it has gone.
    pub fn is_complete(&self) -> bool {
        self.through == self.newest
    }

    /// What it was.
    pub const fn class(&self) -> Class {
        match self.spec.kind() {
            SpecKind::Symmetric | SpecKind::Pair | SpecKind::Mac | SpecKind::Public => Class::Key,
            SpecKind::Secret => Class::Secret,
        }
    }

    /// When any of it left for the first time (display time, ms since 1970); 0 = none did.
    pub fn first_exported_ms(&self) -> u64 {
        self.gone.iter().map(|gone| gone.first_exported_ms).fold(self.more.first_exported_ms, first)
    }
}

/// The earlier of two moments, each of which may be 0 = never.
fn first(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, other) => other,
        (one, 0) => one,
        (one, other) => one.min(other),
    }
}

const BY: u8 = 1;
const SCHEDULED: u8 = 2;
const NAME: u8 = 3;
const ALIASES: u8 = 4;
const BACKED_UP: u8 = 5;
const BORN_AS: u8 = 6;
const EARLIER: u8 = 7;
const MORE: u8 = 8;

const BAD: Malformed = Malformed(DestructionRecord::WHAT);

impl Kind for DestructionRecord {
    type Name = (KeyId, Option<KeyVersion>);
    const TABLE: Table = Table::Destruction;
    const WHAT: &'static str = "record of a destruction";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Self::Name {
        (self.key, self.version)
    }
    fn place((id, version): &Self::Name) -> Place {
        let number = version.map_or(0, KeyVersion::get);
        Place { prefix: id.time().into(), suffix: number.to_be_bytes().into(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let id = place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)?;
        let version = place.suffix[..].try_into().map(u32::from_be_bytes).map_err(|_| BAD_NAME)?;
        Ok((id, KeyVersion::new(version)))
    }

    fn write(&self, _: u8, to: Writer) -> Writer {
        let fixed = to
            .u8(self.cause.code())
            .u32(self.namespace.0)
            .u16(self.spec.code())
            .u32(self.newest)
            .u32(self.through)
            .u64(self.created_ms)
            .u64(self.began_ms)
            .u64(self.ended_ms)
            .u16(self.gone.len() as u16);
        let listed = self.gone.iter().fold(fixed, |to, gone| {
            let Gone { version, material_id, had_material, first_exported_ms } = gone;
            to.u32(version.get()).raw(material_id).u8((*had_material).into()).u64(*first_exported_ms)
        });
        let scheduled = |Scheduled { by, since_ms, due_ms }: &Scheduled| {
            let by = by.as_ref().map_or(Vec::new(), Principal::encode);
            Writer::new().u64(*since_ms).u64(*due_ms).raw(&by).finish()
        };
        let more = |More { count, first_exported_ms }| Writer::new().u32(count).u64(first_exported_ms).finish();
        Present::default()
            .field(BY, self.cause.by().map_or(Vec::new(), Principal::encode))
            .field(SCHEDULED, self.cause.scheduled().map_or(Vec::new(), scheduled))
            .field(NAME, self.name.as_ref().map_or("", ObjectName::as_str).into())
            .field(ALIASES, alias_fields(&self.aliases))
            .field(BACKED_UP, moment(self.backed_up_ms))
            .field(BORN_AS, other(self.born_as))
            .field(EARLIER, if self.earlier == 0 { Vec::new() } else { self.earlier.to_be_bytes().into() })
            .field(MORE, if self.more == More::default() { Vec::new() } else { more(self.more) })
            .write(listed)
    }

    fn read((key, version): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let newer = || Unreadable::Newer(Self::WHAT);
        let cause = from.u8()?;
        let namespace = Namespace(from.u32()?);
        let spec = KeySpec::from_code(from.u16()?).ok_or_else(newer)?;
        let (newest, through) = (from.u32()?, from.u32()?);
        let (created_ms, began_ms, ended_ms) = (from.u64()?, from.u64()?, from.u64()?);
        let listed = usize::from(from.u16()?);
        if listed > LISTED_MAX {
            return Err(BAD.into());
        }
        let gone = (0..listed).map(|_| read_gone(from)).collect::<Result<Vec<_>, _>>()?;
        let mut fields = Fields::read(from, ALIASES_LEN_MAX, Self::WHAT)?;
        let by = read_principal(fields.take(BY), Self::WHAT)?;
        let scheduled = read_scheduled(fields.take(SCHEDULED))?;
        let cause = match (cause, version, by, scheduled) {
            (1, Some(_), Some(by), None) => Cause::Version { by },
            (2, None, Some(by), Some(scheduled)) => Cause::Purge { by, scheduled },
            (3, None, None, Some(scheduled)) => Cause::Due { scheduled },
            (4.., ..) => return Err(newer()),
            _ => return Err(BAD.into()),
        };
        let name = match std::str::from_utf8(fields.take(NAME)).map_err(|_| BAD)? {
            "" => None,
            name => Some(name.parse().map_err(|_| BAD)?),
        };
        let aliases = read_aliases(fields.take(ALIASES), Self::WHAT)?;
        let backed_up_ms = read_moment(fields.take(BACKED_UP), Self::WHAT)?;
        let born_as = read_other(fields.take(BORN_AS), Self::WHAT)?;
        let earlier = match fields.take(EARLIER) {
            [] => 0,
            n => n.try_into().map(u32::from_be_bytes).ok().filter(|n| *n != 0).ok_or(BAD)?,
        };
        let more = read_more(fields.take(MORE))?;
        fields.finish(Self::WHAT)?;
        let (key, version) = (*key, *version);
        if through > newest || version.is_some_and(|version| (newest, through) != (version.get(), version.get())) {
            return Err(BAD.into());
        }
        Ok(Self {
            key,
            version,
            cause,
            namespace,
            spec,
            newest,
            through,
            created_ms,
            began_ms,
            ended_ms,
            gone,
            more,
            name,
            aliases,
            backed_up_ms,
            born_as,
            earlier,
        })
    }
}

fn read_gone(from: &mut Reader<'_>) -> Result<Gone, Malformed> {
    Ok(Gone {
        version: KeyVersion::new(from.u32()?).ok_or(BAD)?,
        material_id: from.array()?,
        had_material: match from.u8()? {
            0 => false,
            1 => true,
            _ => return Err(BAD),
        },
        first_exported_ms: from.u64()?,
    })
}

fn read_scheduled(field: &[u8]) -> Result<Option<Scheduled>, Unreadable> {
    if field.is_empty() {
        return Ok(None);
    }
    let mut r = Reader::new(DestructionRecord::WHAT, field);
    let (since_ms, due_ms) = (r.u64()?, r.u64()?);
    Ok(Some(Scheduled { by: read_principal(r.rest(), DestructionRecord::WHAT)?, since_ms, due_ms }))
}

fn read_more(field: &[u8]) -> Result<More, Malformed> {
    if field.is_empty() {
        return Ok(More::default());
    }
    let mut r = Reader::new(DestructionRecord::WHAT, field);
    let more = More { count: r.u32()?, first_exported_ms: r.u64()? };
    r.finish()?;
    if more == More::default() { Err(BAD) } else { Ok(more) }
}
