//! In which namespace a call is, and what may be made there.

use super::{Access, Resource};
use crate::decide::Refusal;
use crate::facts::{Facts, Of};
use crate::id::Namespace;
use crate::name::NamespaceName;
use crate::record::{NamespaceNameRecord, NamespaceRecord, NamespaceSettings, NamespaceState};
use crate::request::KeyHandle;

/// Where something is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// The namespace: it stands, and goes on standing until what is decided now takes effect.
    pub namespace: Namespace,
    /// What may be made there.
    pub settings: NamespaceSettings,
}

impl<F: Facts> Access<'_, F> {
    /// The caller's namespace, if the caller may do it there.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NamespaceNotFound`].
    pub fn namespace(&mut self) -> Result<Namespace, F::Error> {
        let within = self.within()?;
        self.judge(Resource::Namespace(within))?;
        self.granted.namespace = true;
        Ok(within)
    }

    /// The caller's namespace, for what is to be made in it.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NamespaceNotFound`], [`Refusal::NamespaceDeleting`].
    pub fn home(&mut self) -> Result<Home, F::Error> {
        let within = self.within()?;
        self.make_in(within)
    }

    /// The namespace of what `handle` names, for what is to be made beside it.
    ///
    /// # Errors
    /// As [`Self::home`].
    pub(crate) fn home_of(&mut self, handle: &KeyHandle) -> Result<Home, F::Error> {
        let within = self.within()?;
        let named = match handle {
            KeyHandle::Id(id) => self.live(*id)?,
            // A name is one of the caller's namespace, and so is what is called so.
            KeyHandle::Alias(_) | KeyHandle::Key(_) | KeyHandle::Secret(_) => None,
        };
        self.make_in(named.map_or(within, |key| key.namespace))
    }

    fn make_in(&mut self, namespace: Namespace) -> Result<Home, F::Error> {
        self.judge(Resource::Namespace(namespace))?;
        let settings = match namespace {
            Namespace::FIRST => NamespaceSettings::default(),
            // Read, and so expected: what is marked to be deleted gets nothing any more.
            other => match self.facts.get::<NamespaceRecord>(other)? {
                Some(record) if record.state == NamespaceState::Live => record.settings,
                Some(record) => return Err(Refusal::NamespaceDeleting(record.name.clone()).into()),
                // One that is called something is there: both are made, and go, with one change.
                None => {
                    let name = self.ask.caller.namespace.clone().unwrap_or_else(NamespaceName::first);
                    return Err(Refusal::NamespaceNotFound(name).into());
                }
            },
        };
        self.granted.home = Some(namespace);
        Ok(Home { namespace, settings })
    }

    /// What is of no one namespace, such as the namespaces themselves and who may ask, if the caller may do it to that: who may do
    /// it in the first, which stands above the others.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub fn cluster(&mut self) -> Result<(), F::Error> {
        self.judge(Resource::Namespace(Namespace::FIRST))?;
        self.granted.cluster = true;
        Ok(())
    }

    /// The namespace called `name`, likewise.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NamespaceNotFound`], [`Refusal::NamespaceFirst`].
    pub fn namespace_called(&mut self, name: &NamespaceName) -> Result<Of<NamespaceRecord>, F::Error> {
        self.cluster()?;
        if name.is_first() {
            return Err(Refusal::NamespaceFirst.into());
        }
        let missing = || F::Error::from(Refusal::NamespaceNotFound(name.clone()));
        let named = self.facts.get::<NamespaceNameRecord>(name.clone())?.ok_or_else(missing)?;
        self.facts.get::<NamespaceRecord>(named.number)?.ok_or_else(missing)
    }

    /// The caller's namespace; nothing is granted yet.
    pub(crate) fn within(&mut self) -> Result<Namespace, F::Error> {
        if let Some(within) = self.within {
            return Ok(within);
        }
        let within = match &self.ask.caller.namespace {
            None => Namespace::FIRST,
            Some(name) if name.is_first() => Namespace::FIRST,
            Some(name) => match self.facts.get::<NamespaceNameRecord>(name.clone())? {
                Some(named) => named.number,
                None => {
                    // Which there are, is the affair of who may do it in the first.
                    self.judge(Resource::Namespace(Namespace::FIRST))?;
                    return Err(Refusal::NamespaceNotFound(name.clone()).into());
                }
            },
        };
        self.within = Some(within);
        Ok(within)
    }
}
