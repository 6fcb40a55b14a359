//! Tell of credentials and those who hold them, and list both.

use bytes::Bytes;
use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::credential::CredentialId;
use quorate_core::id::Namespace;
use quorate_core::record::{CredentialRecord, PrincipalRecord, Record};
use quorate_core::record_key::Table;
use quorate_core::request::PageLen;

use crate::desk::{Listing, Tools, Use, UseFacts};
use crate::error::Error;

/// Tells what is known of a credential; `None` = nothing, so that it is good until it ends.
pub struct DescribeCredential {
    /// Which.
    pub id: CredentialId,
}

impl Use for DescribeCredential {
    type Facts = Option<CredentialRecord>;
    type Answer = Option<CredentialRecord>;

    fn action(&self) -> Action {
        Action::CredentialDescribe
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Option<CredentialRecord>, F::Error> {
        at.credential(self.id)
    }

    fn act(&self, known: Option<CredentialRecord>, _: &Tools) -> Result<Option<CredentialRecord>, Error> {
        Ok(known)
    }
}

macro_rules! listing {
    ($(#[$doc:meta])* $list:ident of $item:ident($table:ident), $name:literal by $action:ident) => {
        $(#[$doc])*
        pub struct $list {
            /// At most so many.
            pub len: PageLen,
            /// Where the page begins; empty = the first.
            pub token: Bytes,
        }

        impl Listing for $list {
            type Item = $item;
            const TABLE: Table = Table::$table;
            const OF_CLUSTER: bool = true;

            fn name(&self) -> &'static str {
                $name
            }
            fn action(&self) -> Action {
                Action::$action
            }
            fn page_len(&self) -> PageLen {
                self.len
            }
            fn token(&self) -> &[u8] {
                &self.token
            }
            fn item(&self, _: Namespace, record: Record) -> Option<$item> {
                if let Record::$table(item) = record { Some(item) } else { None }
            }
        }
    };
}

listing! {
    /// One page of the credentials of which more is known than they say themselves, in no order that means anything.
    ListCredentials of CredentialRecord(Credential), "credentials" by CredentialList
}
listing! {
    /// One page of those who were enabled or disabled, in no order that means anything.
    ListPrincipals of PrincipalRecord(Principal), "principals" by PrincipalList
}
