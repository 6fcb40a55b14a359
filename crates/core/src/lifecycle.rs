//! The states of a key and of its versions, in the terms of NIST SP 800-57 part 1 §7, and which verb goes in which (key-model §2).
//!
//! Two axes. The *key* is available or not: one that is disabled, archived, waits for its destruction or lacks material may
//! neither protect nor process. Its *versions* age: they become active, are deactivated, which means that they process
//! (decrypt, verify) what they protected and protect nothing new, may be compromised, and are destroyed. A version's state
//! follows from its dates and its key's floors, so it is not stored.

use crate::codec::{Malformed, Reader, Writer};
use crate::time::Time;

/// The state of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyState {
    /// May be used.
    Enabled,
    /// May not be used, until enabled again (SP 800-57: suspended).
    Disabled,
    /// May not be used, and is destroyed when cluster time reaches `at_ms`, unless cancelled before.
    PendingDeletion {
        /// When it falls due: milliseconds since 1970, cluster time.
        at_ms: u64,
        /// When that was asked for (display time, ms since 1970).
        since_ms: u64,
        /// Whether it was enabled then.
        was_enabled: bool,
    },
    /// Its material is being destroyed or is destroyed; there is no way back. The record itself goes when the last
    /// version has gone.
    Destroyed,
}

/// The state of one version of an existing key (KMIP 2.1 §4.57).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VersionState {
    /// Is not for use yet.
    PreActive,
    /// Protects and processes.
    Active,
    /// Processes only: it was rotated out, or its time is over.
    Deactivated,
    /// Somebody else may know its material: processes only, for who may do even that.
    Compromised,
    /// Its material is gone.
    Destroyed,
    /// Likewise, and somebody else may know it.
    DestroyedCompromised,
}

impl VersionState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::PreActive,
        Self::Active,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
        Self::DestroyedCompromised,
    ];

    /// As shown to people and clients.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
            Self::DestroyedCompromised => "destroyed-compromised",
        }
    }
}

/// The dates of a version: milliseconds since 1970, cluster time; 0 = none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Dates {
    /// From when it may be used at all; none = not before somebody activates it.
    pub activation: u64,
    /// From when it may protect (Azure: nbf).
    pub protect_start: u64,
    /// From when it may process.
    pub process_start: u64,
    /// Until when it may protect (Azure: exp).
    pub protect_stop: u64,
    /// From when it is deactivated.
    pub deactivation: u64,
    /// From when it is to be taken for compromised.
    pub compromise: u64,
    /// When its material was destroyed.
    pub destroyed: u64,
    /// When its material, which was imported, goes.
    pub material_expires: u64,
}

impl Dates {
    /// Active from `at_ms` on, without an end.
    pub fn active_from(at_ms: u64) -> Self {
        Self { activation: at_ms, ..Self::default() }
    }

    const fn all(&self) -> [u64; 8] {
        [
            self.activation,
            self.protect_start,
            self.process_start,
            self.protect_stop,
            self.deactivation,
            self.compromise,
            self.destroyed,
            self.material_expires,
        ]
    }

    /// Which there are, a bit each, and those.
    pub(crate) fn write(&self, to: Writer) -> Writer {
        let there = self.all().into_iter().enumerate().filter(|(_, at_ms)| *at_ms != 0);
        let bits = there.clone().fold(0, |bits, (n, _)| bits | 1 << n);
        there.fold(to.u8(bits), |to, (_, at_ms)| to.u64(at_ms))
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bits = from.u8()?;
        let mut date = |n: u8| match bits >> n & 1 {
            0 => Ok(0),
            _ => from.u64().and_then(|at_ms| if at_ms == 0 { Err(Malformed("date of a version")) } else { Ok(at_ms) }),
        };
        Ok(Self {
            activation: date(0)?,
            protect_start: date(1)?,
            process_start: date(2)?,
            protect_stop: date(3)?,
            deactivation: date(4)?,
            compromise: date(5)?,
            destroyed: date(6)?,
            material_expires: date(7)?,
        })
    }
}

/// What decides about a version's uses, and is changed with time or by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// Its dates.
    pub dates: Dates,
    /// Whether it may be used (Azure: enabled).
    pub enabled: bool,
    /// When this was last changed (display time, ms since 1970): what somebody set to begin, or to end, "now" has done so,
    /// although cluster time lags, and stays so, although it may be set back.
    pub updated_ms: u64,
}

impl Life {
    /// Of a new version that is active at once.
    pub fn new(at_ms: u64) -> Self {
        Self { dates: Dates::active_from(at_ms), enabled: true, updated_ms: at_ms }
    }

    fn begun(&self, at_ms: u64, now: Time) -> bool {
        at_ms <= now.cluster_ms.max(self.updated_ms)
    }

    /// Whether what ends at `at_ms` has ended; 0 = it has no end.
    pub fn ended(&self, at_ms: u64, now: Time) -> bool {
        now.ended(at_ms) || at_ms != 0 && at_ms <= self.updated_ms
    }

    /// Its state; `retired` = it is below its key's floor for protection.
    pub fn state(&self, retired: bool, now: Time) -> VersionState {
        let dates = &self.dates;
        let compromised = dates.compromise != 0 && self.begun(dates.compromise, now);
        match (dates.destroyed != 0, compromised) {
            (true, true) => VersionState::DestroyedCompromised,
            (true, false) => VersionState::Destroyed,
            (false, true) => VersionState::Compromised,
            (false, false) if retired || self.ended(dates.deactivation, now) => VersionState::Deactivated,
            (false, false) if dates.activation == 0 || !self.begun(dates.activation, now) => VersionState::PreActive,
            (false, false) => VersionState::Active,
        }
    }
}

/// Why something is not possible, from the state alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoWay {
    /// The key is disabled.
    Disabled,
    /// The key waits for its destruction.
    PendingDeletion {
        /// When it falls due, cluster time, ms.
        at_ms: u64,
    },
    /// The key is destroyed.
    Destroyed,
    /// The key is archived.
    Archived,
    /// The key's material was not imported, was deleted, or its time is over.
    MaterialMissing,
    /// The version is disabled.
    VersionDisabled,
    /// The version is in a state in which verbs of that row can't be done.
    Version(Row, VersionState),
    /// The version may do this only from then on, ms.
    NotYet {
        /// Cluster time, ms.
        at_ms: u64,
    },
    /// The version could do this only until then.
    Ended {
        /// Cluster time, ms.
        at_ms: u64,
    },
}

/// Whether a verb goes in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// It does.
    Goes,
    /// It does not.
    No,
    /// For who may process what is compromised.
    IfTrusted,
}

macro_rules! rows {
    ($($(#[$doc:meta])* $row:ident [$($key:tt)+] [$($version:tt)+];)+) => {
        /// The verbs, those together that go in the same states.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Row {
            $($(#[$doc])* $row,)+
        }

        impl Row {
            /// Every row.
            pub const ALL: &'static [Self] = &[$(Self::$row,)+];

            /// In which states of a key: waiting for its destruction, without its material, archived, disabled.
            const fn of_key(self) -> [Cell; 4] {
                match self { $(Self::$row => [$(rows!(@$key),)+],)+ }
            }
            /// In which states of the version that is addressed: pre-active, active, deactivated, compromised, destroyed.
            const fn of_version(self) -> [Cell; 5] {
                match self { $(Self::$row => [$(rows!(@$version),)+],)+ }
            }
        }
    };
    (@x) => { Cell::No };
    (@o) => { Cell::Goes };
    (@t) => { Cell::IfTrusted };
}

// key-model §2.4, read against it cell by cell by a test.
rows! {
    //                  pending missing archived disabled    pre-active active deactivated compromised destroyed
    /// Encrypt, sign, MAC, wrap, data keys, key agreement, encapsulate, derive.
    Protect            [x       x       x        x]         [x         o      x           x           x];
    /// Decrypt, verify, verify a MAC, unwrap, decapsulate.
    Process            [x       x       x        x]         [x         o      o           t           x];
    /// Read a secret. (Its dates tell, and forbid nothing.)
    ReadSecret         [x       x       x        x]         [o         o      o           t           x];
    /// The public key.
    PublicKey          [x       x       x        x]         [o         o      o           o           o];
    /// Describe, list.
    Describe           [o       o       o        o]         [o         o      o           o           o];
    /// Tags, description, what belongs to a version.
    Update             [x       o       x        o]         [o         o      o           o           o];
    /// Enable, disable. (key-model has a cross at "destroyed": but a key of whose versions only the current one is destroyed still
    /// opens what the others made, and must be possible to disable.)
    Enable             [x       x       o        o]         [o         o      o           o           o];
    /// Rotate.
    Rotate             [x       x       x        x]         [x         o      o           o           x];
    /// Give a secret another value.
    AddVersion         [x       o       x        x]         [o         o      o           o           o];
    /// Replace the key by a new one.
    Rekey              [x       o       x        x]         [o         o      o           o           x];
    /// Activate a version.
    Activate           [x       x       x        o]         [o         x      x           x           x];
    /// Deactivate a version.
    Deactivate         [x       o       x        o]         [x         o      o           o           x];
    /// Tell that a version is compromised.
    Compromise         [o       o       x        o]         [o         o      o           o           o];
    /// Destroy a version at once.
    DestroyVersion     [x       o       x        o]         [o         x      o           o           x];
    /// Have the key destroyed on a later day.
    ScheduleDeletion   [x       o       o        o]         [o         o      o           o           o];
    /// Give it a name.
    Name               [x       o       o        o]         [o         o      o           o           o];
    /// Export its material.
    Export             [x       x       x        x]         [o         o      o           o           x];
    /// Import its material.
    Import             [x       o       x        o]         [o         o      o           x           x];
    /// Delete its material, until it is imported again.
    DeleteMaterial     [o       o       x        o]         [o         o      o           o           x];
    /// Put it into the archive.
    Archive            [x       o       x        o]         [o         o      o           o           x];
    /// Get it back from there.
    Recover            [x       o       o        o]         [o         o      o           o           x];
}

/// What of a key decides which verbs go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its state.
    pub state: KeyState,
    /// Whether it is not used for want of material.
    pub missing: bool,
    /// Whether it is archived.
    pub archived: bool,
}

impl Row {
    /// Whether it goes while the key stands so; destroyed, nothing does.
    ///
    /// # Errors
    /// [`NoWay`].
    pub fn goes(self, key: Standing) -> Result<(), NoWay> {
        let [pending, without, put_away, disabled] = self.of_key();
        match key.state {
            KeyState::Destroyed => Err(NoWay::Destroyed),
            KeyState::PendingDeletion { at_ms, .. } if pending == Cell::No => Err(NoWay::PendingDeletion { at_ms }),
            _ if key.missing && without == Cell::No => Err(NoWay::MaterialMissing),
            _ if key.archived && put_away == Cell::No => Err(NoWay::Archived),
            KeyState::Disabled if disabled == Cell::No => Err(NoWay::Disabled),
            _ => Ok(()),
        }
    }

    /// Whether it goes with a version in that state.
    pub const fn cell(self, state: VersionState) -> Cell {
        let [pre_active, active, deactivated, compromised, destroyed] = self.of_version();
        match state {
            VersionState::PreActive => pre_active,
            VersionState::Active => active,
            VersionState::Deactivated => deactivated,
            VersionState::Compromised => compromised,
            VersionState::Destroyed | VersionState::DestroyedCompromised => destroyed,
        }
    }

    /// Whether it goes with a version that lives so, by `now`; `retired` as in [`Life::state`]. [`Cell::IfTrusted`]: it is left
    /// to ask whether the caller is.
    ///
    /// # Errors
    /// [`NoWay`].
    pub fn goes_with(self, life: &Life, retired: bool, now: Time) -> Result<Cell, NoWay> {
        let is_use = matches!(self, Self::Protect | Self::Process | Self::ReadSecret);
        if is_use && !life.enabled {
            return Err(NoWay::VersionDisabled);
        }
        let state = life.state(retired, now);
        let dates = &life.dates;
        let cell = match (self.cell(state), state) {
            (Cell::No, VersionState::PreActive) if is_use && dates.activation != 0 => {
                return Err(NoWay::NotYet { at_ms: dates.activation });
            }
            (Cell::No, _) => return Err(NoWay::Version(self, state)),
            (cell, _) => cell,
        };
        let start = match self {
            Self::Protect => dates.protect_start.max(dates.process_start),
            Self::Process => dates.process_start,
            _ => 0,
        };
        if !life.begun(start, now) {
            return Err(NoWay::NotYet { at_ms: start });
        }
        if (is_use || self == Self::Export) && life.ended(dates.material_expires, now) {
            return Err(NoWay::MaterialMissing);
        }
        if self == Self::Protect && life.ended(dates.protect_stop, now) {
            return Err(NoWay::Ended { at_ms: dates.protect_stop });
        }
        Ok(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time { cluster_ms: 1000, local_ms: 1003 };
    const PENDING: KeyState = KeyState::PendingDeletion { at_ms: 9, since_ms: 1, was_enabled: true };

    /// The lines of key-model §2.4, as they stand there: pending deletion, missing material, archived, disabled, pre-active,
    /// deactivated, compromised, destroyed.
    #[test]
    fn the_table() {
        use Row::*;
        let table = [
            (Protect, "x x x x x x x x"),
            (Process, "x x x x x o t x"),
            (ReadSecret, "x x x x o o t x"),
            (PublicKey, "x x x x o o o o"),
            (Describe, "o o o o o o o o"),
            (Update, "x o x o o o o o"),
            (Enable, "x x o o o o o o"),
            (Rotate, "x x x x x o o x"),
            (AddVersion, "x o x x o o o o"),
            (Rekey, "x o x x o o o x"),
            (Activate, "x x x o o x x x"),
            (Deactivate, "x o x o x o o x"),
            (Compromise, "o o x o o o o o"),
            (DestroyVersion, "x o x o o o o x"),
            (ScheduleDeletion, "x o o o o o o o"),
            (Name, "x o o o o o o o"),
            (Export, "x x x x o o o x"),
            (Import, "x o x o o o x x"),
            (DeleteMaterial, "o o x o o o o x"),
            (Archive, "x o x o o o o x"),
            (Recover, "x o o o o o o x"),
        ];
        assert_eq!(table.len(), Row::ALL.len());
        let letter = |cell| match cell {
            Cell::Goes => "o",
            Cell::No => "x",
            Cell::IfTrusted => "t",
        };
        for (row, cells) in table {
            use VersionState as V;
            let stands = |state| Standing { state, missing: false, archived: false };
            let of_key = |key| if row.goes(key).is_ok() { "o" } else { "x" };
            let of_version = [V::PreActive, V::Deactivated, V::Compromised, V::Destroyed].map(|s| letter(row.cell(s)));
            let of_key = [
                of_key(stands(PENDING)),
                of_key(Standing { missing: true, ..stands(KeyState::Enabled) }),
                of_key(Standing { archived: true, ..stands(KeyState::Enabled) }),
                of_key(stands(KeyState::Disabled)),
            ];
            let read = [&of_key[..], &of_version].concat().join(" ");
            assert_eq!(read, cells, "{row:?}");
            assert_eq!(row.cell(V::Destroyed), row.cell(V::DestroyedCompromised));
            let active = if matches!(row, Activate | DestroyVersion) { Cell::No } else { Cell::Goes };
            assert_eq!(row.cell(V::Active), active, "{row:?}");
            let goes = |state| row.goes(stands(state));
            assert_eq!((goes(KeyState::Enabled), goes(KeyState::Destroyed)), (Ok(()), Err(NoWay::Destroyed)));
        }
    }

    fn life(dates: Dates) -> Life {
        Life { dates, enabled: true, updated_ms: 990 }
    }

    #[test]
    fn a_state_follows_from_the_dates() {
        use VersionState as V;
        let active = Dates::active_from(1000);
        let state = |dates| life(dates).state(false, NOW);
        assert_eq!(state(Dates::default()), V::PreActive, "nobody has activated it");
        assert_eq!((state(active), state(Dates::active_from(1001))), (V::Active, V::PreActive));
        assert_eq!(state(Dates { deactivation: 1003, ..active }), V::Deactivated, "by whichever clock is first");
        assert_eq!(state(Dates { deactivation: 1004, ..active }), V::Active);
        assert_eq!(life(active).state(true, NOW), V::Deactivated);
        assert_eq!(life(Dates::default()).state(true, NOW), V::Deactivated, "never for use any more");
        assert_eq!(state(Dates { compromise: 5, ..Dates::default() }), V::Compromised);
        assert_eq!(state(Dates { compromise: 1001, ..active }), V::Active);
        assert_eq!(state(Dates { destroyed: 5000, ..active }), V::Destroyed, "the date tells that it has happened");
        assert_eq!(state(Dates { destroyed: 5, compromise: 6, ..active }), V::DestroyedCompromised);
        let mut ahead = life(Dates::active_from(1200));
        ahead.updated_ms = 1200;
        assert_eq!(ahead.state(false, NOW), V::Active, "whoever set it to now has it now");
        ahead.dates.deactivation = 1200;
        assert_eq!(ahead.state(false, NOW), V::Deactivated, "whoever ended it now has ended it");
    }

    #[test]
    fn a_use_keeps_within_its_dates() {
        let active = Dates::active_from(1);
        let goes = |row: Row, dates| row.goes_with(&life(dates), false, NOW);
        let nbf = Dates { protect_start: 1001, ..active };
        assert_eq!(goes(Row::Protect, nbf), Err(NoWay::NotYet { at_ms: 1001 }));
        assert_eq!(goes(Row::Process, nbf), Ok(Cell::Goes));
        let later = Dates { process_start: 1001, ..active };
        assert_eq!(goes(Row::Process, later), Err(NoWay::NotYet { at_ms: 1001 }));
        assert_eq!(goes(Row::Protect, later), Err(NoWay::NotYet { at_ms: 1001 }));
        let exp = Dates { protect_stop: 1002, ..active };
        assert_eq!(goes(Row::Protect, exp), Err(NoWay::Ended { at_ms: 1002 }));
        assert_eq!(goes(Row::Process, exp), Ok(Cell::Goes));
        assert_eq!(goes(Row::Describe, exp), Ok(Cell::Goes));
        assert_eq!(goes(Row::Protect, Dates::active_from(2000)), Err(NoWay::NotYet { at_ms: 2000 }));
        assert_eq!(goes(Row::Protect, Dates::default()), Err(NoWay::Version(Row::Protect, VersionState::PreActive)));
        let off = Life { enabled: false, ..life(active) };
        assert_eq!(Row::Process.goes_with(&off, false, NOW), Err(NoWay::VersionDisabled));
        assert_eq!(Row::PublicKey.goes_with(&off, false, NOW), Ok(Cell::Goes));
        assert_eq!(Row::ReadSecret.goes_with(&off, false, NOW), Err(NoWay::VersionDisabled));
        for tells in [nbf, later, exp, Dates::active_from(2000)] {
            assert_eq!(goes(Row::ReadSecret, tells), Ok(Cell::Goes));
        }
        let compromised = Dates { compromise: 5, ..active };
        assert_eq!(goes(Row::Process, compromised), Ok(Cell::IfTrusted));
        assert_eq!(goes(Row::Protect, compromised), Err(NoWay::Version(Row::Protect, VersionState::Compromised)));
    }

    #[test]
    fn dates_have_one_encoding() {
        let dates = Dates { activation: 7, destroyed: 9, ..Dates::default() };
        let bytes = dates.write(Writer::new()).finish();
        assert_eq!(bytes.len(), 1 + 2 * 8);
        assert_eq!(Dates::read(&mut Reader::new("x", &bytes)), Ok(dates));
        let zero = Writer::new().u8(1).u64(0).finish();
        assert!(Dates::read(&mut Reader::new("x", &zero)).is_err());
    }
}
