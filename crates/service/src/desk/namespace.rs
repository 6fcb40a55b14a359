//! Delete a namespace: a change that marks it, a look whether it is empty, and a change that ends it, in one call.

use quorate_core::action::Action;
use quorate_core::decide::{CloseNamespace, Closing, EndNamespace, Left, Refusal};
use quorate_core::lifecycle::KeyState;
use quorate_core::name::Class;
use quorate_core::request::{KeyFilter, NamespaceName, PageLen};
use quorate_core::views::KeyView;
use quorate_replica::View;

use super::Kms;
use super::page::{Listing, Walk};
use crate::call::Call;
use crate::error::Error;
use crate::operation::ListObjects;
use crate::records::Secrets;

/// So many keys, and as many secrets, are counted of what is left in a namespace.
const COUNTED_MAX: usize = 1000;

impl Kms {
    /// Deletes an empty namespace; its number is never used again. Nothing is made in it meanwhile. After an error it may still be
    /// marked: to delete it again goes on.
    ///
    /// # Errors
    /// [`Error::Denied`]; it is not found, or not empty: then it stays; those of every change.
    pub async fn delete_namespace(&self, call: &Call, name: NamespaceName) -> Result<(), Error> {
        self.metered(call, Action::NamespaceDelete, self.mark_and_end(call, name)).await
    }

    async fn mark_and_end(&self, call: &Call, name: NamespaceName) -> Result<(), Error> {
        loop {
            let of = self.change(call, &CloseNamespace { name: name.clone() }, Secrets::default()).await?;
            let ended = self.look_and_end(call, of).await;
            match ended.map_err(|e| e.begun(format!("deleting the namespace {name}")))? {
                // Somebody else has ended it before this did, up to the call's deadline.
                None => {}
                Some(left) if left.is_empty() => return Ok(()),
                Some(left) => return Err(Refusal::NamespaceNotEmpty { name, left }.into()),
            }
        }
    }

    /// What was left in it when it ended, unless that was before.
    async fn look_and_end(&self, call: &Call, of: Closing) -> Result<Option<Left>, Error> {
        let left = self.left_in(call, of).await?;
        let end = EndNamespace { of, empty: left.is_empty() };
        Ok(self.change(call, &end, Secrets::default()).await?.then_some(left))
    }

    /// What anybody still finds in it, on a view past its mark. A name goes with its object, so these tell of names too.
    async fn left_in(&self, call: &Call, of: Closing) -> Result<Left, Error> {
        let view = self.records.fresh_view(call.deadline).await?;
        let (len, filter, mut left) = (PageLen::parse(0)?, KeyFilter::any(), Left::default());
        let all = |class| ListObjects { class, len, filter: filter.clone(), token: Default::default() };
        left.keys = self.count_in(&view, &all(Class::Key), of, &mut left).await?;
        left.secrets = self.count_in(&view, &all(Class::Secret), of, &mut left).await?;
        Ok(left)
    }

    /// How many there are in that list.
    async fn count_in<L: Listing<Item = KeyView>>(
        &self,
        view: &View,
        list: &L,
        of: Closing,
        left: &mut Left,
    ) -> Result<usize, Error> {
        let (mut walk, mut count) = (Walk::after(None, &self.records, view, (list, of.number)), 0);
        while let Some(step) = walk.step()? {
            for found in step {
                match found?.item.map(|object| object.state) {
                    Some(KeyState::Destroyed) | None => continue,
                    Some(KeyState::PendingDeletion { .. }) => left.waiting += 1,
                    Some(KeyState::Enabled | KeyState::Disabled) => {}
                }
                count += 1;
            }
            if count >= COUNTED_MAX {
                left.more = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(count)
    }
}
