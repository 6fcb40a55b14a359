//! The member's side of a join (key-hierarchy §4.3): nothing is kept of a stranger before its token, its certificate's
//! identity and its signature agree, and nothing is entrusted to it before an operator has compared its fingerprint.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use quorate_core::batch::Rev;
use quorate_core::codec::Writer;
use quorate_core::decide::{Change, Write};
use quorate_core::facts::Of;
use quorate_core::id::{ClusterId, NodeId};
use quorate_core::level::Levels;
use quorate_core::record::{Applicant, Invitation, RecordName, Statement, TokenHash};
use quorate_crypto::{HsmAlg, encapsulate};
use quorate_replica::{MembershipView, PeerIdentity, View};
use tokio::time::Instant;

use super::message::{Introduction, Request, Response, signed};
use super::proof_of_possession;
use crate::error::Error;
use crate::node::{GROUP, Node};
use crate::records::facts::unreadable;
use crate::records::{EngineFacts, Records, Secrets};
use crate::seal::members::member;
use crate::seal::open::Opened;
use crate::seal::pins::configurations;
use crate::seal::sha256;
use crate::seal::statement::fingerprint;

/// How long a challenge can be answered.
const CHALLENGE_KEPT: Duration = Duration::from_secs(60);
/// Joins under way at once.
const CHALLENGES_MAX: usize = 64;
/// How soon after a change of its levels an applicant's next one is written down.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// How long one join call may take.
const DEADLINE: Duration = Duration::from_secs(8);

/// What is kept in memory of applicants whose token was good, by the hash of the token's secret.
#[derive(Default)]
pub(crate) struct JoinChallenges {
    pending: Mutex<HashMap<TokenHash, Pending>>,
    /// When each one's levels were noted last.
    noted: Mutex<HashMap<TokenHash, Instant>>,
}

impl JoinChallenges {
    /// Whether what the applicant says now may be written down: each time is an entry of the log, and it can say what it likes.
    fn may_note(&self, applicant: TokenHash) -> bool {
        let now = Instant::now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, at| now.duration_since(*at) < NOTE_EVERY);
        // As many as there are invitations at most, as only theirs are asked for.
        let may = !noted.contains_key(&applicant);
        if may {
            noted.insert(applicant, now);
        }
        may
    }
}

struct Pending {
    nonce: [u8; 32],
    mac: [u8; 32],
    until: Instant,
}

/// Where the invitation of a token is kept: by a hash, so that the state does not hold the secret.
pub(crate) fn token_hash(cluster: ClusterId, secret: &[u8; 32]) -> [u8; 32] {
    sha256(&Writer::new().field(b"quorate/v1/join-token").field(&cluster.0).field(secret).finish())
}

impl Node {
    /// Answers a node that wants to become a member.
    ///
    /// # Errors
    /// [`Error::InvitationRefused`] says why; [`Error::Sealed`] while this node can't read invitations.
    pub(crate) async fn answer_join(&self, from: &PeerIdentity, body: &[u8]) -> Result<Vec<u8>, Error> {
        let (levels, request) = Request::decode(body).map_err(|e| refused(e.to_string()))?;
        if from.cluster != self.config.cluster {
            return Err(refused(format!(
                "node {} belongs to cluster {}, this is {}",
                from.name, from.cluster, self.config.cluster
            )));
        }
        let opened = self.opened().map_err(|e| match e {
            Error::Sealed => Error::Unavailable(format!(
                "node {} is sealed and can't read invitations; unseal it first",
                self.config.name
            )),
            other => other,
        })?;
        let deadline = Instant::now() + DEADLINE;
        let response = match request {
            Request::Poll => self.answer_poll(&opened, from, levels, deadline).await?,
            Request::Introduce(introduction) => {
                let statement = self.check_introduction(&opened, from, &introduction, levels, deadline).await?;
                self.challenge(&introduction, &statement)?
            }
            Request::Prove { introduction, nonce, mac } => {
                let statement = self.check_introduction(&opened, from, &introduction, levels, deadline).await?;
                self.check_possession(&introduction, &nonce, &mac)?;
                let records = &opened.records;
                let membership = self.note_applicant(records, &introduction, statement, levels, deadline).await?;
                Response::Waiting { membership }
            }
        };
        Ok(response.encode())
    }

    /// Token, name, certificate and signature agree, and it works at the cluster's level.
    async fn check_introduction(
        &self,
        opened: &Opened,
        from: &PeerIdentity,
        introduction: &Introduction,
        levels: Levels,
        deadline: Instant,
    ) -> Result<Statement, Error> {
        let view = opened.records.fresh_view(deadline).await?;
        check_levels(&view, levels)?;
        let invitation = self.invitation(&mut opened.records.facts(&view)?, &introduction.secret)?.1;
        let statement = Statement::decode(&introduction.statement).map_err(|e| refused(e.to_string()))?;
        if statement.name.as_str() != from.name || statement.identity_spki != from.identity_spki {
            return Err(refused(format!("node {} says it is another node than its certificate does", from.name)));
        }
        if invitation.for_name != statement.name {
            return Err(refused(format!(
                "this invitation is for a node called {}, not for {}; that one has to be invited by its own name",
                invitation.for_name, statement.name
            )));
        }
        let message = signed(self.config.cluster, &introduction.statement);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &statement.identity_spki)
            .verify(&message, &introduction.signature)
            .map_err(|_| refused("the signature of the node's statement does not hold".into()))?;
        match &invitation.applicant {
            Some(a) if a.statement != statement => Err(refused(format!(
                "this invitation was used already, by a node with fingerprint {}; make another one",
                fingerprint(&a.statement)
            ))),
            _ => Ok(statement),
        }
    }

    /// The invitation of this secret, if it can be used, and its revision.
    fn invitation(&self, facts: &mut EngineFacts<'_>, secret: &[u8; 32]) -> Result<(Rev, Of<Invitation>), Error> {
        let name = RecordName::Invitation(token_hash(self.config.cluster, secret));
        let (rev, found) = facts.at(&name)?;
        let Some(invitation) = found.and_then(Of::<Invitation>::new) else {
            return Err(refused(
                "no such invitation: it was used, taken back, replaced by a newer one, has expired, or is another cluster's"
                    .into(),
            ));
        };
        if self.now_ms(facts.view()) >= invitation.expires_ms {
            return Err(refused("this invitation has expired".into()));
        }
        Ok((rev, invitation))
    }

    /// Rights end by the later of both clocks (key-log §1.7).
    pub(crate) fn now_ms(&self, view: &View) -> u64 {
        view.cluster_time_ms().max(self.world.wall.now_ms())
    }

    fn challenge(&self, introduction: &Introduction, statement: &Statement) -> Result<Response, Error> {
        let alg = HsmAlg::from_byte(statement.kem_alg).map_err(|e| refused(e.to_string()))?;
        let (ct, ss_h) =
            encapsulate(alg, &statement.kem_spki, &*self.world.entropy).map_err(|e| refused(e.to_string()))?;
        let mut nonce = [0; 32];
        self.world.entropy.fill(&mut nonce);
        let mac = proof_of_possession(&ss_h, self.config.cluster, &nonce, &introduction.statement);
        let mut challenges = self.join_challenges.pending.lock().unwrap_or_else(PoisonError::into_inner);
        challenges.retain(|_, pending| Instant::now() < pending.until);
        let key = token_hash(self.config.cluster, &introduction.secret);
        if challenges.len() >= CHALLENGES_MAX && !challenges.contains_key(&key) {
            return Err(Error::Busy("too many nodes are joining at once; try again in a minute".into()));
        }
        challenges.insert(key, Pending { nonce, mac, until: Instant::now() + CHALLENGE_KEPT });
        Ok(Response::Challenge { nonce, ct })
    }

    fn check_possession(&self, introduction: &Introduction, nonce: &[u8; 32], mac: &[u8; 32]) -> Result<(), Error> {
        let key = token_hash(self.config.cluster, &introduction.secret);
        let pending = self.join_challenges.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let good = pending.filter(|p| Instant::now() < p.until).is_some_and(|p| {
            verify_slices_are_equal(&p.nonce, nonce).is_ok() && verify_slices_are_equal(&p.mac, mac).is_ok()
        });
        if good {
            Ok(())
        } else {
            Err(refused("the node did not prove to hold the KEM key it names; try again".into()))
        }
    }

    /// From here on the invitation is used, by this statement alone. Answers whom the applicant may ask from now on: nothing
    /// that could fail follows the record.
    async fn note_applicant(
        &self,
        records: &Records,
        introduction: &Introduction,
        statement: Statement,
        levels: Levels,
        deadline: Instant,
    ) -> Result<MembershipView, Error> {
        let fingerprint = fingerprint(&statement);
        let decide = |facts: &mut EngineFacts<'_>| {
            let (rev, invitation) = self.invitation(facts, &introduction.secret)?;
            let membership = facts.view().membership().clone();
            if let Some(applicant) = &invitation.applicant {
                return if applicant.statement == statement {
                    Ok(Change::none(membership))
                } else {
                    Err(refused("this invitation was used already, by another node; make another one".into()))
                };
            }
            let applicant = Applicant {
                // The entry that committed the invitation: unused as an id until now, and never again.
                id: NodeId(rev),
                statement: statement.clone(),
                signature: introduction.signature.clone(),
                levels,
            };
            let invitation = Invitation { applicant: Some(applicant), ..Invitation::clone(&invitation) };
            Ok(Change { writes: vec![Write::Update(invitation.into())], answer: membership })
        };
        let membership = records.change(deadline, Secrets::default(), decide).await?.answer;
        tracing::info!(node = %statement.name, %fingerprint, "a node asks to join: it waits for approval");
        Ok(membership)
    }

    /// What an applicant's build works at may change while it waits: it is restarted as another one.
    async fn note_levels(
        &self,
        records: &Records,
        from: &PeerIdentity,
        levels: Levels,
        deadline: Instant,
    ) -> Result<(), Error> {
        let decide = |facts: &mut EngineFacts<'_>| {
            let now = self.now_ms(facts.view());
            let Some((invitation, applicant)) = of_applicant(facts, from, now)? else { return Ok(Change::none(())) };
            if applicant.levels == levels {
                return Ok(Change::none(()));
            }
            let invitation =
                Invitation { applicant: Some(Applicant { levels, ..applicant }), ..Invitation::clone(&invitation) };
            Ok(Change { writes: vec![Write::Update(invitation.into())], answer: () })
        };
        records.change(deadline, Secrets::default(), decide).await.map(|_| ())
    }

    async fn answer_poll(
        &self,
        opened: &Opened,
        from: &PeerIdentity,
        levels: Levels,
        deadline: Instant,
    ) -> Result<Response, Error> {
        let view = opened.records.fresh_view(deadline).await?;
        let applied = of_applicant(&mut opened.records.facts(&view)?, from, self.now_ms(&view))?;
        // Before it is refused for them: approved is what runs there by now, not what ran as it introduced itself.
        if let Some((invitation, applicant)) = &applied
            && applicant.levels != levels
            && self.join_challenges.may_note(invitation.token)
        {
            self.note_levels(&opened.records, from, levels, deadline).await?;
        }
        // Each time: the cluster may have risen while it waited for its approval.
        check_levels(&view, levels)?;
        let mut facts = opened.records.facts(&view)?;
        let member = member(&mut facts, &from.name)?;
        if let Some(member) = member.filter(|m| m.statement.identity_spki == from.identity_spki) {
            let id = member.id;
            let membership = view.membership();
            if !membership.members.contains_key(&id) {
                // Approval is under way.
                return Ok(Response::Waiting { membership: membership.clone() });
            }
            if membership.is_voter(id) {
                return Err(refused(format!(
                    "{} is a voter already (node {id}); a voter that lost its data can't come back under its id: \
                     remove it and invite it under a new name",
                    from.name
                )));
            }
            let roster = view.roster().map_err(unreadable)?;
            let Some((_, roster)) = roster.filter(|(_, signed)| signed.roster().members.contains_key(&id)) else {
                return Ok(Response::Waiting { membership: membership.clone() });
            };
            let configurations = configurations(&view, opened.seal.config.generation)?;
            return Ok(Response::Approved { id, group: GROUP, roster: roster.encode().to_vec(), configurations });
        }
        Ok(match applied {
            Some(_) => Response::Waiting { membership: view.membership().clone() },
            None => Response::Unknown,
        })
    }
}

/// It can take part at the level that the cluster works at.
fn check_levels(view: &View, levels: Levels) -> Result<(), Error> {
    levels.check(view.level().map_err(unreadable)?).map_err(|unfit| refused(unfit.to_string()))
}

/// The invitation that the node with this identity has used, if it can still be approved.
fn of_applicant(
    facts: &mut EngineFacts<'_>,
    from: &PeerIdentity,
    now_ms: u64,
) -> Result<Option<(Of<Invitation>, Applicant)>, Error> {
    let open = facts.all::<Invitation>()?.into_iter().filter(|i| now_ms < i.expires_ms);
    Ok(open
        .filter_map(|i| i.applicant.clone().map(|applicant| (i, applicant)))
        .find(|(_, applicant)| applicant.statement.identity_spki == from.identity_spki))
}

fn refused(why: String) -> Error {
    Error::InvitationRefused(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_applicant_that_says_something_else_each_second_fills_no_log() {
        let challenges = JoinChallenges::default();
        let mut noted = 0;
        for _ in 0..60 {
            noted += u32::from(challenges.may_note([1; 32]));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(noted, 6, "one in ten seconds");
        assert!(challenges.may_note([2; 32]), "another one is not held up");
        assert_eq!(challenges.noted.lock().unwrap().len(), 1, "what is long past is forgotten");
    }
}
