//! Which cluster a command talks to, and as whom: flags, else environment, else the client configuration file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::ClientConfig;

use super::client_file::{Addresses, ClientFile, Settings};
use super::failure::{CommandResult, Failure};
use super::{completions, files};
use crate::tls::{CertificateFacts, days_left};

pub(super) const HEADING: &str = "Connection";

/// How to reach the cluster. What the environment says is read when it is needed, so that usage lines speak of what was typed.
#[derive(Args, Clone, Debug, Default)]
pub struct Connection {
    /// Nodes, as host:port, separated by commas; the first that works is used [env: QUORATE_ADDR]
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', global = true, help_heading = HEADING)]
    pub addr: Vec<String>,
    /// The cluster's root certificate (PEM) [env: QUORATE_CACERT]
    #[arg(long, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub cacert: Option<PathBuf>,
    /// Your certificate (PEM), from `quorate pki client` [env: QUORATE_CLIENT_CERT]
    #[arg(long, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub client_cert: Option<PathBuf>,
    /// Its private key (PEM) [env: QUORATE_CLIENT_KEY]
    #[arg(long, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub client_key: Option<PathBuf>,
    /// The namespace in which keys, secrets and aliases are called by their names [default: default] [env: QUORATE_NAMESPACE]
    #[arg(long, value_name = "NAME", global = true, help_heading = HEADING, add = ArgValueCompleter::new(completions::namespaces))]
    pub namespace: Option<String>,
    /// A connection of the client file, instead of what the environment says [env: QUORATE_CONTEXT]
    #[arg(long, value_name = "NAME", global = true, help_heading = HEADING)]
    pub context: Option<String>,
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600), global = true, help_heading = HEADING,
        help = format!("Longest time for one request, in seconds [default: {}]", ClientConfig::DEADLINE_DEFAULT.as_secs()))]
    pub timeout: Option<u64>,
    /// File that holds these settings [default: ~/.config/quorate/client.toml] [env: QUORATE_CONFIG]
    #[arg(long, value_name = "FILE", value_parser = path(), global = true, help_heading = HEADING)]
    pub client_config: Option<PathBuf>,
}

/// A path; an empty one (from an environment variable set to nothing) is none.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|p| !p.as_os_str().is_empty())
}

/// What the environment says, by the name of a variable; one set to nothing is not set.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn home() -> Option<PathBuf> {
    environment("HOME").map(PathBuf::from)
}

fn default_path() -> Option<PathBuf> {
    let config = environment("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    Some(config.or_else(|| Some(home()?.join(".config")))?.join("quorate/client.toml"))
}

/// Variables that say how a cluster is reached; one of them set is a connection of its own.
const VARIABLES: [&str; 4] = ["QUORATE_ADDR", "QUORATE_CACERT", "QUORATE_CLIENT_CERT", "QUORATE_CLIENT_KEY"];

impl Connection {
    /// The client file that counts; it need not exist.
    pub fn file_path(&self) -> Option<PathBuf> {
        self.file_path_by(&environment)
    }

    fn file_path_by(&self, env: Environment<'_>) -> Option<PathBuf> {
        given(&self.client_config).or_else(|| env("QUORATE_CONFIG").map(PathBuf::from)).or_else(default_path)
    }

    /// The client file, empty when it does not exist; one that was named has to.
    fn file(&self, env: Environment<'_>) -> CommandResult<ClientFile> {
        let named = given(&self.client_config).is_some() || env("QUORATE_CONFIG").is_some();
        match self.file_path_by(env) {
            Some(path) if named || files::exists(&path) => ClientFile::load(&path),
            _ => Ok(ClientFile::default()),
        }
    }

    /// What the flags say.
    fn flags(&self) -> Settings {
        Settings {
            addr: (!self.addr.is_empty()).then(|| Addresses::List(self.addr.clone())),
            cacert: given(&self.cacert),
            client_cert: given(&self.client_cert),
            client_key: given(&self.client_key),
            timeout: self.timeout,
            namespace: self.namespace.clone().filter(|name| !name.is_empty()),
        }
    }

    /// For a context to be kept: what the flags say, or, without any, what the environment says. Never some of each: that would be
    /// the certificate of one cluster for another.
    pub fn to_keep(&self) -> Settings {
        let flags = self.flags();
        if flags.names_nothing() { flags.over(of_environment(&environment)) } else { flags }
    }

    /// The variable by which the environment comes before the context in use, if it does.
    pub fn overriding() -> Option<&'static str> {
        ["QUORATE_CONTEXT"].into_iter().chain(VARIABLES).find(|name| environment(name).is_some())
    }

    /// How the cluster is reached: a connection as a whole, the first of those that are named, with what flags change of it. A context or
    /// client file named on the command line; a context named by the environment; what else the environment says, on top of
    /// what stands in the file without a name; the file.
    fn settings(&self, env: Environment<'_>) -> CommandResult<Settings> {
        let file = self.file(env)?;
        let by_environment = env("QUORATE_CONTEXT").map(|name| name.to_string_lossy().into_owned());
        let chosen = match (&self.context, given(&self.client_config), by_environment) {
            (Some(name), ..) => file.context(Some(name))?,
            (None, Some(_), _) => file.context(None)?,
            (None, None, Some(name)) => file.context(Some(&name))?,
            (None, None, None) if VARIABLES.iter().any(|name| env(name).is_some()) => {
                of_environment(env).over(file.without_name())
            }
            (None, None, None) => file.context(None)?,
        };
        // Wherever the connection is from: a namespace is a place in a cluster, and no way to one.
        Ok(self.flags().over(Settings { namespace: namespace(env), ..Settings::default() }.over(chosen)))
    }

    /// The settings, with what the file adds.
    pub fn config(&self) -> CommandResult<ClientConfig> {
        self.config_by(&environment)
    }

    fn config_by(&self, env: Environment<'_>) -> CommandResult<ClientConfig> {
        let Settings { addr, cacert, client_cert, client_key, timeout, namespace } = self.settings(env)?;
        let addrs = addr.map(Addresses::list).unwrap_or_default();
        let missing = |what: &str, name: &str, flag: &str| {
            let todo = format!("set {name} or {flag}, or write it into ~/.config/quorate/client.toml");
            Failure::failed(format!("can't tell which {what} to use"), "none is given", todo)
        };
        let cacert = cacert.ok_or_else(|| missing("root certificate", "QUORATE_CACERT", "--cacert"))?;
        let ca_pem = files::read(&cacert, "the root certificate")?;
        let (cert_pem, key_pem) = match (client_cert, client_key) {
            (Some(cert), Some(key)) => {
                (files::read(&cert, "the client certificate")?, files::read(&key, "the client key")?)
            }
            (None, None) => Default::default(),
            (None, Some(_)) => return Err(missing("client certificate", "QUORATE_CLIENT_CERT", "--client-cert")),
            (Some(_), None) => return Err(missing("client key", "QUORATE_CLIENT_KEY", "--client-key")),
        };
        let mut config = ClientConfig::new(addrs, ca_pem, cert_pem, key_pem);
        if let Some(seconds) = timeout {
            config.deadline = Duration::from_secs(seconds);
        }
        config.namespace = namespace;
        Ok(config)
    }
}

fn of_environment(env: Environment<'_>) -> Settings {
    let file = |name| env(name).map(PathBuf::from);
    Settings {
        addr: env("QUORATE_ADDR").map(|text| Addresses::Text(text.to_string_lossy().into_owned())),
        cacert: file("QUORATE_CACERT"),
        client_cert: file("QUORATE_CLIENT_CERT"),
        client_key: file("QUORATE_CLIENT_KEY"),
        timeout: None,
        namespace: namespace(env),
    }
}

fn namespace(env: Environment<'_>) -> Option<String> {
    env("QUORATE_NAMESPACE").map(|name| name.to_string_lossy().into_owned())
}

/// Says so when the certificate has little left of its life.
pub fn warn_of_expiry(config: &ClientConfig, now_ms: u64) {
    let Ok(certificate) = CertificateFacts::of_pem(&config.cert_pem) else { return };
    let days = days_left(certificate.ends_ms(), now_ms);
    if days < WARN_DAYS.min(certificate.days() / 3) {
        let when = match days {
            ..0 => "has expired".to_owned(),
            0 => "ends within a day".to_owned(),
            1 => "ends in a day".to_owned(),
            _ => format!("ends in {days} days"),
        };
        eprintln!("warning: your client certificate {when}; `quorate pki client --renew` issues another");
    }
}

/// A certificate that is good for fewer days than this, and for less than a third of its life, is worth a word.
const WARN_DAYS: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            files::replace(&path, 0o600, text.as_bytes()).unwrap();
            path
        }
    }

    fn bare(_: &str) -> Option<OsString> {
        None
    }

    fn refused(connection: &Connection) -> String {
        connection.config_by(&bare).unwrap_err().to_string()
    }

    #[test]
    fn flags_come_before_the_environment_and_that_before_the_file() {
        let dir = Folder::new();
        dir.write("ca.pem", "ROOT");
        let file = dir.write("client.toml", "addr = \"file:1\"\ncacert = \"ca.pem\"\ntimeout = 3");
        let named = |name: &str| (name == "QUORATE_CONFIG").then(|| OsString::from(&file));
        let from_file = Connection::default();
        let seen = from_file.config_by(&named).unwrap();
        assert_eq!((seen.addrs, seen.ca_pem), (vec!["file:1".to_owned()], b"ROOT".to_vec()));
        assert_eq!(seen.deadline, Duration::from_secs(3));

        let env = |name: &str| match name {
            "QUORATE_ADDR" => Some(OsString::from("env:1, env:2")),
            name => named(name),
        };
        assert_eq!(from_file.config_by(&env).unwrap().addrs, ["env:1", "env:2"]);
        let flags = Connection { addr: vec!["flag:1".into()], timeout: Some(4), ..from_file.clone() };
        let seen = flags.config_by(&env).unwrap();
        assert_eq!((seen.addrs, seen.deadline), (vec!["flag:1".to_owned()], Duration::from_secs(4)));
        let nothing = Connection { cacert: Some("".into()), ..from_file };
        assert_eq!(nothing.config_by(&named).unwrap().ca_pem, b"ROOT", "set to nothing is not set");
    }

    #[test]
    fn gaps_are_named() {
        let dir = Folder::new();
        let (ca, empty) = (dir.write("ca.pem", "ROOT"), Some(dir.write("empty.toml", "")));
        assert!(refused(&Connection { client_config: empty.clone(), ..Default::default() }).contains("QUORATE_CACERT"));
        let half =
            Connection { client_cert: Some(ca.clone()), cacert: Some(ca), client_config: empty, ..Default::default() };
        assert!(refused(&half).contains("QUORATE_CLIENT_KEY"));
        let gone = Connection { client_config: Some("/nonexistent".into()), ..Default::default() };
        assert!(refused(&gone).contains("/nonexistent"));
    }

    #[test]
    fn a_namespace_goes_with_every_connection() {
        let dir = Folder::new();
        dir.write("ca.pem", "ROOT");
        let text = "current = \"b\"\n[contexts.b]\naddr = \"b:1\"\ncacert = \"ca.pem\"\nnamespace = \"of-file\"";
        let file = dir.write("client.toml", text);
        let of = |flag: Option<&str>, variable: Option<&str>| {
            let env = |name: &str| match name {
                "QUORATE_CONFIG" => Some(OsString::from(&file)),
                "QUORATE_NAMESPACE" => variable.map(OsString::from),
                _ => None,
            };
            let connection = Connection { namespace: flag.map(str::to_owned), ..Default::default() };
            let seen = connection.config_by(&env).unwrap();
            assert_eq!(seen.addrs, ["b:1"]);
            seen.namespace.unwrap()
        };
        assert_eq!(of(None, None), "of-file");
        assert_eq!(of(None, Some("of-env")), "of-env");
        assert_eq!(of(Some("of-flag"), Some("of-env")), "of-flag");
    }

    #[test]
    fn a_context_is_taken_as_a_whole() {
        let dir = Folder::new();
        dir.write("a.pem", "A");
        dir.write("b.pem", "B");
        let text = "addr = \"bare:1\"\ncacert = \"a.pem\"\ncurrent = \"b\"\n[contexts.b]\naddr = \"b:1\"\ncacert = \"b.pem\"\n\
                    [contexts.half]\naddr = \"half:1\"";
        let client_config = Some(dir.write("client.toml", text));
        let of = |context: Option<&str>| Connection {
            context: context.map(str::to_owned),
            client_config: client_config.clone(),
            ..Default::default()
        };
        let addrs = |c: &Connection, env: Environment<'_>| c.config_by(env).unwrap().addrs;
        assert_eq!(addrs(&of(None), &bare), ["b:1"], "the current one");
        assert!(refused(&of(Some("half"))).contains("QUORATE_CACERT"), "nothing of another is mixed in");
        let why = refused(&of(Some("nobody")));
        assert!(why.contains("nobody") && why.contains("b, half"), "{why}");
        let env = |name: &str| match name {
            "QUORATE_ADDR" => Some(OsString::from("env:1")),
            "QUORATE_CONTEXT" => Some("half".into()),
            _ => None,
        };
        assert_eq!(
            addrs(&of(Some("b")), &env),
            ["b:1"],
            "named on the command line it comes instead of the environment"
        );
        let none = |name: &str| (name == "QUORATE_CONTEXT").then(|| OsString::from("b"));
        assert_eq!(addrs(&of(None), &none), ["b:1"]);
        let only_addr = |name: &str| (name == "QUORATE_ADDR").then(|| OsString::from("env:1"));
        assert_eq!(addrs(&of(None), &only_addr), ["b:1"], "a file that was named comes before the environment");
        let by_variable = |name: &str| match name {
            "QUORATE_CONFIG" => client_config.clone().map(OsString::from),
            name => only_addr(name),
        };
        let unnamed = Connection::default().config_by(&by_variable).unwrap();
        assert_eq!((unnamed.addrs, unnamed.ca_pem), (vec!["env:1".to_owned()], b"A".to_vec()), "not over a context");
    }
}
