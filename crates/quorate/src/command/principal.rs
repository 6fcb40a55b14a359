//! `quorate principal …` and `quorate credential …`: who is shut out.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use quorate_client::v1::{
    Credential, CredentialRequest, CredentialResponse, ListCredentialsRequest, ListPrincipalsRequest, Principal,
    PrincipalRequest, PrincipalResponse, RevokeCredentialRequest,
};
use quorate_core::credential::RevocationReason;
use quorate_core::principal::{Principal as Named, Role};
use quorate_core::request::PAGE_LEN_MAX;
use serde_json::{Value, json};

use super::failure::{CommandResult, Doing, Failure};
use super::output::{self, Column, List, Shown};
use super::{Shared, files};
use crate::tls::CertificateFacts;

/// Shut somebody out, whatever certificate they present, and let them in again.
///
/// From the answer on no node takes anything from them, on open connections either. Who holds a certificate of the cluster needs no
/// entry here. While a node is sealed it can't know of this: its status, and entering shares, go by the certificate alone.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate principal disable user/billing
  quorate principal enable user/billing
  quorate principal list")]
pub struct PrincipalCommand {
    #[command(subcommand)]
    action: PrincipalAction,
}

#[derive(Subcommand, Debug)]
enum PrincipalAction {
    /// Shut somebody out until they are enabled again; nobody does so to himself
    #[command(after_help = "Examples:
  quorate principal disable user/billing

To shut out one certificate alone, and for ever, revoke that credential.")]
    Disable(Who),
    /// Let somebody in again
    #[command(after_help = "Examples:
  quorate principal enable user/billing")]
    Enable(Who),
    /// List those who were ever disabled
    #[command(after_help = "Examples:
  quorate principal list
  quorate principal list --output json")]
    List {},
}

#[derive(Args, Debug)]
struct Who {
    /// Role and name, as the certificate has them: user/billing
    #[arg(value_name = "PRINCIPAL")]
    principal: String,
}

/// Revoke certificates of clients, for ever.
///
/// A certificate is known by its public key: one that was issued anew for the same key is the same credential. Revoked is revoked at
/// every node from the answer on, on open connections too. While a node is sealed it can't know of this: its status, and entering
/// shares, go by the certificate alone.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate credential revoke --cert billing.pem --reason key-compromise
  quorate credential describe --cert billing.pem
  quorate credential list

Credentials that were issued: quorate pki list --dir pki --output wide")]
pub struct CredentialCommand {
    #[command(subcommand)]
    action: CredentialAction,
}

#[derive(Subcommand, Debug)]
enum CredentialAction {
    /// Revoke a credential; there is no way back, and nobody revokes what he presents himself
    #[command(after_help = "Examples:
  quorate credential revoke --cert billing.pem --reason key-compromise
  quorate credential revoke 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --principal user/billing")]
    Revoke {
        #[command(flatten)]
        which: Which,
        /// Whose it is, for whoever looks at the list [default: as the certificate says]
        #[arg(long, value_name = "PRINCIPAL")]
        principal: Option<String>,
        /// Why
        #[arg(long, value_name = "REASON", value_parser = reasons())]
        reason: Option<String>,
    },
    /// Show whether a credential was revoked
    #[command(after_help = "Examples:
  quorate credential describe --cert billing.pem")]
    Describe {
        #[command(flatten)]
        which: Which,
    },
    /// List those that were revoked
    #[command(after_help = "Examples:
  quorate credential list
  quorate credential list --output json")]
    List {},
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// SHA-256 of its public key (SPKI, DER): 64 hexadecimal digits
    #[arg(value_name = "CREDENTIAL")]
    credential: Option<String>,
    /// The certificate itself (PEM)
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(RevocationReason::ALL.iter().map(|reason| reason.as_str()))
}

impl Which {
    /// Its id, and whose it is as far as the certificate says.
    fn read(self) -> CommandResult<(String, Option<Named>)> {
        let Some(path) = self.cert else { return Ok((self.credential.unwrap_or_default(), None)) };
        let wrong =
            |why: String| Failure::failed("can't use the certificate", format!("{}: {why}", path.display()), "");
        let pem = files::read(&path, "the certificate")?;
        let facts = CertificateFacts::of_pem(&pem).map_err(wrong)?;
        let whose = facts.uris.iter().find_map(|uri| Named::parse_uri(uri).ok()).map(|(_, whose)| whose);
        if whose.as_ref().is_some_and(|whose| whose.role() == Role::Node) {
            let what = "can't use the certificate";
            let why = format!("{} is a node's, and a node is no caller", path.display());
            return Err(Failure::failed(what, why, "a node is shut out by `quorate operator members remove`"));
        }
        Ok((facts.credential().to_string(), whose))
    }
}

impl PrincipalCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let answer = match self.action {
            PrincipalAction::Disable(Who { principal }) => {
                client.disable_principal(PrincipalRequest { principal }).await.doing("disable the principal")?
            }
            PrincipalAction::Enable(Who { principal }) => {
                client.enable_principal(PrincipalRequest { principal }).await.doing("enable the principal")?
            }
            PrincipalAction::List {} => {
                let page = async |page_token| {
                    let request = ListPrincipalsRequest { limit: PAGE_LEN_MAX, page_token };
                    let page = client.list_principals(request).await.doing("list principals")?;
                    let more = !page.next_page_token.is_empty();
                    Ok((page.principals, more.then_some(page.next_page_token)))
                };
                let list = List::begin(shared.format(), "principals", PRINCIPALS);
                return list.pages(page, principal_json, principal_row).await;
            }
        };
        let PrincipalResponse { principal } = answer;
        let of = principal.unwrap_or_default();
        shared.format().print(&principal_json(&of), || {
            output::fields([("principal", of.principal.as_str()), ("state", state(&of))])
        })
    }
}

const PRINCIPALS: [Column; 4] = [
    ("PRINCIPAL", 24, Shown::Always),
    ("STATE", 8, Shown::Always),
    ("SINCE", 20, Shown::Always),
    ("BY", 16, Shown::Always),
];

fn state(of: &Principal) -> &'static str {
    if of.enabled { "enabled" } else { "disabled" }
}

fn principal_row(of: &Principal) -> [String; 4] {
    [of.principal.clone(), state(of).to_owned(), output::date(of.updated_ms), of.updated_by.clone()]
}

/// A principal in JSON, the same in every answer.
fn principal_json(of: &Principal) -> Value {
    json!({
        "principal": of.principal,
        "state": state(of),
        "created_at": output::moment(of.created_ms),
        "updated_at": output::moment(of.updated_ms),
        "updated_by": of.updated_by,
    })
}

impl CredentialCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let answer = match self.action {
            CredentialAction::Revoke { which, principal, reason } => {
                let (credential, whose) = which.read()?;
                let principal = principal.or(whose.map(|whose| whose.to_string())).unwrap_or_default();
                let request = RevokeCredentialRequest { credential, principal, reason: reason.unwrap_or_default() };
                shared.client().await?.revoke_credential(request).await.doing("revoke the credential")?
            }
            CredentialAction::Describe { which } => {
                let (credential, _) = which.read()?;
                let request = CredentialRequest { credential };
                shared.client().await?.describe_credential(request).await.doing("describe the credential")?
            }
            CredentialAction::List {} => {
                let client = shared.client().await?;
                let page = async |page_token| {
                    let request = ListCredentialsRequest { limit: PAGE_LEN_MAX, page_token };
                    let page = client.list_credentials(request).await.doing("list credentials")?;
                    let more = !page.next_page_token.is_empty();
                    Ok((page.credentials, more.then_some(page.next_page_token)))
                };
                let list = List::begin(shared.format(), "credentials", CREDENTIALS);
                return list.pages(page, credential_json, credential_row).await;
            }
        };
        let CredentialResponse { credential } = answer;
        let of = credential.unwrap_or_default();
        shared.format().print(&credential_json(&of), || {
            let mut rows = vec![("credential", of.credential.as_str())];
            let revoked = output::date(of.revoked_ms);
            match of.revoked_ms {
                0 => rows.push(("state", "not revoked")),
                _ => rows.extend([
                    ("state", "revoked"),
                    ("since", &revoked),
                    ("reason", &of.reason),
                    ("by", &of.revoked_by),
                ]),
            }
            if !of.principal.is_empty() {
                rows.push(("principal", &of.principal));
            }
            output::fields(rows)
        })
    }
}

const CREDENTIALS: [Column; 5] = [
    ("PRINCIPAL", 24, Shown::Always),
    ("REVOKED", 20, Shown::Always),
    ("REASON", 20, Shown::Always),
    ("BY", 16, Shown::Wide),
    ("CREDENTIAL", 0, Shown::Wide),
];

fn credential_row(of: &Credential) -> [String; 5] {
    let since = if of.revoked_ms == 0 { String::new() } else { output::date(of.revoked_ms) };
    [of.principal.clone(), since, of.reason.clone(), of.revoked_by.clone(), of.credential.clone()]
}

/// A credential in JSON, the same in every answer; absent is null.
fn credential_json(of: &Credential) -> Value {
    json!({
        "credential": of.credential,
        "principal": output::text(&of.principal),
        "state": if of.revoked_ms == 0 { "not revoked" } else { "revoked" },
        "revoked_at": output::moment(of.revoked_ms),
        "reason": output::text(&of.reason),
        "revoked_by": output::text(&of.revoked_by),
    })
}
