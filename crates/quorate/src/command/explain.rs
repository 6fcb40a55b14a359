//! `quorate explain CODE`: what each reason of an error means and what to do, for people; in one table, which the errors
//! themselves take their advice from.

use clap::Args;
use quorate_client::reason;
use serde_json::json;

use super::Shared;
use super::failure::{self, CommandResult, Failure};
use super::output;

/// What an error's code means, and what to do.
///
/// Without a code, all of them. Programs read the code of an error from `reason` with --output json, or from the trailer quorate-reason.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate explain SEALED
  quorate explain UNKNOWN_OUTCOME --output json
  quorate explain")]
pub struct Explain {
    /// The code, as an error shows it
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

/// One code.
pub struct Explanation {
    /// The code.
    pub code: &'static str,
    /// What it means.
    means: &'static str,
    /// What to do; errors show it too.
    pub todo: &'static str,
}

const fn code(code: &'static str, means: &'static str, todo: &'static str) -> Explanation {
    Explanation { code, means, todo }
}

/// What to do when the cluster does not answer.
const LOOK_FOR_MAJORITY: &str = "look with `quorate operator status` whether a majority of nodes is up; then try again";

const EXPLANATIONS: &[Explanation] = &[
    code(
        "UNAUTHENTICATED",
        "the node got no client certificate, or one that names nobody of this cluster, was revoked or has ended, or whose holder is disabled",
        "give a client certificate of this cluster (QUORATE_CLIENT_CERT, QUORATE_CLIENT_KEY); `quorate pki client` issues them; an administrator sees who was shut out in `quorate credential list` and `quorate principal list`",
    ),
    code(
        "DENIED",
        "you are who you say, and your role does not include this",
        "ask an administrator, or use a certificate with another role; `quorate help pki client` lists the roles",
    ),
    code(
        "UNINITIALIZED",
        "the node belongs to no cluster yet",
        "found a cluster with `quorate operator init`, or let the node join one",
    ),
    code(
        "ALREADY_INITIALIZED",
        "the cluster has been founded already; nothing was changed",
        "look with `quorate operator status`; another cluster needs nodes with empty data folders",
    ),
    code(
        "SEALED",
        "the node holds no root key: keys can't be used until custodians have entered enough shares",
        "enter shares with `quorate operator unseal`; `quorate operator status` shows how far it is",
    ),
    code(
        "DAMAGED",
        "the node found its own data damaged and serves nothing more from them; the other members go on",
        "look with `quorate operator status` which member it is, and replace it",
    ),
    code(
        "UPGRADE_NEEDED",
        "a newer version wrote what this node would have to read; nothing is damaged",
        "install the version of the other members on this node",
    ),
    code("INVALID_ARGUMENT", "the request itself is wrong, whatever the state of the cluster", ""),
    code("TOO_LARGE", "part of the request is longer than its limit", ""),
    code("NOT_FOUND", "what the request names does not exist, or you may not know of it", ""),
    code("ALREADY_EXISTS", "the name is taken; nothing was changed", ""),
    code(
        "NAMESPACE_NOT_FOUND",
        "the namespace that was named (--namespace, QUORATE_NAMESPACE, the client file) does not exist",
        "`quorate namespace list` shows what there is, and `quorate namespace create NAME` makes one; without a name it is default",
    ),
    code(
        "NOT_EMPTY",
        "there is something in the namespace, which stays as it is: what waits for its destruction counts",
        "`quorate keys list --namespace NAME` and `quorate secret list --namespace NAME` show what is there",
    ),
    code(
        "KEY_DISABLED",
        "the key, or the secret, is disabled: no node uses it",
        "`quorate keys enable KEY` enables a key, `quorate keys update-version KEY --version N --enabled true` one version, \
         `quorate secret update NAME --enabled true` one of a secret",
    ),
    code(
        "ARCHIVED",
        "the key is put away: no node uses or changes it",
        "`quorate keys recover KEY` gets it back, as it was",
    ),
    code(
        "KEY_PENDING_DELETION",
        "the key, or the secret, waits for its destruction: no node uses it",
        "`quorate keys cancel-deletion KEY` keeps a key; enable it afterwards. `quorate secret recover NAME` keeps a secret",
    ),
    code("WRONG_STATE", "the key, the member or the namespace is in a state in which this can't be done", ""),
    code("LIMIT_EXCEEDED", "there may be no more of these", "remove one that is not needed"),
    code(
        "EXHAUSTED",
        "that version of the key has encrypted as often as one version may by aes-gcm, 2^32 times",
        "`quorate keys rotate KEY` makes a new version; old ciphertexts are decrypted as ever, by --version N",
    ),
    code(
        "TOKEN_REUSED",
        "the client token was used for another request",
        "make a new token (a UUIDv7) for each request of your own",
    ),
    code(
        "TOKEN_TIME",
        "the client token's time is too far from the node's: it may be up to an hour old, and ten minutes ahead",
        "make the token now (a UUIDv7), and check this machine's clock",
    ),
    code("WRONG_USAGE", "the key is of a kind, or was made for something, that is not this", "create a key for this"),
    code(
        "WRONG_KIND",
        "it is a secret where a key is meant, or a key where a secret is",
        "`quorate keys` and the commands that use keys take keys, `quorate secret` takes secrets, by their names",
    ),
    code(
        "WRONG_ALGORITHM",
        "keys of that kind, or that one, don't do this by the algorithm that you asked for",
        "leave --algorithm out: the key's own is used; `quorate keys versions KEY` shows what there is",
    ),
    code(
        "NOT_YET_VALID",
        "the version of the key is not active, or not for this, before a date to come",
        "`quorate keys versions KEY` shows the dates; `quorate keys activate KEY` makes it active now",
    ),
    code(
        "NO_LONGER_VALID",
        "the version of the key was deactivated, or its time is over: it protects nothing new any more",
        "make a new one with `quorate keys rotate KEY`; older versions only open what they made",
    ),
    code(
        "COMPROMISED",
        "somebody else may know the version's material: it protects nothing any more, and processes only for administrators",
        "rotate the key, and protect anew what that version protected",
    ),
    code(
        "PURGE_PROTECTED",
        "the key was made so that nobody can have it destroyed before its day",
        "wait for the day: `quorate keys describe KEY`, or `quorate secret describe NAME`, shows it",
    ),
    code(
        "MATERIAL_MISSING",
        "the key was created to have its material imported, and has none: not yet, or it was deleted, or its time is over",
        "import it with `quorate keys import KEY`; what it was before is taken again, nothing else",
    ),
    code(
        "WRONG_MATERIAL",
        "the key had other material before; with this what it protected would be lost",
        "import the same material again, or create another key for this",
    ),
    code(
        "TOKEN_EXPIRED",
        "an import token is taken for a day",
        "get new parameters with `quorate keys import-parameters KEY`, and wrap the material anew",
    ),
    code(
        "TOKEN_FOREIGN",
        "the import token was made for another key, or by another cluster, or was changed",
        "give the token that came with the public key that wrapped; `quorate keys import-parameters KEY` makes new ones",
    ),
    code(
        "UNSUPPORTED",
        "keys of that origin don't do this: imported material is not rotated unasked, what was made here is not imported, and a public \
         key has no material at all",
        "create another key for this",
    ),
    code(
        "NOT_EXPORTABLE",
        "the key's material never leaves the cluster: it was created so, or that was lowered; or its namespace allows no more",
        "create keys that are to leave with `quorate keys create --exportable wrapped`, in a namespace that allows it",
    ),
    code(
        "WRAPPED_ONLY",
        "the key's material leaves only wrapped under another key: it was created so, or that was lowered",
        "name a wrapping key with --wrap-with",
    ),
    code(
        "DESTROYED",
        "the version's material was destroyed; what only it could open is gone",
        "`quorate keys versions KEY` shows which versions there are",
    ),
    code(
        "RETIRED",
        "the version is older than the key's versions that still decrypt and verify",
        "`quorate keys update KEY --min-decryption-version N` lowers that floor",
    ),
    code(
        "WRONG_KEY",
        "the ciphertext is of another key than the one you named",
        "find out where it came from; give its key as one more --key if you trust it",
    ),
    code(
        "WRONG_LINEAGE",
        "the ciphertext, or the backup, was made by another cluster, or before this one was put back to an earlier state",
        "check QUORATE_ADDR; what another cluster made is opened there",
    ),
    code(
        "UNKNOWN_KEY",
        "the ciphertext's key, or that version of it, does not exist here: never did, or was destroyed",
        "check QUORATE_ADDR; what a destroyed key encrypted is gone",
    ),
    code(
        "TAMPERED",
        "the ciphertext or the associated data are not what was encrypted, which of them can't be told; or a backup is not whole",
        "give the whole of it and every --aad that it was made with; of a rotated key whose ciphertexts name no version, --version N",
    ),
    code("SHARE_REFUSED", "the node did not take the share; the others that were entered still count", ""),
    code(
        "INVITATION_REFUSED",
        "the joining node's token is unknown, used up, or too old",
        "invite it again with `quorate operator members invite`",
    ),
    code("BUSY", "too much load at the node, or too many failures from you; nothing was done", "try again in a moment"),
    code(
        "NO_SPACE",
        "too few nodes have disk space to store a change: nothing was changed, and keys can be used all the same",
        "make room on the nodes' disks; `quorate operator status` names them",
    ),
    code("CONTENDED", "others kept changing what this request depends on; nothing was changed", "try again"),
    code(
        "UNKNOWN_OUTCOME",
        "the change may or may not have happened, as the answer got lost; or it was begun and is not finished: the message says which",
        "look whether it did; repeating it with the same --token does it at most once, and what was begun goes on where it stopped",
    ),
    code("UNAVAILABLE", "the cluster can't answer just now; nothing was changed", LOOK_FOR_MAJORITY),
    code(
        "NO_MAJORITY",
        "there has been no majority of the voters, or none that leads, for longer than elections take; nothing was changed",
        "`quorate operator status` shows which nodes are missed, and what to do",
    ),
    code("INTERNAL", "a fault in quorate: please report it, with what the node logged", ""),
    code(reason::DEADLINE_EXCEEDED, "no answer in time to a call that changes nothing", LOOK_FOR_MAJORITY),
    code(
        reason::UNREACHABLE,
        "no connection: nobody listens there, or there is no way to it; nothing was sent",
        "check that the nodes run and that QUORATE_ADDR names them",
    ),
    code(
        reason::UNTRUSTED_SERVER,
        "who answered is no node of this cluster, or the name does not resolve; nothing was sent",
        "check QUORATE_ADDR, and that QUORATE_CACERT is this cluster's ca.pem",
    ),
    code(
        reason::CERTIFICATE_REFUSED,
        "the node refused this client's certificate: expired, or of another cluster",
        "look at it with `openssl x509 -in FILE -noout -subject -dates`; `quorate pki client` issues a new one",
    ),
    code(reason::INVALID_CONFIG, "the client's own settings can't work; nothing was sent", ""),
    code(
        failure::USAGE,
        "the command was called wrongly: exit code 2; nothing was done",
        "`--help` shows how it is called",
    ),
    code(
        failure::NOT_VALID,
        "the signature, or the code, is not that of this message by this key, version and algorithm; or evidence is not what \
         nodes of the cluster have signed: exit code 1",
        "take nothing of it for genuine; make sure that message, key, version and algorithm are those that it was made with, and \
         that the root certificate is the cluster's",
    ),
    code(failure::FAILED, "something on this machine failed, as a file that can't be written: exit code 1", ""),
];

/// What is known of a code.
pub fn of(code: &str) -> Option<&'static Explanation> {
    EXPLANATIONS.iter().find(|e| e.code == code)
}

impl Explain {
    /// Prints it.
    pub fn run(self, shared: &Shared) -> CommandResult {
        let json = |e: &Explanation| json!({ "code": e.code, "means": e.means, "hint": output::text(e.todo) });
        let Some(asked) = self.code else {
            let all = json!({ "codes": EXPLANATIONS.iter().map(json).collect::<Vec<_>>() });
            return shared.format().print(&all, || output::fields(EXPLANATIONS.iter().map(|e| (e.code, e.means))));
        };
        let known = of(&asked.to_uppercase().replace('-', "_"));
        let found = known.ok_or_else(|| {
            Failure::failed(
                format!("can't explain {asked}"),
                "it is no code of quorate's",
                "`quorate explain` lists them all",
            )
        })?;
        shared.format().print(&json(found), || {
            output::fields([("code", found.code), ("means", found.means), ("what to do", found.todo)])
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_proto::v1::Reason;

    use super::*;

    #[test]
    fn every_reason_is_explained_once() {
        let explained: Vec<&str> = EXPLANATIONS.iter().map(|e| e.code).collect();
        let of_nodes = (1..).map_while(|n| Reason::try_from(n).ok()).map(Reason::word);
        let all: BTreeSet<&str> = of_nodes
            .chain(reason::OWN.iter().copied())
            .chain([failure::USAGE, failure::FAILED, failure::NOT_VALID])
            .collect();
        assert_eq!(explained.iter().copied().collect::<BTreeSet<_>>(), all);
        assert_eq!(explained.len(), all.len(), "none twice");
    }
}
