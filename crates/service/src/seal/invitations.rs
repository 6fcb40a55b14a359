//! Invitations: a name, a time, and one use; given out and taken back (design §6, step 5).

use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::decide::{Change, Write};
use quorate_core::facts::{Facts, Of};
use quorate_core::id::Name;
use quorate_core::principal::Principal;
use quorate_core::record::{Invitation, MemberRecord, Record, RecordName};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::join::token_hash;
use super::members::MEMBERS_MAX;
use super::sha256;
use super::token::JoinToken;
use crate::error::Error;
use crate::node::Node;
use crate::records::facts::unreadable;
use crate::records::{EngineFacts, Secrets};

/// How long an invitation is valid unless said otherwise, in minutes.
pub const VALID_MINUTES_DEFAULT: u32 = 60;
/// Longest validity: a week.
pub const VALID_MINUTES_MAX: u32 = 7 * 24 * 60;

/// An invitation.
pub struct Invited {
    /// The token's text; it goes to the new node and nowhere else.
    pub token: Zeroizing<String>,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: u64,
}

impl Node {
    /// Invites a node by name; an earlier invitation of that name ends.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when a member has that name.
    pub async fn invite(
        &self,
        caller: &Principal,
        name: &str,
        minutes: u32,
        deadline: Instant,
    ) -> Result<Invited, Error> {
        authorize::<ManageCluster>(caller)?;
        let opened = self.opened()?;
        let name: Name =
            name.parse().map_err(|e: quorate_core::id::InvalidId| Error::InvalidArgument(e.to_string()))?;
        if minutes > VALID_MINUTES_MAX {
            return Err(Error::InvalidArgument(format!(
                "an invitation is valid for at most {VALID_MINUTES_MAX} minutes, not {minutes}"
            )));
        }
        let minutes = if minutes == 0 { VALID_MINUTES_DEFAULT } else { minutes };
        let mut secret = Zeroizing::new([0; 32]);
        self.world.entropy.fill(&mut secret[..]);
        let token = token_hash(self.config.cluster, &secret);
        let decide = |facts: &mut EngineFacts<'_>| {
            let view = facts.view();
            let roster_serial = view.roster().map_err(unreadable)?.map_or(0, |(_, signed)| signed.roster().serial);
            // Nobody becomes a member under that name while this is decided: it has been read.
            let is_member = facts.get::<MemberRecord>(name.clone())?.is_some();
            if is_member || view.membership().by_name(name.as_str()).is_some() {
                return Err(Error::AlreadyExists(format!("a member is called {name} already; choose another name")));
            }
            let now = self.now_ms(view);
            let expires_ms = now.saturating_add(u64::from(minutes) * 60_000);
            // Expired ones go with the occasion, and an older one for this name is void.
            let is_void = |i: &Of<Invitation>| i.expires_ms <= now || i.for_name == name;
            let (void, open): (Vec<_>, Vec<_>) = facts.all::<Invitation>()?.into_iter().partition(is_void);
            if open.len() >= MEMBERS_MAX {
                return Err(Error::WrongState("too many invitations are open; approve some or let them expire".into()));
            }
            let void = void.into_iter().take(2 * MEMBERS_MAX - 1);
            let mut writes: Vec<Write> = void.map(|i| Write::Delete(RecordName::Invitation(i.token))).collect();
            let invited_by = caller.to_string();
            let invitation = Invitation { token, for_name: name.clone(), invited_by, expires_ms, applicant: None };
            writes.push(Write::Create(Record::Invitation(invitation)));
            Ok(Change { writes, answer: (expires_ms, roster_serial) })
        };
        let (expires_ms, roster_serial) = opened.records.change(deadline, Secrets::default(), decide).await?.answer;
        tracing::info!(by = %caller, node = %name, minutes, "a node was invited");
        let token = JoinToken {
            cluster: self.config.cluster,
            root_sha256: sha256(&self.config.root_spki),
            for_name: name,
            inviter_name: self.config.name.clone(),
            inviter_addr: self.config.peer_addr.clone(),
            inviter_spki: self.keys.identity.clone(),
            seal_config_hash: opened.seal.config.hash(),
            roster_serial,
            secret,
        };
        Ok(Invited { token: token.to_text(), expires_ms })
    }

    /// Takes an open invitation back, and with it whoever came by it and waits for approval. Answers whether somebody did.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nobody by that name is invited; a member is none of those.
    pub async fn uninvite(&self, caller: &Principal, name: &str, deadline: Instant) -> Result<bool, Error> {
        authorize::<ManageCluster>(caller)?;
        let opened = self.opened()?;
        let decide = |facts: &mut EngineFacts<'_>| {
            let now = self.now_ms(facts.view());
            let mut invitations = facts.all::<Invitation>()?;
            invitations.retain(|i| i.for_name.as_str() == name);
            if !invitations.iter().any(|i| now < i.expires_ms) {
                return Err(not_invited(name));
            }
            let waited = invitations.iter().any(|i| i.applicant.is_some());
            // One that has expired goes with the occasion.
            let writes = invitations.iter().map(|i| Write::Delete(RecordName::Invitation(i.token))).collect();
            Ok(Change { writes, answer: waited })
        };
        let waited = opened.records.change(deadline, Secrets::default(), decide).await?.answer;
        tracing::info!(by = %caller, node = %name, "invitation taken back");
        Ok(waited)
    }
}

pub(super) fn not_invited(name: &str) -> Error {
    Error::NotFound(format!("nobody called {name} is invited"))
}
