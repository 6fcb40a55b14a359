//! Which cluster a command talks to, and as whom: flags, else environment, else the client configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use quorate_client::ClientConfig;
use serde::Deserialize;

use super::failure::{CommandResult, Failure};
use super::files;

const HEADING: &str = "Connection";

/// How to reach the cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct Connection {
    /// Nodes, as host:port, separated by commas; the first that works is used
    #[arg(long, env = "QUORATE_ADDR", hide_env_values = true, value_name = "HOST:PORT,…", value_delimiter = ',', global = true, help_heading = HEADING)]
    pub addr: Vec<String>,
    /// The cluster's root certificate (PEM)
    #[arg(long, env = "QUORATE_CACERT", hide_env_values = true, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub cacert: Option<PathBuf>,
    /// Your certificate (PEM), from `quorate pki client`
    #[arg(long, env = "QUORATE_CLIENT_CERT", hide_env_values = true, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub client_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "QUORATE_CLIENT_KEY", hide_env_values = true, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub client_key: Option<PathBuf>,
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600), global = true, help_heading = HEADING,
        help = format!("Longest time for one request, in seconds [default: {}]", ClientConfig::DEADLINE_DEFAULT.as_secs()))]
    pub timeout: Option<u64>,
    /// File that holds these settings [default: ~/.config/quorate/client.toml]
    #[arg(long, env = "QUORATE_CONFIG", hide_env_values = true, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub client_config: Option<PathBuf>,
}

/// A path; an empty one (from an environment variable set to nothing) is none.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|p| !p.as_os_str().is_empty())
}

/// The client configuration file.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct ClientFile {
    addr: Option<Addresses>,
    cacert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    timeout: Option<u64>,
}

#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Addresses {
    List(Vec<String>),
    Text(String),
}

impl ClientFile {
    /// Parses `text`; relative paths are relative to the file's folder.
    fn parse(text: &str, path: &Path) -> CommandResult<Self> {
        let mut file: Self = toml::from_str(text).map_err(|e| {
            let why = format!("{}: {e}", path.display());
            let known = "it may hold addr, cacert, client_cert, client_key and timeout";
            Failure::failed("can't use the client configuration file", why, known)
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        for p in [&mut file.cacert, &mut file.client_cert, &mut file.client_key].into_iter().flatten() {
            *p = match p.strip_prefix("~") {
                Ok(rest) => home().unwrap_or_default().join(rest),
                Err(_) => base.join(&*p),
            };
        }
        if file.timeout.is_some_and(|t| !(1..=3600).contains(&t)) {
            return Err(Failure::failed(
                "can't use the client configuration file",
                "timeout is not 1 to 3600 seconds",
                "",
            ));
        }
        Ok(file)
    }

    fn load(named: Option<&Path>) -> CommandResult<Self> {
        let default = default_path();
        let Some(path) = named.or(default.as_deref().filter(|p| files::exists(p))) else { return Ok(Self::default()) };
        let bytes = files::read(path, "the client configuration file")?;
        Self::parse(&String::from_utf8_lossy(&bytes), path)
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

fn default_path() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    Some(config.or_else(|| Some(home()?.join(".config")))?.join("quorate/client.toml"))
}

impl Connection {
    /// The settings, with what the file adds.
    pub fn config(&self) -> CommandResult<ClientConfig> {
        let file = ClientFile::load(given(&self.client_config).as_deref())?;
        let addrs = match (&self.addr, file.addr) {
            (flags, _) if !flags.is_empty() => flags.clone(),
            (_, Some(Addresses::List(list))) => list,
            (_, Some(Addresses::Text(text))) => text.split(',').map(str::to_owned).collect(),
            (_, None) => Vec::new(),
        };
        let addrs = addrs.into_iter().filter(|a| !a.trim().is_empty()).collect();
        let missing = |what: &str, name: &str, flag: &str| {
            let todo = format!("set {name} or {flag}, or write it into ~/.config/quorate/client.toml");
            Failure::failed(format!("can't tell which {what} to use"), "none is given", todo)
        };
        let cacert = given(&self.cacert).or(file.cacert);
        let cacert = cacert.ok_or_else(|| missing("root certificate", "QUORATE_CACERT", "--cacert"))?;
        let ca_pem = files::read(&cacert, "the root certificate")?;
        let (cert, key) = (given(&self.client_cert).or(file.client_cert), given(&self.client_key).or(file.client_key));
        let (cert_pem, key_pem) = match (cert, key) {
            (Some(cert), Some(key)) => {
                (files::read(&cert, "the client certificate")?, files::read(&key, "the client key")?)
            }
            (None, None) => Default::default(),
            (None, Some(_)) => return Err(missing("client certificate", "QUORATE_CLIENT_CERT", "--client-cert")),
            (Some(_), None) => return Err(missing("client key", "QUORATE_CLIENT_KEY", "--client-key")),
        };
        let mut config = ClientConfig::new(addrs, ca_pem, cert_pem, key_pem);
        if let Some(seconds) = self.timeout.or(file.timeout) {
            config.deadline = Duration::from_secs(seconds);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_knows_lists_texts_and_relative_paths() {
        let path = Path::new("/etc/quorate/client.toml");
        let file =
            ClientFile::parse("addr = [\"a:1\", \"b:2\"]\ncacert = \"ca.pem\"\nclient_key = \"/k\"", path).unwrap();
        assert!(matches!(file.addr, Some(Addresses::List(l)) if l == ["a:1", "b:2"]));
        assert_eq!(file.cacert.unwrap(), Path::new("/etc/quorate/ca.pem"));
        assert_eq!(file.client_key.unwrap(), Path::new("/k"));
        let file = ClientFile::parse("addr = \"a:1,b:2\"\ntimeout = 3", path).unwrap();
        assert!(matches!(file.addr, Some(Addresses::Text(t)) if t == "a:1,b:2"));
        for (bad, expected) in
            [("adr = \"a\"", "unknown field `adr`"), ("timeout = 0", "1 to 3600"), ("addr =", "client.toml")]
        {
            let error = ClientFile::parse(bad, path).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn flags_come_before_the_file_and_gaps_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            files::replace(&path, 0o600, text.as_bytes()).unwrap();
            path
        };
        let ca = write("ca.pem", "ROOT");
        let client_config = Some(write("client.toml", "addr = \"file:1\"\ncacert = \"ca.pem\"\ntimeout = 3"));
        let from_file = Connection { client_config: client_config.clone(), ..Default::default() }.config().unwrap();
        assert_eq!((from_file.addrs, from_file.ca_pem), (vec!["file:1".to_owned()], b"ROOT".to_vec()));
        assert_eq!(from_file.deadline, Duration::from_secs(3));
        let flags = Connection {
            addr: vec!["flag:1".into(), "flag:2".into()],
            timeout: Some(4),
            client_config: client_config.clone(),
            ..Default::default()
        };
        let both = flags.config().unwrap();
        assert_eq!((both.addrs.len(), both.deadline), (2, Duration::from_secs(4)));

        let empty = Some(write("empty.toml", ""));
        let refused = |c: Connection| c.config().unwrap_err().to_string();
        assert!(refused(Connection { client_config: empty.clone(), ..Default::default() }).contains("QUORATE_CACERT"));
        let half =
            Connection { client_cert: Some(ca.clone()), cacert: Some(ca), client_config: empty, ..Default::default() };
        assert!(refused(half).contains("QUORATE_CLIENT_KEY"));
        let nothing =
            Connection { cacert: Some("".into()), client_config: client_config.clone(), ..Default::default() };
        assert_eq!(nothing.config().unwrap().ca_pem, b"ROOT", "set to nothing is not set");
        let gone = Connection { client_config: Some("/nonexistent".into()), ..Default::default() };
        assert!(refused(gone).contains("/nonexistent"));
    }
}
