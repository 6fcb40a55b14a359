//! One policy: its text, checked to the letter before it is taken.

mod fault;
mod reads;
mod scan;

use cedar_policy::{
    ActionConstraint, Effect as CedarEffect, EntityUid, Policy as Cedar, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint, ValidationMode, Validator,
};
use quorate_core::action::Action;
use quorate_core::id::Name;
use std::sync::LazyLock;

pub use self::fault::{Fault, Faults};
pub use self::reads::Reads;
use self::scan::Seen;
pub use self::scan::{CHAIN_MAX, IF_NESTING_MAX, NESTING_MAX, POLICY_LEN_MAX};
use crate::actions::Actions;
use crate::schema::schema;

/// What a policy says where it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// They may.
    Permit,
    /// They may not, whatever else permits.
    Forbid,
}

impl Effect {
    /// Cedar's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
        }
    }
}

/// A policy that can be asked: parsed, and valid by the schema.
#[derive(Clone, Debug)]
pub struct Policy {
    id: Name,
    pub(crate) cedar: Cedar,
    effect: Effect,
    approvals: Option<u8>,
    delegates: bool,
    /// Whom it is about alone: a principal, or all that are in a group or a namespace.
    pub(crate) about: Option<EntityUid>,
    pub(crate) actions: Actions,
    reads: Reads,
}

/// How far a policy may look: at principal, resource and context, and what is known of them. That is all a request brings.
const LEVEL: u32 = 1;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| Validator::new(schema().clone()));

impl Policy {
    /// Reads a policy: one text, one policy.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text; of what can't be parsed at all, that alone.
    pub fn parse(id: Name, text: &str) -> Result<Self, Faults> {
        let seen = scan::scan(text).map_err(|fault| Faults(vec![fault]))?;
        let cedar = Cedar::parse(Some(PolicyId::new(id.as_str())), text)
            .map_err(|errors| Faults(fault::of_syntax(text, &errors)))?;
        let mut faults = Vec::new();
        let (approvals, delegates) = annotations(text, &seen, &id, &cedar, &mut faults);
        let set = PolicySet::from_policies([cedar.clone()]).map_err(|e| unfit(text, &e.to_string()))?;
        let result = VALIDATOR.validate_with_level(&set, ValidationMode::Strict, LEVEL);
        faults.extend(result.validation_errors().map(|error| fault::of_validation(text, error)));
        if faults.is_empty() {
            // Of what has a wrong name, that it is never true says nothing more.
            faults.extend(result.validation_warnings().filter_map(|warning| fault::of_warning(text, warning)).take(1));
        }
        let json = cedar.to_json().map_err(|e| unfit(text, &e.to_string()))?;
        if let Some(token) = reads::may_fail(&json) {
            let todo =
                "compare with a number or a moment that you write; a moment is moved by durations of up to six digits";
            let why = format!("`{token}` fails on numbers that are too large, and what fails denies");
            faults.push(Fault::at(text, seen.place_of(token), "this may fail when it is judged", why, todo));
        }
        Faults::of(faults)?;
        let reads = Reads::of(&json);
        // By way of what Cedar keeps of it to judge: its copies need not have the text with them.
        let cedar = Cedar::from(cedar.as_ref().clone());
        Ok(Self { approvals, delegates, reads, ..Self::of_parts(id, cedar) })
    }

    /// Without any check: what may fail can't be tried otherwise.
    #[cfg(test)]
    pub(crate) fn dangerous_unchecked(id: Name, text: &str) -> Self {
        let cedar = Cedar::parse(Some(PolicyId::new(id.as_str())), text).unwrap();
        let reads = Reads::of(&cedar.to_json().unwrap());
        Self { reads, ..Self::of_parts(id, cedar) }
    }

    /// Of what was made here from parts, without annotations or a word on the context.
    pub(crate) fn of_parts(id: Name, cedar: Cedar) -> Self {
        let effect = match cedar.effect() {
            CedarEffect::Permit => Effect::Permit,
            CedarEffect::Forbid => Effect::Forbid,
        };
        let about = match cedar.principal_constraint() {
            PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                Some(uid)
            }
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        };
        let actions = match cedar.action_constraint() {
            ActionConstraint::Any => Actions::ALL,
            ActionConstraint::Eq(uid) => Actions::exactly(&uid),
            ActionConstraint::In(uids) => uids.iter().map(Actions::within).fold(Actions::NONE, Actions::and),
        };
        let cedar = Cedar::from(cedar.as_ref().clone());
        Self { id, cedar, effect, approvals: None, delegates: false, about, actions, reads: Reads::default() }
    }

    /// Its id.
    pub fn id(&self) -> &Name {
        &self.id
    }
    /// What it says.
    pub fn effect(&self) -> Effect {
        self.effect
    }
    /// How many others have to approve for it to give way, if it does; of a forbid.
    pub fn approvals(&self) -> Option<u8> {
        self.approvals
    }
    /// Whether it leaves it to the policies of the caller's namespace, as a key policy may; of a permit.
    pub fn delegates(&self) -> bool {
        self.delegates
    }
    /// The actions that it is about.
    pub fn actions(&self) -> impl Iterator<Item = Action> + '_ {
        Action::ALL.iter().copied().filter(|action| self.actions.has(*action))
    }
    /// What it looks at in the context.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }
    /// In Cedar's language: what is judged, without annotations of no meaning or remarks.
    pub fn to_cedar(&self) -> String {
        self.cedar.to_string()
    }

    /// Whom, what and which things it is about, in words.
    pub fn scope(&self) -> [String; 3] {
        let named = |uid: &EntityUid| uid.to_string();
        let who = match self.cedar.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => "everybody".to_owned(),
            PrincipalConstraint::Eq(uid) => named(&uid),
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => format!("who is in {uid}"),
        };
        let does = match self.cedar.action_constraint() {
            ActionConstraint::Any => "everything".to_owned(),
            ActionConstraint::Eq(uid) => uid.id().unescaped().to_owned(),
            ActionConstraint::In(uids) => {
                uids.iter().map(|uid| uid.id().unescaped().to_owned()).collect::<Vec<_>>().join(", ")
            }
        };
        let kind = |kind: &cedar_policy::EntityTypeName| format!("every {}", kind.basename().to_lowercase());
        let what = match self.cedar.resource_constraint() {
            ResourceConstraint::Any => "whatever it is".to_owned(),
            ResourceConstraint::Is(of) => kind(&of),
            ResourceConstraint::Eq(uid) => named(&uid),
            ResourceConstraint::In(uid) => format!("{uid} and what is in it"),
            ResourceConstraint::IsIn(of, uid) => format!("{} in {uid}", kind(&of)),
        };
        [who, does, what]
    }
}

/// Cedar refused what it had taken a moment before: no input is known that does so.
fn unfit(text: &str, why: &str) -> Faults {
    Faults(vec![Fault::at(text, 0, "this can't be used as a policy", why, "")])
}

/// Most approvals that a policy may ask for.
pub const APPROVALS_MAX: u8 = 9;

fn annotations(text: &str, seen: &Seen<'_>, id: &Name, cedar: &Cedar, faults: &mut Vec<Fault>) -> (Option<u8>, bool) {
    let (mut approvals, mut delegates) = (None, false);
    let is_forbid = cedar.effect() == CedarEffect::Forbid;
    for (name, value) in cedar.annotations() {
        let at = seen.annotations.iter().find(|(seen, _)| *seen == name).map_or(0, |(_, at)| *at);
        let mut fault = |what: &str, why: String, todo: &str| faults.push(Fault::at(text, at, what, why, todo));
        match name {
            "description" => {}
            "id" if value == id.as_str() => {}
            "id" => fault(
                "the policy has two ids",
                format!("it says {value:?}, and is called {:?}", id.as_str()),
                "leave @id out",
            ),
            "approvals" if !is_forbid => {
                let todo = "write a forbid with it beside the permit";
                fault("@approvals stands on a permit", "who has another permit would need none".into(), todo);
            }
            "approvals" => match value.parse() {
                Ok(n @ 1..=APPROVALS_MAX) if value.len() == 1 => approvals = Some(n),
                _ => fault(
                    "this is no number of approvals",
                    format!("it is {value:?}, and may be 1 to {APPROVALS_MAX}"),
                    "write for example @approvals(\"2\")",
                ),
            },
            "delegates" if is_forbid => {
                fault("@delegates stands on a forbid", "only a right can be left to others".into(), "leave it out");
            }
            "delegates" if !value.is_empty() => {
                fault("@delegates takes no value", format!("it has {value:?}"), "write @delegates alone");
            }
            "delegates" => delegates = true,
            _ => fault(
                "there is no such annotation",
                format!("@{name} means nothing here"),
                "there are @id, @description, @approvals and @delegates",
            ),
        }
    }
    (approvals, delegates)
}

#[cfg(test)]
mod tests;
