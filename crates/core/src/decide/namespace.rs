//! Make a namespace, change what may be made in it, and delete it once it is empty (key-model §1.3).
//!
//! Whether one is empty no decision can see: the shell looks. So a deletion is three steps. [`CloseNamespace`] marks it; whatever is
//! made in a namespace expects its record, so nothing is made in it from then on. Then a view past the mark is looked through, and
//! [`EndNamespace`] takes the namespace away, or lets it live on. Who stops in between leaves it marked, and to delete it again goes on.

use std::fmt;

use super::{Change, Decide, Refusal, Write};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::Namespace;
use crate::record::{
    Exportable, NamespaceCountRecord, NamespaceNameRecord, NamespaceRecord, NamespaceSettings, NamespaceState,
    RecordName,
};
use crate::request::NamespaceName;
use crate::seam::NewIds;
use crate::time::Time;
use crate::views::{NamespaceView, ShowsKeys};

/// Makes a namespace; the answer is that.
///
/// Refused: [`Refusal::NamespaceTaken`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateNamespace {
    /// What it is called.
    pub name: NamespaceName,
    /// What may be made in it.
    pub settings: NamespaceSettings,
}

impl Decide for CreateNamespace {
    type Answer = NamespaceView;

    fn action(&self) -> Action {
        Action::NamespaceCreate
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<NamespaceView>, F::Error> {
        at.cluster()?;
        if self.name.is_first() || at.get::<NamespaceNameRecord>(self.name.clone())?.is_some() {
            return Err(Refusal::NamespaceTaken(self.name.clone()).into());
        }
        let last = at.get::<NamespaceCountRecord>(())?.map_or(Namespace::FIRST, |count| count.last);
        let number = last.0.checked_add(1).map(Namespace).ok_or(Refusal::NamespacesMax)?;
        let made_ms = at.time().stamp_ms();
        let made = NamespaceRecord {
            number,
            name: self.name.clone(),
            state: NamespaceState::Live,
            marks: 0,
            created_ms: made_ms,
            updated_ms: made_ms,
            settings: self.settings,
        };
        let answer = NamespaceView::from(&made);
        let named = NamespaceNameRecord { name: self.name.clone(), number };
        let writes = vec![
            Write::Update(NamespaceCountRecord { last: number }.into()),
            Write::Create(named.into()),
            Write::Create(made.into()),
        ];
        Ok(Change { writes, answer })
    }
}

/// Changes what may be made in a namespace from now on; what there is stays as it is. What is `None` stays.
///
/// Refused: the namespace is not found, or is being deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateNamespace {
    /// Which.
    pub name: NamespaceName,
    /// How far the material of keys that are made there may leave, at most.
    pub exportable: Option<Exportable>,
    /// Whether it is written down when keys that are made there were used last.
    pub tracked: Option<bool>,
}

impl Decide for UpdateNamespace {
    type Answer = NamespaceView;

    fn action(&self) -> Action {
        Action::NamespaceUpdate
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<NamespaceView>, F::Error> {
        let before = at.namespace_called(&self.name)?;
        if before.state == NamespaceState::Deleting {
            return Err(Refusal::NamespaceDeleting(self.name.clone()).into());
        }
        let NamespaceSettings { exportable, tracked } = before.settings;
        let settings = NamespaceSettings {
            exportable: self.exportable.unwrap_or(exportable),
            tracked: self.tracked.unwrap_or(tracked),
        };
        if settings == before.settings {
            return Ok(Change::none(NamespaceView::from(&*before)));
        }
        let after = changed(NamespaceRecord { settings, ..NamespaceRecord::clone(&before) }, at.time());
        Ok(Change { answer: NamespaceView::from(&after), writes: vec![Write::Update(after.into())] })
    }
}

/// Notes that a namespace is changed now.
fn changed(of: NamespaceRecord, now: Time) -> NamespaceRecord {
    NamespaceRecord { updated_ms: now.stamp_ms().max(of.updated_ms), ..of }
}

/// Marks a namespace to be deleted: nothing is made in it any more. One that is marked already: nothing to do.
///
/// Refused: the namespace is not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseNamespace {
    /// Which.
    pub name: NamespaceName,
}

/// A namespace that is marked, by which mark: as long as it is that, nothing was made in the namespace since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closing {
    /// The namespace.
    pub number: Namespace,
    /// The mark.
    mark: u32,
}

impl ShowsKeys for Closing {}

impl Decide for CloseNamespace {
    type Answer = Closing;

    fn action(&self) -> Action {
        Action::NamespaceDelete
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<Closing>, F::Error> {
        let before = at.namespace_called(&self.name)?;
        let closing = |of: &NamespaceRecord| Closing { number: of.number, mark: of.marks };
        if before.state == NamespaceState::Deleting {
            return Ok(Change::none(closing(&before)));
        }
        let (state, marks) = (NamespaceState::Deleting, before.marks.wrapping_add(1));
        let after = changed(NamespaceRecord { state, marks, ..NamespaceRecord::clone(&before) }, at.time());
        Ok(Change { answer: closing(&after), writes: vec![Write::Update(after.into())] })
    }
}

/// Ends the deletion of a namespace that was looked through past its mark: it goes if it is empty, else it lives on.
///
/// The answer is whether that mark was still on it; else somebody has ended this before, and what was seen says nothing any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndNamespace {
    /// The namespace, and the mark that was looked past.
    pub of: Closing,
    /// Whether there was nothing in it.
    pub empty: bool,
}

impl Decide for EndNamespace {
    type Answer = bool;

    fn action(&self) -> Action {
        Action::NamespaceDelete
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<bool>, F::Error> {
        at.cluster()?;
        let Closing { number, mark } = self.of;
        let marked = |of: &NamespaceRecord| of.state == NamespaceState::Deleting && of.marks == mark;
        let Some(before) = at.get::<NamespaceRecord>(number)?.filter(|of| marked(of)) else {
            return Ok(Change::none(false));
        };
        if !self.empty {
            let after = NamespaceRecord { state: NamespaceState::Live, ..NamespaceRecord::clone(&before) };
            return Ok(Change { writes: vec![Write::Update(changed(after, at.time()).into())], answer: true });
        }
        at.get::<NamespaceNameRecord>(before.name.clone())?;
        let writes = vec![
            Write::Delete(RecordName::NamespaceName(before.name.clone())),
            Write::Delete(RecordName::Namespace(number)),
        ];
        Ok(Change { writes, answer: true })
    }
}

/// What is in a namespace that is not empty, as far as it was counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Left {
    /// Keys.
    pub keys: usize,
    /// Secrets.
    pub secrets: usize,
    /// How many of both wait for their destruction.
    pub waiting: usize,
    /// Whether there may be more.
    pub more: bool,
}

impl Left {
    /// Whether that is nothing.
    pub fn is_empty(&self) -> bool {
        self.keys == 0 && self.secrets == 0 && !self.more
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, secrets, waiting, more } = *self;
        let count = |n: usize, of: &str| format!("{n} {of}{}", if n == 1 { "" } else { "s" });
        let counts = [(keys, "key"), (secrets, "secret")].into_iter().filter(|(n, _)| *n > 0);
        let words: Vec<_> = counts.map(|(n, of)| count(n, of)).collect();
        write!(f, "{}{}", if more { "at least " } else { "" }, words.join(" and "))?;
        if waiting > 0 { write!(f, ", {waiting} of which waiting for destruction") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
