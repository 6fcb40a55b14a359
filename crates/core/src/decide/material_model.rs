//! Decisions about material against a model: random histories of imports, ends, rotations, purges, backups and restores.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::import::TokenFor;
use super::model::{Store, TestIds, admin, duty, plain_create};
use super::*;
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::{KeyState, Row, VersionState};
use crate::record::{Due, DueRecord, Imported, KeyVersionRecord};
use crate::request::{DeletionWindow, Description, KeyHandle, Part, Tags};
use crate::time::Time;

const MINUTE: u64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    /// `names_itself`: its ciphertexts name it, so that no double of it is any good.
    Create {
        external: bool,
        names_itself: bool,
    },
    Import {
        key: Nth,
        version: u32,
        material: u8,
        minutes: Option<u64>,
    },
    ImportNew {
        key: Nth,
        material: u8,
        minutes: Option<u64>,
    },
    DeleteMaterial {
        key: Nth,
        version: u32,
    },
    DestroyVersion {
        key: Nth,
        version: u32,
    },
    Rotate(Nth),
    Enable(Nth),
    Disable(Nth),
    Schedule(Nth),
    Cancel(Nth),
    Purge(Nth),
    BackUp {
        key: Nth,
        late: bool,
    },
    Restore(Nth),
    Minutes(u64),
    Duty,
}
type Nth = prop::sample::Index;

fn step() -> impl Strategy<Value = Step> {
    let nth = any::<Nth>;
    let minutes = || proptest::option::weighted(0.4, 0..40u64);
    prop_oneof![
        2 => any::<(bool, bool)>().prop_map(|(external, names_itself)| Step::Create { external, names_itself }),
        6 => (nth(), 0..4u32, 1..4u8, minutes())
            .prop_map(|(key, version, material, minutes)| Step::Import { key, version, material, minutes }),
        4 => (nth(), 1..4u8, minutes()).prop_map(|(key, material, minutes)| Step::ImportNew { key, material, minutes }),
        2 => (nth(), 0..4u32).prop_map(|(key, version)| Step::DeleteMaterial { key, version }),
        1 => (nth(), 1..4u32).prop_map(|(key, version)| Step::DestroyVersion { key, version }),
        3 => nth().prop_map(Step::Rotate),
        2 => nth().prop_map(Step::Enable),
        1 => nth().prop_map(Step::Disable),
        3 => nth().prop_map(Step::Schedule),
        1 => nth().prop_map(Step::Cancel),
        3 => nth().prop_map(Step::Purge),
        3 => (nth(), prop::bool::weighted(0.2)).prop_map(|(key, late)| Step::BackUp { key, late }),
        3 => nth().prop_map(Step::Restore),
        2 => prop_oneof![1..30u64, Just(200)].prop_map(Step::Minutes),
        2 => Just(Step::Duty),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Plain {
    external: bool,
    names_itself: bool,
    state: KeyState,
    current: u32,
    /// From the first.
    versions: Vec<Version>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Version {
    /// Which it is; 0 = none that anybody brought.
    material: u8,
    here: bool,
    /// When it is erased, or was; 0 = never.
    ends: u64,
    destroyed: bool,
}

impl Plain {
    fn waits(&self) -> Option<u64> {
        if let KeyState::PendingDeletion { at_ms, .. } = self.state { Some(at_ms) } else { None }
    }
    /// What a row that goes neither while it waits for its destruction, nor without material, nor disabled, is refused with.
    fn refuses(&self, id: KeyId, row: Row, now: Time) -> Result<(), Refusal> {
        let standing = crate::lifecycle::Standing { state: KeyState::Enabled, missing: false, archived: false };
        let goes = |standing| row.goes(standing).is_ok();
        match self.waits() {
            Some(at_ms) if !goes(crate::lifecycle::Standing { state: self.state, ..standing }) => {
                Err(Refusal::PendingDeletion { key: id, at_ms })
            }
            _ if self.lacks(now) && !goes(crate::lifecycle::Standing { missing: true, ..standing }) => {
                Err(Refusal::MaterialMissing(id))
            }
            _ if self.state == KeyState::Disabled
                && !goes(crate::lifecycle::Standing { state: KeyState::Disabled, ..standing }) =>
            {
                Err(Refusal::Disabled(id))
            }
            _ => Ok(()),
        }
    }
    fn lacks(&self, now: Time) -> bool {
        let counted = self.versions.iter().take(self.current as usize).filter(|version| !version.destroyed);
        self.external && counted.into_iter().any(|version| !version.here || now.ended(version.ends))
    }
    /// Which version waits for a rotation, counted from 0.
    fn waiting(&self) -> Option<usize> {
        (self.current as usize..self.versions.len()).find(|n| !self.versions[*n].destroyed)
    }
    fn state_of(&self, number: u32) -> VersionState {
        match self.versions[number as usize - 1] {
            Version { destroyed: true, .. } => VersionState::Destroyed,
            // Where outputs don't name their version, a rotation retires none.
            _ if number < self.current && self.names_itself => VersionState::Deactivated,
            _ if number <= self.current => VersionState::Active,
            _ => VersionState::PreActive,
        }
    }
    /// A version, for a row that looks at its state; 0 = the current one.
    fn version(&self, id: KeyId, number: u32, row: Row) -> Result<usize, Refusal> {
        let number = if number == 0 { self.current } else { number };
        let version = KeyVersion::new(number).unwrap();
        if number as usize > self.versions.len() {
            return Err(Refusal::NoVersion(id, version));
        }
        match row.cell(self.state_of(number)) {
            crate::lifecycle::Cell::No => Err(Refusal::VersionState(id, version, row, self.state_of(number))),
            _ => Ok(number as usize - 1),
        }
    }
}

/// A backup: what was read, and what it was in plain words.
struct Saved {
    key: KeyRecord,
    versions: Vec<KeyVersionRecord>,
    plain: Plain,
}

#[derive(Default)]
struct World {
    store: Store,
    ids: TestIds,
    keys: BTreeMap<KeyId, Plain>,
    order: Vec<KeyId>,
    saved: Vec<Saved>,
    now: u64,
}

impl World {
    fn time(&self) -> Time {
        Time { cluster_ms: self.now, local_ms: self.now + 3 }
    }
    fn commit<D: Decide>(&mut self, request: &D) -> Result<D::Answer, Refusal> {
        let time = self.time();
        self.store.commit(&admin(), &self.ids, time, request)
    }
    fn nth(&self, nth: &Nth) -> Option<KeyId> {
        (!self.order.is_empty()).then(|| self.order[nth.index(self.order.len())])
    }
    fn record<K>(&self, name: RecordName, of: impl Fn(Record) -> Option<K>) -> Option<K> {
        self.store.0.get(&name).and_then(|body| of(Record::decode(&name, body).expect("written by encode")))
    }
    fn key(&self, id: KeyId) -> Option<KeyRecord> {
        self.record(RecordName::Key(id), |record| if let Record::Key(key) = record { Some(key) } else { None })
    }
    fn head(&self, id: KeyId, number: u32) -> Option<KeyVersionRecord> {
        let name = RecordName::KeyVersion((id, KeyVersion::new(number)?));
        self.record(name, |record| if let Record::KeyVersion(head) = record { Some(head) } else { None })
    }

    /// What the model says of a request about one key, beside what was answered: refused alike, or done, and then so changed.
    fn agree<A: std::fmt::Debug + PartialEq>(
        &mut self,
        id: KeyId,
        answer: Result<A, Refusal>,
        rule: Result<(), Refusal>,
        change: impl FnOnce(&mut Plain),
    ) {
        match rule {
            Ok(()) => {
                answer.expect("nothing speaks against it");
                change(self.keys.get_mut(&id).expect("it was judged"));
            }
            Err(refusal) => assert_eq!(answer.map(drop), Err(refusal)),
        }
    }

    fn play(&mut self, step: &Step) {
        let key = match step {
            Step::Create { external, names_itself } => return self.create(*external, *names_itself),
            Step::Restore(nth) => return self.restore(nth),
            Step::Minutes(minutes) => return self.now += minutes * MINUTE,
            Step::Duty => return self.duty(),
            Step::Import { key, .. } | Step::ImportNew { key, .. } | Step::DeleteMaterial { key, .. } => key,
            Step::DestroyVersion { key, .. } | Step::BackUp { key, .. } => key,
            Step::Rotate(key) | Step::Enable(key) | Step::Disable(key) => key,
            Step::Schedule(key) | Step::Cancel(key) | Step::Purge(key) => key,
        };
        let Some(id) = self.nth(key) else { return };
        let (key, time) = (KeyHandle::Id(id), self.time());
        let Some(plain) = self.keys.get(&id).cloned() else {
            // Of what is gone nobody hears anything else.
            let refused = self.commit(&Enable { key: key.clone() }).map(drop);
            return assert_eq!(refused, Err(Refusal::KeyNotFound(key)));
        };
        let external = if plain.external { Ok(()) } else { Err(Refusal::NotExternal(id)) };
        match *step {
            Step::Import { version, material, minutes, .. } => {
                let ends = minutes.map_or(0, |minutes| self.now + minutes * MINUTE);
                let into = ImportInto::Version(KeyVersion::new(version));
                let answer = self.import(id, into, material, ends);
                let place = external
                    .and_then(|()| plain.refuses(id, Row::Import, time))
                    .and_then(|()| plain.version(id, version, Row::Import));
                let place = match place {
                    Ok(_) if time.ended(ends) => return invalid(answer, Part::Date),
                    Ok(place) if ![0, material].contains(&plain.versions[place].material) => {
                        Err(Refusal::WrongMaterial(id, KeyVersion::new(place as u32 + 1).unwrap()))
                    }
                    other => other,
                };
                let at = place.clone().unwrap_or_default();
                self.agree(id, answer, place.map(drop), |plain| {
                    plain.versions[at] = Version { material, here: true, ends, ..plain.versions[at] };
                });
            }
            Step::ImportNew { material, minutes, .. } => {
                let ends = minutes.map_or(0, |minutes| self.now + minutes * MINUTE);
                let answer = self.import(id, ImportInto::New, material, ends);
                let goes = external
                    .and_then(|()| plain.refuses(id, Row::Import, time))
                    .and_then(|()| if plain.lacks(time) { Err(Refusal::MaterialMissing(id)) } else { Ok(()) });
                let place = plain.waiting().unwrap_or(plain.versions.len());
                let mut others = plain.versions.iter().enumerate().filter(|(n, _)| *n != place);
                if goes.is_ok() && others.any(|(_, version)| version.material == material) {
                    return invalid(answer, Part::Material);
                }
                if goes.is_ok() && time.ended(ends) {
                    return invalid(answer, Part::Date);
                }
                self.agree(id, answer, goes, |plain| {
                    plain.versions.resize(plain.versions.len().max(place + 1), Version::default());
                    plain.versions[place] = Version { material, here: true, ends, destroyed: false };
                });
            }
            Step::DeleteMaterial { version, .. } => {
                let answer = self.commit(&DeleteMaterial { key, version: KeyVersion::new(version) });
                let place = external
                    .and_then(|()| plain.refuses(id, Row::DeleteMaterial, time))
                    .and_then(|()| plain.version(id, version, Row::DeleteMaterial));
                let at = place.clone().unwrap_or_default();
                self.agree(id, answer, place.map(drop), |plain| {
                    plain.versions[at] = Version { here: false, ends: 0, ..plain.versions[at] };
                });
            }
            Step::DestroyVersion { version, .. } => {
                let number = KeyVersion::new(version).unwrap();
                let answer = self.commit(&DestroyVersion { key, version: number });
                let place = plain
                    .refuses(id, Row::DestroyVersion, time)
                    .and_then(|()| plain.version(id, version, Row::DestroyVersion));
                let at = place.clone().unwrap_or_default();
                self.agree(id, answer, place.map(drop), |plain| {
                    plain.versions[at] = Version { here: false, destroyed: true, ..plain.versions[at] };
                });
            }
            Step::Rotate(_) => {
                let answer = self.commit(&Rotate { key, token: None });
                let next = plain.versions.last().filter(|_| plain.versions.len() > plain.current as usize).copied();
                let goes = plain
                    .refuses(id, Row::Rotate, time)
                    .and_then(|()| plain.version(id, 0, Row::Rotate).map(drop))
                    .and_then(|()| match next {
                        _ if !plain.external => Ok(()),
                        None | Some(Version { destroyed: true, .. }) => Err(Refusal::NothingToRotateTo(id)),
                        Some(next) if !next.here || time.ended(next.ends) => Err(Refusal::MaterialMissing(id)),
                        Some(_) => Ok(()),
                    });
                self.agree(id, answer, goes, |plain| {
                    if !plain.external {
                        plain.versions.push(Version { here: true, ..Version::default() });
                    }
                    plain.current = plain.versions.len() as u32;
                });
            }
            Step::Enable(_) | Step::Disable(_) => {
                let (answer, state) = match step {
                    Step::Enable(_) => (self.commit(&Enable { key }), KeyState::Enabled),
                    _ => (self.commit(&Disable { key }), KeyState::Disabled),
                };
                self.agree(id, answer, plain.refuses(id, Row::Enable, time), |plain| plain.state = state);
            }
            Step::Schedule(_) => {
                let window = DeletionWindow::from_days(7).unwrap();
                let answer = self.commit(&ScheduleDeletion { key, window });
                let state = answer.as_ref().map(|key| key.state);
                self.agree(id, answer.clone(), plain.refuses(id, Row::ScheduleDeletion, time), |plain| {
                    plain.state = state.unwrap();
                });
            }
            Step::Cancel(_) => {
                let answer = self.commit(&CancelDeletion { key, as_before: false });
                let goes = plain.waits().map(drop).ok_or(Refusal::NotPendingDeletion(id));
                self.agree(id, answer, goes, |plain| plain.state = KeyState::Disabled);
            }
            Step::Purge(_) => {
                let answer = self.commit(&Purge { key });
                let goes = plain.waits().map(drop).ok_or(Refusal::NotPendingDeletion(id));
                let gone = goes.is_ok();
                self.agree(id, answer, goes, |_| {});
                if gone {
                    self.keys.remove(&id);
                }
            }
            Step::BackUp { late, .. } => {
                let read = self.key(id).expect("it is there");
                let heads = (1..=read.newest.get()).map(|n| self.head(id, n).expect("each is there")).collect();
                if late {
                    // Somebody changes the key between the reading and the note: the backup is not what it is.
                    let _ = self.commit(&Tag { key, tags: Tags::new([("n".into(), self.now.to_string())]).unwrap() });
                }
                let goes = plain.refuses(id, Row::Update, time);
                let stale = self.key(id) != Some(read.clone());
                let answer = self.commit(&MarkBackedUp { read: read.clone() });
                assert_eq!(answer, goes.clone().map(|()| !stale));
                if goes.is_ok() && !stale {
                    self.saved.push(Saved { key: read, versions: heads, plain });
                }
            }
            Step::Create { .. } | Step::Restore(_) | Step::Minutes(_) | Step::Duty => unreachable!("done above"),
        }
    }

    fn create(&mut self, external: bool, names_itself: bool) {
        let spec = if names_itself { KeySpec::Aes256 } else { KeySpec::P256 };
        let kind = NewKind::new(spec, None, None).unwrap();
        let source = if external { Source::Import } else { Source::Fresh };
        let wanted = Create { kind, source, ..plain_create(None) };
        let id = self.commit(&wanted).unwrap().id;
        let first = Version { here: !external, ..Version::default() };
        let (state, versions) = (KeyState::Enabled, vec![first]);
        self.keys.insert(id, Plain { external, names_itself, state, current: 1, versions });
        self.order.push(id);
    }

    fn import(&mut self, id: KeyId, into: ImportInto, material: u8, ends: u64) -> Result<(), Refusal> {
        let token = TokenFor { key: id, expires_ms: self.now + 1000 * MINUTE };
        let (key, material_id, expires_ms) = (KeyHandle::Id(id), [material; 32], Some(ends));
        self.commit(&ImportMaterial { key, into, token, material_id, expires_ms }).map(drop)
    }

    fn restore(&mut self, nth: &Nth) {
        if self.saved.is_empty() {
            return;
        }
        let at = nth.index(self.saved.len());
        let Saved { key, versions, plain } = &self.saved[at];
        let (key, versions, mut plain) = (key.clone(), versions.clone(), plain.clone());
        let (id, time) = (key.id, self.time());
        let request = Restore {
            key,
            description: Description::default(),
            versions,
            without_name: false,
            hash: [at as u8; 32],
            token: None,
        };
        let answer = self.commit(&request);
        let original = self.keys.get(&id);
        // A double of a key that its ciphertexts name opens nothing.
        if original.is_some() && plain.names_itself {
            assert_eq!(answer, Err(Refusal::RestoreTaken(id)));
            return;
        }
        for (n, version) in plain.versions.iter_mut().enumerate() {
            let since = original.and_then(|original| original.versions.get(n));
            version.destroyed |= since.is_some_and(|since| since.destroyed && since.material == version.material);
            version.here &= !version.destroyed && !time.ended(version.ends);
        }
        plain.state = KeyState::Disabled;
        let back = answer.expect("nothing speaks against it");
        assert_eq!(back.id == id, original.is_none(), "its own id, if that is free");
        assert!(self.keys.insert(back.id, plain).is_none());
        if !self.order.contains(&back.id) {
            self.order.push(back.id);
        }
    }

    /// What falls due is done: ends of material, destructions.
    fn duty(&mut self) {
        let dues: Vec<_> = self.store.0.keys().cloned().collect();
        for name in dues {
            let RecordName::Due((hour, what)) = name else { continue };
            match what {
                Due::Material(id, number) => {
                    let time = duty(self.now);
                    match self.store.run(|facts| expire::decide(facts, hour, (id, number), time)) {
                        Ok(_) => {}
                        Err(Refusal::NotDue { at_ms, .. }) => assert!(at_ms > self.now),
                        Err(e) => panic!("{e}"),
                    }
                }
                Due::Deletion(id) => {
                    while self.store.destroy(hour, id, duty(self.now)) == Ok(destroy::Progress::More) {}
                }
                Due::Rotation(_) => unreachable!("nobody asked for it"),
            }
        }
        let now = self.now;
        let is_due = |plain: &Plain| plain.waits().is_some_and(|at_ms| at_ms <= now);
        self.keys.retain(|_, plain| !is_due(plain));
        for version in self.keys.values_mut().flat_map(|plain| &mut plain.versions) {
            version.here &= version.ends == 0 || version.ends > now;
        }
    }

    /// The records say what the model says.
    fn check(&self) {
        for (id, plain) in &self.keys {
            let key = self.key(*id).expect("it is there");
            let heads: Vec<_> = (1..=key.newest.get()).map(|n| self.head(*id, n).expect("each is there")).collect();
            let versions = heads.iter().map(|head| Version {
                material: head.material_id[0],
                here: head.has_material,
                ends: head.life.dates.material_expires,
                destroyed: head.life.dates.destroyed != 0,
            });
            let is = Plain {
                external: key.origin.imported().is_some(),
                names_itself: key.spec == KeySpec::Aes256,
                state: key.state,
                current: key.current.get(),
                versions: versions.collect(),
            };
            assert_eq!(is, *plain);
            let counted = heads.iter().filter(|head| head.version <= key.current);
            assert_eq!(key.origin.imported(), plain.external.then(|| Imported::of(counted)), "what the uses go by");
            for head in heads.iter().filter(|head| head.has_material && head.life.dates.material_expires != 0) {
                let due = (DueRecord::hour(head.life.dates.material_expires), Due::Material(*id, head.version));
                assert!(self.store.has(&RecordName::Due(due)), "nobody would erase it");
            }
        }
        for name in self.store.0.keys() {
            if let RecordName::Key(id) = name
                && !self.keys.contains_key(id)
            {
                assert_eq!(self.key(*id).map(|key| key.state), Some(KeyState::Destroyed));
            }
        }
    }
}

#[track_caller]
fn invalid(answer: Result<(), Refusal>, part: Part) {
    let Err(refusal) = answer else { panic!("{part:?} is wrong, and it was done") };
    assert_eq!(refusal.part(), Some(part), "{refusal}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn material_comes_and_goes_as_the_model_says(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World { now: 1_800_000_000_000, ..World::default() };
        for step in &steps {
            let before = world.store.0.clone();
            let known = world.keys.clone();
            world.play(step);
            world.check();
            let silent = !matches!(step, Step::BackUp { .. } | Step::Duty);
            prop_assert!(!silent || world.keys != known || world.store.0 == before, "{:?} changed more than it says", step);
        }
    }
}
