//! One version of a key.

use super::optional::{Fields, Present};
use super::{BAD_NAME, Formats, Kind, Place, Unreadable, begin};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion};
use crate::key_spec::{KeySpec, Mode, Usages};
use crate::lifecycle::{Dates, Life};
use crate::record_key::Table;
use crate::request::{ContentType, Tags};

/// Longest material of a key, in bytes: an RSA-4096 key takes about 2400.
pub const MATERIAL_LEN_MAX: usize = 8 * 1024;
/// Longest public key, in bytes: that of ML-DSA-87 takes about 2620.
pub const PUBLIC_LEN_MAX: usize = 4 * 1024;

/// What tells one material from others, without telling anything about it (key-model §1.2).
pub type MaterialId = [u8; 32];

/// One version of a key, all but its material.
///
/// ```text
/// format u8 ‖ spec u16 ‖ mode u8 ‖ usage u32 ‖ ops u32 ‖ enabled u8 ‖ dates (bits u8 ‖ u64 × n) ‖ created_ms u64 ‖ updated_ms u64
///   ‖ material id 32 ‖ optional: 1 public key, 2 first exported (u64), 3 content type, 4 tags ((field, field) × n)
///   ‖ material field, only in the boxed body; empty = it is gone, or has not come
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyVersionRecord {
    /// Which key.
    pub key: KeyId,
    /// Which version.
    pub version: KeyVersion,
    /// The kind of its material.
    pub spec: KeySpec,
    /// How its material may encrypt, if it can do so in more than one way.
    pub mode: Mode,
    /// What it is for; never changed.
    pub usage: Usages,
    /// What of that is allowed.
    pub ops: Usages,
    /// Whether it may be used, and when.
    pub life: Life,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// Of its material. Whoever writes the record puts it in: decisions see no material.
    pub material_id: MaterialId,
    /// Its public key (SubjectPublicKeyInfo, DER; RFC 5280 §4.1.2.7); empty = it has none. Put in likewise.
    pub public: Vec<u8>,
    /// Whether its material is there: what the record's body says when it is read. Whoever writes it puts it in, or leaves it out.
    pub has_material: bool,
    /// When its material left for the first time (display time, ms since 1970); 0 = it never did.
    pub first_exported_ms: u64,
    /// What kind of content it is; of secrets.
    pub content_type: ContentType,
    /// What people or programs have put on this version, and not on the key. No policy looks at these: whoever adds a version could
    /// choose them.
    pub tags: Tags,
}

const PUBLIC: u8 = 1;
const FIRST_EXPORTED: u8 = 2;
const CONTENT_TYPE: u8 = 3;
const TAGS: u8 = 4;

impl KeyVersionRecord {
    /// A new version, active at once; its material and what goes with it is put in by whoever writes it.
    pub fn new(key: KeyId, version: KeyVersion, spec: KeySpec, mode: Mode, usage: Usages, created_ms: u64) -> Self {
        let life = Life::new(created_ms);
        Self {
            key,
            version,
            spec,
            mode,
            usage,
            ops: usage,
            life,
            created_ms,
            material_id: [0; 32],
            public: Vec::new(),
            has_material: true,
            first_exported_ms: 0,
            content_type: ContentType::default(),
            tags: Tags::default(),
        }
    }

    /// Divides an opened body into what is known about the version and its material (borrowed: nothing is copied); no material:
    /// it is gone.
    ///
    /// # Errors
    /// When it has not exactly that form.
    pub fn split(key: KeyId, version: KeyVersion, body: &[u8]) -> Result<(Self, &[u8]), Unreadable> {
        let (_, mut r) = begin::<Self>(body)?;
        let (record, material) = Self::read_split(key, version, &mut r)?;
        r.finish()?;
        Ok((record, material))
    }

    fn read_split<'a>(key: KeyId, version: KeyVersion, from: &mut Reader<'a>) -> Result<(Self, &'a [u8]), Unreadable> {
        const BAD: Malformed = Malformed(KeyVersionRecord::WHAT);
        let newer = || Unreadable::Newer(Self::WHAT);
        let spec = KeySpec::from_code(from.u16()?).ok_or_else(newer)?;
        let mode = Mode::from_code(from.u8()?).ok_or_else(newer)?;
        let mut usages = || Usages::from_bits(from.u32()?).ok_or_else(newer);
        let (usage, ops) = (usages()?, usages()?);
        let enabled = match from.u8()? {
            0 => false,
            1 => true,
            _ => return Err(BAD.into()),
        };
        let dates = Dates::read(from)?;
        let (created_ms, updated_ms) = (from.u64()?, from.u64()?);
        let material_id = from.array()?;
        let mut fields = Fields::read(from, PUBLIC_LEN_MAX.max(Tags::ENCODED_LEN_MAX), Self::WHAT)?;
        let public = fields.take(PUBLIC).to_vec();
        let first_exported_ms = match fields.take(FIRST_EXPORTED) {
            [] => 0,
            at_ms => at_ms.try_into().map(u64::from_be_bytes).ok().filter(|at_ms| *at_ms != 0).ok_or(BAD)?,
        };
        let content_type = std::str::from_utf8(fields.take(CONTENT_TYPE)).map_err(|_| BAD)?;
        let content_type = content_type.parse().map_err(|_| BAD)?;
        let tags = Tags::read(Reader::new(Self::WHAT, fields.take(TAGS)))?;
        fields.finish(Self::WHAT)?;
        let lens = spec.material_lens().unwrap_or(1..=MATERIAL_LEN_MAX);
        let material = from.field(*lens.end())?;
        if !material.is_empty() && !lens.contains(&material.len()) {
            return Err(BAD.into());
        }
        let life = Life { dates, enabled, updated_ms };
        let has_material = !material.is_empty();
        let head = Self {
            key,
            version,
            spec,
            mode,
            usage,
            ops,
            life,
            created_ms,
            material_id,
            public,
            has_material,
            first_exported_ms,
            content_type,
            tags,
        };
        Ok((head, material))
    }
}

impl Kind for KeyVersionRecord {
    type Name = (KeyId, KeyVersion);
    const TABLE: Table = Table::KeyVersion;
    const WHAT: &'static str = "key version record";
    const FORMATS: Formats = Formats::only(3);

    fn name(&self) -> Self::Name {
        (self.key, self.version)
    }
    fn place((id, version): &Self::Name) -> Place {
        Place { prefix: id.time().into(), suffix: version.get().to_be_bytes().into(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let version = place.suffix[..].try_into().map(u32::from_be_bytes).map_err(|_| BAD_NAME)?;
        let id = place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)?;
        Ok((id, KeyVersion::new(version).ok_or(BAD_NAME)?))
    }
    /// The material has to follow, as a field.
    fn write(&self, _: u8, to: Writer) -> Writer {
        let head = to.u16(self.spec.code()).u8(self.mode.code()).u32(self.usage.bits()).u32(self.ops.bits());
        let head = self.life.dates.write(head.u8(self.life.enabled.into()));
        let fixed = head.u64(self.created_ms).u64(self.life.updated_ms).raw(&self.material_id);
        let first_exported = match self.first_exported_ms {
            0 => Vec::new(),
            at_ms => at_ms.to_be_bytes().to_vec(),
        };
        Present::default()
            .field(PUBLIC, self.public.clone())
            .field(FIRST_EXPORTED, first_exported)
            .field(CONTENT_TYPE, self.content_type.as_str().into())
            .field(TAGS, self.tags.write(Writer::new()).finish())
            .write(fixed)
    }
    fn read((key, version): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self::read_split(*key, *version, from)?.0)
    }
}
