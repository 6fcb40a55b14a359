//! What a node does for whom while it is sealed too: the fixed rule by role (design §6), deny by default. It knows no record, so no
//! policy could say more; what is done with keys is judged on facts ([`crate::access`]).

use std::fmt;

use thiserror::Error;

use crate::principal::{Principal, Role};

/// Something a principal may be entitled to. Implemented by the marker types of this module only.
pub trait Right: sealed::Sealed {
    /// What it allows, completing "may not …".
    const PHRASE: &'static str;
    /// The roles that have it.
    const ROLES: &'static [Role];
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! right {
    ($(#[$doc:meta])* $name:ident, $phrase:literal, [$($role:ident),*]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl Right for $name {
            const PHRASE: &'static str = $phrase;
            const ROLES: &'static [Role] = &[$(Role::$role),*];
        }
    };
}

right!(
    /// Genesis, sealing, invitations, approval, promotion.
    ManageCluster, "manage the cluster", [Admin]
);
right!(
    /// Take part in an unseal ceremony; the share itself proves the rest.
    EnterShares, "enter shares", [Admin, Custodian]
);
right!(
    /// The state of the cluster, members and ceremonies included; the public seal configuration.
    ReadStatus, "read the status", [Admin, User, Custodian, Auditor]
);
right!(
    /// The audit trail.
    ReadAudit, "read the audit trail", [Admin, Auditor]
);
right!(
    /// The authenticated no-op that the bench measures against.
    Echo, "call echo", [Admin, User, Custodian, Auditor]
);

/// The principal does not have that right.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct Denied {
    /// Who asked.
    pub principal: Principal,
    /// What they may not do.
    pub phrase: &'static str,
    /// The roles that may.
    pub roles: &'static [Role],
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<_> = self.roles.iter().map(|role| role.as_str()).collect();
        write!(
            f,
            "{} may not {}; that takes a certificate with the role {}",
            self.principal,
            self.phrase,
            roles.join(" or ")
        )
    }
}

/// Asks whether `principal` has the right `R`.
///
/// # Errors
/// [`Denied`] unless its role is in [`Right::ROLES`].
pub fn authorize<R: Right>(principal: &Principal) -> Result<(), Denied> {
    if R::ROLES.contains(&principal.role()) {
        Ok(())
    } else {
        Err(Denied { principal: principal.clone(), phrase: R::PHRASE, roles: R::ROLES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<R: Right>() -> [bool; 5] {
        Role::ALL.map(|role| authorize::<R>(&Principal::certificate(role, "a".parse().unwrap())).is_ok())
    }

    /// The rule of design §6, as a table.
    #[test]
    #[rustfmt::skip]
    fn the_rule() {
        //                                     admin  user   custod. auditor node
        assert_eq!(row::<ManageCluster>(), [true,  false, false, false, false]);
        assert_eq!(row::<EnterShares>(),   [true,  false, true,  false, false]);
        assert_eq!(row::<ReadStatus>(),    [true,  true,  true,  true,  false]);
        assert_eq!(row::<ReadAudit>(),     [true,  false, false, true,  false]);
        assert_eq!(row::<Echo>(),          [true,  true,  true,  true,  false]);
    }

    #[test]
    fn a_refusal_says_who_what_and_which_role_it_takes() {
        let denied = authorize::<EnterShares>(&Principal::certificate(Role::User, "web".parse().unwrap()));
        assert_eq!(
            denied.unwrap_err().to_string(),
            "user/web may not enter shares; that takes a certificate with the role admin or custodian"
        );
    }
}
