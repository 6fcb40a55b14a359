//! What is asked, as policies see it: who, what, to what, in which circumstances.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityUid, Request as CedarRequest, RestrictedExpression,
};
use quorate_core::action::Action;
use quorate_core::id::Namespace;

use crate::policy::Reads;
use crate::role::Role;
use crate::schema::{Kind, group_name};

/// Tags, or other names and values.
pub type Pairs = BTreeMap<String, String>;

/// What policies may know of who asks.
#[derive(Clone, Debug, Default)]
pub struct PrincipalFacts {
    /// Its id, which no other ever has.
    pub id: String,
    /// Whose it is.
    pub namespace: Namespace,
    /// `certificate`, `user`, `service` or `role`.
    pub kind: String,
    /// What it is called.
    pub name: String,
    /// The ids of every group that it is in, directly or by another.
    pub groups: BTreeSet<String>,
    /// Its tags.
    pub tags: Pairs,
}

/// What policies may know of a key or a secret.
#[derive(Clone, Debug, Default)]
pub struct ObjectFacts {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub namespace: Namespace,
    /// [`quorate_core::key_spec::Kind`], as shown.
    pub kind: String,
    /// [`quorate_core::key_spec::KeySpec`] of its current version, as shown.
    pub spec: String,
    /// [`quorate_core::key_spec::Usage`]s of its current version, as shown.
    pub usage: BTreeSet<String>,
    /// `here`, `imported` or `public`.
    pub origin: String,
    /// `no`, `wrapped` or `plain`.
    pub exportable: String,
    /// Its names, as `alias/NAME`, `key/NAME` or `secret/NAME`.
    pub names: BTreeSet<String>,
    /// The id of the principal whose it is, if it is somebody's.
    pub owner: Option<String>,
    /// The id of the group whose it is, if it is one's.
    pub group: Option<String>,
    /// Its tags.
    pub tags: Pairs,
}

/// The circumstances of a request; what is absent there is `None`.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Through which door: `native`.
    pub door: String,
    /// Where from.
    pub ip: Option<IpAddr>,
    /// Cluster time, ms since 1970.
    pub now_ms: Option<u64>,
    /// The encryption context, where it is given as pairs.
    pub aad: Option<Pairs>,
    /// The tags that the request puts on.
    pub tags: Option<Pairs>,
    /// The algorithm, as shown.
    pub algorithm: Option<String>,
    /// The alias that the object was called by, without `alias/`.
    pub alias: Option<String>,
    /// Days until the destruction that is asked for.
    pub days: Option<u32>,
    /// The id of the key that material leaves wrapped under.
    pub wrapping: Option<String>,
    /// The grant that is to be made.
    pub grant: Option<GrantFacts>,
}

/// What policies may know of a grant that is to be made.
#[derive(Clone, Debug, Default)]
pub struct GrantFacts {
    /// The names of the actions that it would permit.
    pub operations: BTreeSet<String>,
    /// The id of the principal whom.
    pub grantee: String,
    /// Whether it is bound to an encryption context.
    pub has_constraint: bool,
}

/// A fact that Cedar does not take as a value: a fault of this crate, since every text is one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a policy can't be asked about this: {0}")]
pub struct Unaskable(String);

fn unaskable(why: impl std::fmt::Display) -> Unaskable {
    Unaskable(why.to_string())
}

/// Who asks, in Cedar's form: made once, asked about often.
#[derive(Clone, Debug)]
pub struct Principal {
    entity: Entity,
    uid: EntityUid,
    /// All that it is in.
    pub(crate) within: Vec<EntityUid>,
}

impl Principal {
    /// Of these facts.
    ///
    /// # Errors
    /// [`Unaskable`].
    pub fn new(facts: &PrincipalFacts) -> Result<Self, Unaskable> {
        let uid = Kind::Principal.uid(&facts.id);
        let groups = facts.groups.iter().map(|group| Kind::Group.uid(group));
        let within: Vec<_> = groups.chain([namespace(facts.namespace)]).collect();
        let attributes = [("kind", text(&facts.kind)), ("name", text(&facts.name))];
        let entity = entity(&uid, attributes.into(), within.iter().cloned(), &facts.tags)?;
        Ok(Self { entity, uid, within })
    }

    /// Itself, and all that it is in.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = &EntityUid> {
        [&self.uid].into_iter().chain(&self.within)
    }
}

/// What an action is done to, in Cedar's form.
#[derive(Clone, Debug)]
pub struct Resource {
    entity: Entity,
    uid: EntityUid,
}

impl Resource {
    /// A namespace, or what is not there in it.
    pub fn namespace(of: Namespace) -> Self {
        let uid = namespace(of);
        Self { entity: Entity::new_no_attrs(uid.clone(), HashSet::new()), uid }
    }

    /// A key or a secret.
    ///
    /// # Errors
    /// [`Unaskable`].
    pub fn object(facts: &ObjectFacts) -> Result<Self, Unaskable> {
        let uid = Kind::Object.uid(&facts.id);
        let owner = facts.owner.as_ref().map(|id| ("owner", Kind::Principal.uid(id)));
        let group = facts.group.as_ref().map(|id| ("group", Kind::Group.uid(id)));
        let somebodys =
            owner.into_iter().chain(group).map(|(name, uid)| (name, RestrictedExpression::new_entity_uid(uid)));
        let attributes = [
            ("kind", text(&facts.kind)),
            ("spec", text(&facts.spec)),
            ("usage", texts(&facts.usage)),
            ("origin", text(&facts.origin)),
            ("exportable", text(&facts.exportable)),
            ("names", texts(&facts.names)),
        ];
        let attributes = attributes.into_iter().chain(somebodys).collect();
        Ok(Self { entity: entity(&uid, attributes, [namespace(facts.namespace)], &facts.tags)?, uid })
    }
}

/// One question, in Cedar's form.
pub struct Request {
    pub(crate) request: CedarRequest,
    pub(crate) entities: Entities,
}

impl Request {
    /// Asks whether `principal` may do `action` to `resource`. Of the context it holds what is looked at: `reads` of the slice.
    ///
    /// # Errors
    /// [`Unaskable`].
    pub fn new(
        principal: &Principal,
        action: Action,
        resource: &Resource,
        context: &Context,
        reads: &Reads,
    ) -> Result<Self, Unaskable> {
        let done = Kind::Action.uid(action.as_str());
        let roles = Role::of(action).iter().map(|role| role.as_str());
        let parents = roles.chain([group_name(action.group())]).map(|name| Kind::Action.uid(name)).collect();
        let mut known = vec![principal.entity.clone(), Entity::new_no_attrs(done.clone(), parents)];
        // A namespace may be one that the caller is in, no principal is.
        known.push(resource.entity.clone());
        let pairs = context.fields(reads, &mut known)?;
        let context = CedarContext::from_pairs(pairs).map_err(unaskable)?;
        let request =
            CedarRequest::new(principal.uid.clone(), done, resource.uid.clone(), context, None).map_err(unaskable)?;
        let entities = Entities::from_entities(known, None).map_err(unaskable)?;
        Ok(Self { request, entities })
    }
}

impl Context {
    /// The attributes that are looked at; the pairs among them are entities.
    fn fields(&self, reads: &Reads, known: &mut Vec<Entity>) -> Result<Vec<(String, RestrictedExpression)>, Unaskable> {
        let mut fields = Vec::new();
        for name in reads.iter() {
            let value = match name {
                "door" => Some(text(&self.door)),
                "ip" => self.ip.map(|ip| RestrictedExpression::new_ip(ip.to_string())),
                "now" => self.now_ms.map(|ms| RestrictedExpression::new_datetime(moment(ms))),
                "aad" => pairs("aad", self.aad.as_ref(), known)?,
                "aadKeys" => self.aad.as_ref().map(|aad| texts(aad.keys())),
                "tags" => pairs("tags", self.tags.as_ref(), known)?,
                "algorithm" => self.algorithm.as_deref().map(text),
                "alias" => self.alias.as_deref().map(text),
                "days" => self.days.map(|days| RestrictedExpression::new_long(days.into())),
                "wrapping" => self.wrapping.as_deref().map(text),
                "grant" => self.grant.as_ref().map(GrantFacts::record).transpose()?,
                _ => None,
            };
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(fields)
    }
}

impl GrantFacts {
    fn record(&self) -> Result<RestrictedExpression, Unaskable> {
        let fields = [
            ("operations", texts(&self.operations)),
            ("grantee", text(&self.grantee)),
            ("hasConstraint", RestrictedExpression::new_bool(self.has_constraint)),
        ];
        RestrictedExpression::new_record(fields.map(|(name, value)| (name.to_owned(), value))).map_err(unaskable)
    }
}

fn namespace(of: Namespace) -> EntityUid {
    Kind::Namespace.uid(&of.0.to_string())
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn texts<'a>(of: impl IntoIterator<Item = &'a String>) -> RestrictedExpression {
    RestrictedExpression::new_set(of.into_iter().map(|one| text(one)))
}

fn pairs(id: &str, of: Option<&Pairs>, known: &mut Vec<Entity>) -> Result<Option<RestrictedExpression>, Unaskable> {
    let Some(pairs) = of else { return Ok(None) };
    let uid = Kind::Pairs.uid(id);
    known.push(entity(&uid, Vec::new(), [], pairs)?);
    Ok(Some(RestrictedExpression::new_entity_uid(uid)))
}

fn entity(
    uid: &EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    parents: impl IntoIterator<Item = EntityUid>,
    tags: &Pairs,
) -> Result<Entity, Unaskable> {
    let attributes: HashMap<_, _> = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let tags = tags.iter().map(|(name, value)| (name.clone(), text(value)));
    Entity::new_with_tags(uid.clone(), attributes, parents, tags).map_err(unaskable)
}

/// As Cedar's `datetime` reads it; no later than the year 9999.
fn moment(ms: u64) -> String {
    const LAST_MS: u64 = 253_402_300_799_999;
    let ms = ms.min(LAST_MS);
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // The civil date of a day (Hinnant, "chrono-compatible low-level date algorithms"): years begin in March, eras have 400 years.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", of_day / 1000 % 60, of_day % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_cedar_reads_it() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(moment(ms), expected);
        }
    }
}
