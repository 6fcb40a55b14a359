//! What stands on the command line as far as it has to be known before it is understood, or although it can't be.

use std::ffi::OsString;

use super::connect::Connection;
use super::operator;

/// Set by a shell that asks what could follow.
pub const ASKED_BY: &str = "COMPLETE";

/// The words that were typed.
pub struct Typed(Vec<OsString>);

impl Typed {
    /// Those that this process was called with; when a shell asks, those of the line that it is about.
    pub fn of_process() -> Self {
        let mut words: Vec<OsString> = std::env::args_os().collect();
        if std::env::var_os(ASKED_BY).is_some() {
            let line = words.iter().position(|word| word == "--").map_or(words.len(), |at| at + 1);
            words.drain(..line);
        }
        Self(words)
    }

    /// Whether a share, or nearly one, is among them.
    pub fn hold_a_share(&self) -> bool {
        operator::is_share(&self.0)
    }

    /// Whether they ask for JSON.
    pub fn want_json(&self) -> bool {
        self.values(&["--output", "-o"]).iter().any(|form| form == "json")
    }

    /// Which cluster they name, and as whom.
    pub fn connection(&self) -> Connection {
        let last = |flag| self.values(&[flag]).pop();
        let text = |value: OsString| value.to_string_lossy().into_owned();
        Connection {
            addr: self
                .values(&["--addr"])
                .into_iter()
                .flat_map(|v| text(v).split(',').map(str::to_owned).collect::<Vec<_>>())
                .collect(),
            cacert: last("--cacert").map(Into::into),
            client_cert: last("--client-cert").map(Into::into),
            client_key: last("--client-key").map(Into::into),
            context: last("--context").map(text),
            client_config: last("--client-config").map(Into::into),
            namespace: last("--namespace").map(text),
            timeout: None,
        }
    }

    /// What is given to a flag by one of its names: `--flag VALUE`, `--flag=VALUE`, `-fVALUE`.
    fn values(&self, names: &[&str]) -> Vec<OsString> {
        let mut found = Vec::new();
        for (at, word) in self.0.iter().enumerate() {
            let text = word.to_string_lossy();
            for name in names {
                let Some(rest) = text.strip_prefix(name) else { continue };
                let joined = rest.strip_prefix('=').or((!name.starts_with("--")).then_some(rest));
                match joined {
                    _ if rest.is_empty() => found.extend(self.0.get(at + 1).cloned()),
                    Some(value) => found.push(value.into()),
                    None => {}
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Typed {
        Typed(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn what_can_not_be_understood_may_ask_for_json() {
        for asks in ["quorate -o json nonsense", "quorate nonsense --output=json", "quorate -ojson", "quorate -o=json"]
        {
            assert!(typed(asks).want_json(), "{asks}");
        }
        for no in
            ["quorate nonsense", "quorate --output yaml", "quorate --out json", "quorate --output-x json", "quorate -o"]
        {
            assert!(!typed(no).want_json(), "{no}");
        }
    }

    #[test]
    fn a_line_that_is_not_whole_names_its_cluster() {
        let line =
            "quorate keys --context b --addr a:1,a:2 describe --client-config=/c.toml --cacert ca.pem --addr=a:3 pay";
        let named = typed(line).connection();
        assert_eq!(
            (named.addr, named.context.as_deref()),
            (["a:1", "a:2", "a:3"].map(str::to_owned).to_vec(), Some("b"))
        );
        assert_eq!((named.client_config, named.cacert), (Some("/c.toml".into()), Some("ca.pem".into())));
        assert!(typed("quorate keys describe").connection().addr.is_empty());
    }
}
