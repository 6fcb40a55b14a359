//! Histories as EDN, one map a line, with the keys Jepsen's own tools read: `:index :time :process :type :f :value`.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use clojure_reader::edn::{self, Edn};

use super::{Answer, Call, Event, Flaw, Form, History, Outcome, State, What};

type Map<'a> = BTreeMap<Edn<'a>, Edn<'a>>;

/// One event as a line, without its end.
pub fn line(event: &Event) -> String {
    let mut map = Map::new();
    let int = |n: u64| Edn::Int(i64::try_from(n).unwrap_or(i64::MAX));
    map.insert(Edn::key("index"), int(event.index));
    map.insert(Edn::key("time"), int(event.time));
    match &event.what {
        What::Nemesis { f, value } => {
            map.insert(Edn::key("process"), Edn::key("nemesis"));
            map.insert(Edn::key("type"), Edn::key("info"));
            map.insert(Edn::key("f"), Edn::key(f.as_str()));
            map.insert(Edn::key("value"), Edn::string(value.as_str()));
        }
        What::Client { process, node, key, last, call, outcome } => {
            map.insert(Edn::key("process"), int(*process));
            map.insert(Edn::key("node"), int((*node).into()));
            map.insert(Edn::key("key"), key.as_deref().map_or(Edn::Nil, Edn::string));
            if *last {
                map.insert(Edn::key("final"), Edn::Bool(true));
            }
            let mut value = Map::new();
            map.insert(Edn::key("f"), Edn::key(call.name()));
            match call {
                Call::Create { token, form } => {
                    value.insert(Edn::key("token"), int(*token));
                    if *form != Form::Usual {
                        value.insert(Edn::key("form"), Edn::key(form_name(*form)));
                    }
                }
                Call::Encrypt { text } | Call::Decrypt { text } => _ = value.insert(Edn::key("text"), int(*text)),
                Call::EncryptBy { text, version } | Call::DecryptBy { text, version } => {
                    value.insert(Edn::key("text"), int(*text));
                    value.insert(Edn::key("by"), int((*version).into()));
                }
                Call::ReEncrypt { from, version, text } => {
                    value.insert(Edn::key("from"), int(*from));
                    value.insert(Edn::key("by"), int((*version).into()));
                    value.insert(Edn::key("text"), int(*text));
                }
                Call::DataKey { text, plain } => {
                    value.insert(Edn::key("text"), int(*text));
                    value.insert(Edn::key("plain"), Edn::Bool(*plain));
                }
                Call::Compromise { version } | Call::DestroyVersion { version } | Call::Restore { version } => {
                    value.insert(Edn::key("by"), int((*version).into()));
                }
                Call::Import { material, seconds } => {
                    value.insert(Edn::key("brings"), int(*material));
                    value.insert(Edn::key("seconds"), int((*seconds).into()));
                }
                Call::CreateAlias { alias } | Call::DeleteAlias { alias } | Call::DescribeAlias { alias } => {
                    value.insert(Edn::key("alias"), int(*alias));
                }
                Call::CreateNamed { name, token } => {
                    value.insert(Edn::key("name"), int(*name));
                    value.insert(Edn::key("token"), int(*token));
                }
                Call::DescribeNamed { name } | Call::ScheduleNamed { name } | Call::PurgeNamed { name } => {
                    value.insert(Edn::key("name"), int(*name));
                }
                Call::SetSecret { secret, value: is } => {
                    value.insert(Edn::key("secret"), int(*secret));
                    value.insert(Edn::key("is"), int(*is));
                }
                Call::GetSecret { secret, version } => {
                    value.insert(Edn::key("secret"), int(*secret));
                    value.insert(Edn::key("by"), int((*version).into()));
                }
                Call::DeleteSecret { secret } | Call::RecoverSecret { secret } | Call::PurgeSecret { secret } => {
                    value.insert(Edn::key("secret"), int(*secret));
                }
                Call::EncryptAlias { alias, text } => {
                    value.insert(Edn::key("alias"), int(*alias));
                    value.insert(Edn::key("text"), int(*text));
                }
                Call::EnterShare { share, flaw } => {
                    value.insert(Edn::key("share"), int((*share).into()));
                    if let Some(flaw) = flaw {
                        value.insert(Edn::key("flaw"), Edn::key(flaw_name(*flaw)));
                    }
                }
                Call::Remove { member } => _ = value.insert(Edn::key("member"), int((*member).into())),
                Call::ScheduleSoon { seconds } => _ = value.insert(Edn::key("seconds"), int((*seconds).into())),
                _ => {}
            }
            let kind = match outcome {
                None => "invoke",
                Some(Outcome::Ok(answer)) => {
                    match answer {
                        Answer::Key { state, version } => {
                            value.insert(Edn::key("state"), Edn::key(state_name(*state)));
                            value.insert(Edn::key("version"), int((*version).into()));
                        }
                        Answer::Due { at, version } => {
                            value.insert(Edn::key("at"), int(*at));
                            value.insert(Edn::key("version"), int((*version).into()));
                        }
                        Answer::Metadata { state, version, token, created, rotated } => {
                            value.insert(Edn::key("state"), Edn::key(state_name(*state)));
                            for (name, number) in [
                                ("version", u64::from(*version)),
                                ("token", *token),
                                ("created", *created),
                                ("rotated", *rotated),
                            ] {
                                value.insert(Edn::key(name), int(number));
                            }
                        }
                        Answer::Value { value: was, version } => {
                            value.insert(Edn::key("was"), int(*was));
                            value.insert(Edn::key("version"), int((*version).into()));
                        }
                        Answer::Made { version } => _ = value.insert(Edn::key("version"), int((*version).into())),
                        Answer::Encrypted { version } => _ = value.insert(Edn::key("version"), int((*version).into())),
                        Answer::Decrypted { version, exact } => {
                            value.insert(Edn::key("version"), int((*version).into()));
                            value.insert(Edn::key("exact"), Edn::Bool(*exact));
                        }
                        Answer::Versions { states, ends } => {
                            value.insert(Edn::key("states"), Edn::string(states.as_str()));
                            value.insert(Edn::key("ends"), int(*ends));
                        }
                        Answer::Material { material, ends } => {
                            value.insert(Edn::key("material"), int(*material));
                            value.insert(Edn::key("ends"), int(*ends));
                        }
                        Answer::Share { complete } => {
                            value.insert(Edn::key("complete"), Edn::Bool(*complete));
                        }
                        Answer::Done => {}
                    }
                    "ok"
                }
                Some(Outcome::Fail(why)) => {
                    map.insert(Edn::key("error"), Edn::string(why.as_str()));
                    "fail"
                }
                Some(Outcome::Info(why)) => {
                    map.insert(Edn::key("error"), Edn::string(why.as_str()));
                    "info"
                }
            };
            map.insert(Edn::key("type"), Edn::key(kind));
            map.insert(Edn::key("value"), Edn::Map(value));
        }
    }
    Edn::Map(map).to_string()
}

/// Reads a history.
///
/// # Errors
/// The first line that is not an event, by its number.
pub fn from_text(text: &str) -> anyhow::Result<History> {
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    let events = lines.map(|(n, l)| event(l).with_context(|| format!("line {}", n + 1))).collect::<Result<_, _>>()?;
    Ok(History { events })
}

fn event(line: &str) -> anyhow::Result<Event> {
    let read = edn::read_string(line).map_err(|e| anyhow!("not EDN: {e:?}"))?;
    let Edn::Map(map) = &read else { bail!("not a map") };
    let (index, time) = (int(map, "index")?, int(map, "time")?);
    let f = word(map, "f")?;
    if get(map, "process") == Some(&Edn::key("nemesis")) {
        let value = text(map, "value")?.to_owned();
        return Ok(Event { index, time, what: What::Nemesis { f: f.to_owned(), value } });
    }
    let Some(Edn::Map(value)) = get(map, "value") else { bail!(":value is no map") };
    let by = || Ok::<_, anyhow::Error>(u32::try_from(int(value, "by")?)?);
    let call = match f {
        "create" => {
            let form = get(value, "form").map(|_| form(word(value, "form")?)).transpose()?;
            Call::Create { token: int(value, "token")?, form: form.unwrap_or(Form::Usual) }
        }
        "describe" => Call::Describe,
        "inspect" => Call::Inspect,
        "enable" => Call::Enable,
        "disable" => Call::Disable,
        "schedule-deletion" => Call::Schedule,
        "schedule-deletion-soon" => Call::ScheduleSoon { seconds: u32::try_from(int(value, "seconds")?)? },
        "cancel-deletion" => Call::Cancel,
        "cancel-deletion-as-before" => Call::Recover,
        "purge" => Call::Purge,
        "back-up" => Call::BackUp,
        "restore" => Call::Restore { version: by()? },
        "rotate" => Call::Rotate,
        "list-versions" => Call::ListVersions,
        "compromise" => Call::Compromise { version: by()? },
        "destroy-version" => Call::DestroyVersion { version: by()? },
        "import-parameters" => Call::ImportParameters,
        "import" => Call::Import { material: int(value, "brings")?, seconds: u32::try_from(int(value, "seconds")?)? },
        "delete-material" => Call::DeleteMaterial,
        "export" => Call::Export,
        "encrypt-by-version" => Call::EncryptBy { text: int(value, "text")?, version: by()? },
        "decrypt-by-version" => Call::DecryptBy { text: int(value, "text")?, version: by()? },
        "re-encrypt" => Call::ReEncrypt { from: int(value, "from")?, version: by()?, text: int(value, "text")? },
        "data-key" => Call::DataKey { text: int(value, "text")?, plain: flag(value, "plain")? },
        "encrypt" => Call::Encrypt { text: int(value, "text")? },
        "decrypt" => Call::Decrypt { text: int(value, "text")? },
        "create-alias" => Call::CreateAlias { alias: int(value, "alias")? },
        "delete-alias" => Call::DeleteAlias { alias: int(value, "alias")? },
        "describe-by-alias" => Call::DescribeAlias { alias: int(value, "alias")? },
        "encrypt-by-alias" => Call::EncryptAlias { alias: int(value, "alias")?, text: int(value, "text")? },
        "create-named" => Call::CreateNamed { name: int(value, "name")?, token: int(value, "token")? },
        "describe-by-name" => Call::DescribeNamed { name: int(value, "name")? },
        "schedule-deletion-by-name" => Call::ScheduleNamed { name: int(value, "name")? },
        "purge-by-name" => Call::PurgeNamed { name: int(value, "name")? },
        "set-secret" => Call::SetSecret { secret: int(value, "secret")?, value: int(value, "is")? },
        "get-secret" => Call::GetSecret { secret: int(value, "secret")?, version: by()? },
        "delete-secret" => Call::DeleteSecret { secret: int(value, "secret")? },
        "recover-secret" => Call::RecoverSecret { secret: int(value, "secret")? },
        "purge-secret" => Call::PurgeSecret { secret: int(value, "secret")? },
        "seal" => Call::Seal,
        "unseal" => Call::Unseal,
        "enter-share" => Call::EnterShare {
            share: u32::try_from(int(value, "share")?)?,
            flaw: get(value, "flaw").map(|_| flaw(word(value, "flaw")?)).transpose()?,
        },
        "remove-member" => Call::Remove { member: u32::try_from(int(value, "member")?)? },
        "replace" => Call::Replace,
        other => bail!(":f {other} is unknown"),
    };
    let version = || Ok::<_, anyhow::Error>(u32::try_from(int(value, "version")?)?);
    let outcome = match word(map, "type")? {
        "invoke" => None,
        "ok" => Some(Outcome::Ok(match call {
            _ if call.encrypts().is_some() => Answer::Encrypted { version: version()? },
            Call::ListVersions => {
                Answer::Versions { states: text(value, "states")?.to_owned(), ends: int(value, "ends")? }
            }
            Call::Import { .. } | Call::Export => {
                Answer::Material { material: int(value, "material")?, ends: int(value, "ends")? }
            }
            Call::Purge | Call::Compromise { .. } | Call::DestroyVersion { .. } => Answer::Done,
            Call::ImportParameters | Call::DeleteMaterial => Answer::Done,
            Call::Decrypt { .. } | Call::DecryptBy { .. } => {
                Answer::Decrypted { version: version()?, exact: flag(value, "exact")? }
            }
            Call::ScheduleSoon { .. } => Answer::Due { at: int(value, "at")?, version: version()? },
            Call::Inspect => Answer::Metadata {
                state: state(word(value, "state")?)?,
                version: version()?,
                token: int(value, "token")?,
                created: int(value, "created")?,
                rotated: int(value, "rotated")?,
            },
            Call::EnterShare { .. } => Answer::Share { complete: flag(value, "complete")? },
            Call::BackUp | Call::SetSecret { .. } => Answer::Made { version: version()? },
            Call::GetSecret { .. } => Answer::Value { value: int(value, "was")?, version: version()? },
            Call::DeleteSecret { .. } | Call::RecoverSecret { .. } | Call::PurgeSecret { .. } => Answer::Done,
            Call::PurgeNamed { .. } => Answer::Done,
            Call::CreateAlias { .. } | Call::DeleteAlias { .. } => Answer::Done,
            _ if call.is_operators() => Answer::Done,
            _ => Answer::Key { state: state(word(value, "state")?)?, version: version()? },
        })),
        "fail" => Some(Outcome::Fail(text(map, "error")?.to_owned())),
        "info" => Some(Outcome::Info(text(map, "error")?.to_owned())),
        other => bail!(":type {other} is unknown"),
    };
    let key = match get(map, "key") {
        Some(Edn::Str(id)) => Some(id.clone().into_owned()),
        None | Some(Edn::Nil) => None,
        Some(_) => bail!(":key is no string"),
    };
    let node = u32::try_from(int(map, "node")?)?;
    let last = get(map, "final").is_some() && flag(map, "final")?;
    Ok(Event { index, time, what: What::Client { process: int(map, "process")?, node, key, last, call, outcome } })
}

impl Call {
    /// Its `:f`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Describe => "describe",
            Self::Inspect => "inspect",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Schedule => "schedule-deletion",
            Self::ScheduleSoon { .. } => "schedule-deletion-soon",
            Self::Cancel => "cancel-deletion",
            Self::Recover => "cancel-deletion-as-before",
            Self::Purge => "purge",
            Self::BackUp => "back-up",
            Self::Restore { .. } => "restore",
            Self::CreateNamed { .. } => "create-named",
            Self::DescribeNamed { .. } => "describe-by-name",
            Self::ScheduleNamed { .. } => "schedule-deletion-by-name",
            Self::PurgeNamed { .. } => "purge-by-name",
            Self::SetSecret { .. } => "set-secret",
            Self::GetSecret { .. } => "get-secret",
            Self::DeleteSecret { .. } => "delete-secret",
            Self::RecoverSecret { .. } => "recover-secret",
            Self::PurgeSecret { .. } => "purge-secret",
            Self::ListVersions => "list-versions",
            Self::Compromise { .. } => "compromise",
            Self::DestroyVersion { .. } => "destroy-version",
            Self::ImportParameters => "import-parameters",
            Self::Import { .. } => "import",
            Self::DeleteMaterial => "delete-material",
            Self::Export => "export",
            Self::EncryptBy { .. } => "encrypt-by-version",
            Self::DecryptBy { .. } => "decrypt-by-version",
            Self::ReEncrypt { .. } => "re-encrypt",
            Self::DataKey { .. } => "data-key",
            Self::Rotate => "rotate",
            Self::Encrypt { .. } => "encrypt",
            Self::Decrypt { .. } => "decrypt",
            Self::CreateAlias { .. } => "create-alias",
            Self::DeleteAlias { .. } => "delete-alias",
            Self::DescribeAlias { .. } => "describe-by-alias",
            Self::EncryptAlias { .. } => "encrypt-by-alias",
            Self::Seal => "seal",
            Self::Unseal => "unseal",
            Self::EnterShare { .. } => "enter-share",
            Self::Remove { .. } => "remove-member",
            Self::Replace => "replace",
        }
    }
}

const FORMS: [(Form, &str); 4] = [
    (Form::Usual, "usual"),
    (Form::PurgeProtected, "purge-protected"),
    (Form::External, "external"),
    (Form::Exportable, "exportable"),
];

fn form_name(form: Form) -> &'static str {
    FORMS.iter().find(|(known, _)| *known == form).map_or("", |(_, name)| name)
}

fn form(name: &str) -> anyhow::Result<Form> {
    let known = FORMS.iter().find(|(_, known)| *known == name);
    known.map(|(form, _)| *form).with_context(|| format!(":form {name} is unknown"))
}

const FLAWS: [(Flaw, &str); 4] = [
    (Flaw::Mistyped, "mistyped"),
    (Flaw::Unproven, "unproven"),
    (Flaw::Unchallenged, "unchallenged"),
    (Flaw::Foreign, "foreign"),
];

fn flaw_name(flaw: Flaw) -> &'static str {
    FLAWS.iter().find(|(known, _)| *known == flaw).map_or("", |(_, name)| name)
}

fn flaw(name: &str) -> anyhow::Result<Flaw> {
    FLAWS
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(flaw, _)| *flaw)
        .with_context(|| format!(":flaw {name} is unknown"))
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Enabled => "enabled",
        State::Disabled => "disabled",
        State::PendingDeletion => "pending-deletion",
    }
}

fn state(name: &str) -> anyhow::Result<State> {
    Ok(match name {
        "enabled" => State::Enabled,
        "disabled" => State::Disabled,
        "pending-deletion" => State::PendingDeletion,
        other => bail!(":state {other} is unknown"),
    })
}

/// The value of a keyword. (`BTreeMap::get` would want the name to live as long as the text.)
fn get<'m, 't>(map: &'m Map<'t>, key: &str) -> Option<&'m Edn<'t>> {
    map.iter().find(|(k, _)| matches!(k, Edn::Key(k) if k == key)).map(|(_, value)| value)
}

fn int(map: &Map<'_>, key: &str) -> anyhow::Result<u64> {
    match get(map, key) {
        Some(Edn::Int(n)) => u64::try_from(*n).with_context(|| format!(":{key} is negative")),
        _ => bail!(":{key} is no number"),
    }
}

fn word<'a>(map: &'a Map<'_>, key: &str) -> anyhow::Result<&'a str> {
    match get(map, key) {
        Some(Edn::Key(word)) => Ok(word),
        _ => bail!(":{key} is no keyword"),
    }
}

fn text<'a>(map: &'a Map<'_>, key: &str) -> anyhow::Result<&'a str> {
    match get(map, key) {
        Some(Edn::Str(text)) => Ok(text),
        _ => bail!(":{key} is no string"),
    }
}

fn flag(map: &Map<'_>, key: &str) -> anyhow::Result<bool> {
    match get(map, key) {
        Some(Edn::Bool(b)) => Ok(*b),
        _ => bail!(":{key} is neither true nor false"),
    }
}

#[cfg(test)]
#[path = "edn_tests.rs"]
mod tests;
