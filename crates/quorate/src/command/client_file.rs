//! The client file: one connection without a name, or several, each a context, of which one is the current.
//!
//! ```toml
//! current = "prod"
//!
//! [contexts.prod]
//! addr = ["n1.example.com:7600", "n2.example.com:7600"]
//! cacert = "prod/ca.pem"              # relative to this file
//! client_cert = "prod/alice.pem"
//! client_key = "prod/alice.key"
//! timeout = 10                        # seconds
//! namespace = "team-a"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml_edit::DocumentMut;

use super::failure::{CommandResult, Failure};
use super::files;

/// How to reach one cluster, and as whom.
#[derive(Deserialize, Default, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its nodes.
    pub addr: Option<Addresses>,
    /// Its root certificate.
    pub cacert: Option<PathBuf>,
    /// The caller's certificate.
    pub client_cert: Option<PathBuf>,
    /// The key of it.
    pub client_key: Option<PathBuf>,
    /// Longest time for one request, in seconds.
    pub timeout: Option<u64>,
    /// The namespace in which things are called by their names.
    pub namespace: Option<String>,
}

impl Settings {
    /// These, and from `other` what these leave out.
    pub fn over(self, other: Self) -> Self {
        Self {
            addr: self.addr.or(other.addr),
            cacert: self.cacert.or(other.cacert),
            client_cert: self.client_cert.or(other.client_cert),
            client_key: self.client_key.or(other.client_key),
            timeout: self.timeout.or(other.timeout),
            namespace: self.namespace.or(other.namespace),
        }
    }

    /// Whether they say nothing of where and as whom.
    pub fn names_nothing(&self) -> bool {
        self.addr.is_none() && self.cacert.is_none() && self.client_cert.is_none() && self.client_key.is_none()
    }
}

/// Nodes, in a list or separated by commas.
#[derive(Deserialize, Clone, Debug)]
#[serde(untagged)]
pub enum Addresses {
    /// `["a:1", "b:2"]`
    List(Vec<String>),
    /// `"a:1,b:2"`
    Text(String),
}

impl Addresses {
    /// Each by itself, in order.
    pub fn list(self) -> Vec<String> {
        let all = match self {
            Self::List(list) => list,
            Self::Text(text) => text.split(',').map(str::to_owned).collect(),
        };
        all.into_iter().map(|a| a.trim().to_owned()).filter(|a| !a.is_empty()).collect()
    }
}

/// The whole file.
#[derive(Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct ClientFile {
    // The connection without a name; flattened by hand, so that a word that is none is refused.
    addr: Option<Addresses>,
    cacert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
    timeout: Option<u64>,
    namespace: Option<String>,
    /// The context that counts when none is named.
    pub current: Option<String>,
    /// Connections by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Settings>,
}

const CANT: &str = "can't use the client configuration file";

impl ClientFile {
    /// Reads it.
    pub fn load(path: &Path) -> CommandResult<Self> {
        let bytes = files::read(path, "the client configuration file")?;
        Self::parse(&String::from_utf8_lossy(&bytes), path)
    }

    /// Parses `text`; relative paths are relative to the file's folder.
    fn parse(text: &str, path: &Path) -> CommandResult<Self> {
        let mut file: Self = toml::from_str(text).map_err(|e| {
            let why = format!("{}: {e}", path.display());
            let known = "it may hold addr, cacert, client_cert, client_key, timeout and namespace, those of each [contexts.NAME], and \
                         current";
            Failure::failed(CANT, why, known)
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let found = |p: &mut Option<PathBuf>| {
            if let Some(p) = p {
                *p = match p.strip_prefix("~") {
                    Ok(rest) => std::env::home_dir().unwrap_or_default().join(rest),
                    Err(_) => base.join(&*p),
                };
            }
        };
        [&mut file.cacert, &mut file.client_cert, &mut file.client_key].into_iter().for_each(found);
        let mut timeouts = vec![file.timeout];
        for context in file.contexts.values_mut() {
            [&mut context.cacert, &mut context.client_cert, &mut context.client_key].into_iter().for_each(found);
            timeouts.push(context.timeout);
        }
        if timeouts.into_iter().flatten().any(|t| !(1..=3600).contains(&t)) {
            return Err(Failure::failed(CANT, "timeout is not 1 to 3600 seconds", ""));
        }
        Ok(file)
    }

    /// The connection without a name.
    pub fn without_name(self) -> Settings {
        let Self { addr, cacert, client_cert, client_key, timeout, namespace, .. } = self;
        Settings { addr, cacert, client_cert, client_key, timeout, namespace }
    }

    /// The connection of that name; without one, the current context, else the connection without a name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn context(mut self, name: Option<&str>) -> CommandResult<Settings> {
        let Some(name) = name.map(str::to_owned).or(self.current.take()) else {
            return Ok(self.without_name());
        };
        self.contexts.remove(&name).ok_or_else(|| {
            let known: Vec<String> = self.contexts.into_keys().collect();
            let why = if known.is_empty() {
                "the client file has no contexts".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Failure::failed(format!("can't use context {name:?}"), why, "`quorate context add` makes one")
        })
    }
}

/// The file as it stands, for a change that leaves everything else as people wrote it.
pub struct Edited {
    path: PathBuf,
    document: DocumentMut,
    _lock: files::Lock,
}

impl Edited {
    /// Opens it; a new one when there is none yet.
    pub fn open(path: PathBuf) -> CommandResult<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::create_dir_private(folder)?;
        // Until it is stored: two changes at a time are both kept.
        let lock = files::Lock::wait_for_file(&path)?;
        let text = if files::exists(&path) {
            String::from_utf8_lossy(&files::read(&path, "the client configuration file")?).into_owned()
        } else {
            String::new()
        };
        let document = text
            .parse()
            .map_err(|e| Failure::failed(CANT, format!("{}: {e}", path.display()), "mend it, or move it away"))?;
        Ok(Self { path, document, _lock: lock })
    }

    /// Puts a context, over an older one of that name.
    pub fn put(&mut self, name: &str, settings: &Settings) {
        let mut table = toml_edit::Table::new();
        if let Some(addr) = &settings.addr {
            table["addr"] = toml_edit::value(addr.clone().list().into_iter().collect::<toml_edit::Array>());
        }
        let paths = [
            ("cacert", &settings.cacert),
            ("client_cert", &settings.client_cert),
            ("client_key", &settings.client_key),
        ];
        for (key, path) in paths {
            if let Some(path) = path {
                table[key] = toml_edit::value(path.display().to_string());
            }
        }
        if let Some(timeout) = settings.timeout {
            table["timeout"] = toml_edit::value(i64::try_from(timeout).unwrap_or(i64::MAX));
        }
        if let Some(namespace) = &settings.namespace {
            table["namespace"] = toml_edit::value(namespace.as_str());
        }
        let contexts = self.document.entry("contexts").or_insert_with(|| {
            let mut contexts = toml_edit::Table::new();
            contexts.set_implicit(true);
            contexts.into()
        });
        contexts[name] = table.into();
    }

    /// Takes a context away.
    pub fn remove(&mut self, name: &str) {
        if let Some(contexts) = self.document.get_mut("contexts").and_then(toml_edit::Item::as_table_like_mut) {
            contexts.remove(name);
        }
        if self.document.get("current").and_then(toml_edit::Item::as_str) == Some(name) {
            self.document.remove("current");
        }
    }

    /// Makes a context the one that counts.
    pub fn set_current(&mut self, name: &str) {
        self.document["current"] = toml_edit::value(name);
    }

    /// Writes the file, readable by its owner alone.
    pub fn store(self) -> CommandResult {
        let text = self.document.to_string();
        files::replace(&self.path, 0o600, text.as_bytes())
            .map_err(|e| Failure::failed("can't write the client file", format!("{}: {e}", self.path.display()), ""))
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
        let bare = file.context(None).unwrap();
        assert_eq!(bare.addr.unwrap().list(), ["a:1", "b:2"]);
        assert_eq!(bare.cacert.unwrap(), Path::new("/etc/quorate/ca.pem"));
        assert_eq!(bare.client_key.unwrap(), Path::new("/k"));
        let file =
            ClientFile::parse("[contexts.x]\naddr = \"a:1, b:2\"\ncacert = \"x.pem\"\ntimeout = 3", path).unwrap();
        let x = file.context(Some("x")).unwrap();
        assert_eq!(x.addr.unwrap().list(), ["a:1", "b:2"]);
        assert_eq!(x.cacert.unwrap(), Path::new("/etc/quorate/x.pem"));
        for (bad, expected) in [
            ("adr = \"a\"", "unknown field `adr`"),
            ("timeout = 0", "1 to 3600"),
            ("[contexts.x]\ntimeout = 4000", "1 to 3600"),
            ("[contexts.x]\nadr = 1", "unknown field `adr`"),
            ("addr =", "client.toml"),
        ] {
            let error = ClientFile::parse(bad, path).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn a_change_leaves_what_people_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/client.toml");
        let settings = |addr: &str| Settings {
            addr: Some(Addresses::Text(addr.into())),
            cacert: Some("/ca.pem".into()),
            timeout: Some(7),
            namespace: Some("team".into()),
            ..Default::default()
        };
        let mut file = Edited::open(path.clone()).unwrap();
        file.put("a", &settings("a:1,a:2"));
        file.store().unwrap();
        let text = String::from_utf8(files::read(&path, "").unwrap()).unwrap();
        files::replace(&path, 0o600, format!("# mine\n{text}").as_bytes()).unwrap();

        let mut file = Edited::open(path.clone()).unwrap();
        file.put("b", &settings("b:1"));
        file.set_current("a");
        file.store().unwrap();
        let text = String::from_utf8(files::read(&path, "").unwrap()).unwrap();
        assert!(text.contains("# mine") && text.contains("[contexts.a]") && text.contains("[contexts.b]"), "{text}");
        let current = ClientFile::load(&path).unwrap().context(None).unwrap();
        assert_eq!((current.addr.unwrap().list(), current.timeout), (vec!["a:1".to_owned(), "a:2".into()], Some(7)));
        assert_eq!(current.namespace.as_deref(), Some("team"));

        let mut file = Edited::open(path.clone()).unwrap();
        file.remove("a");
        file.store().unwrap();
        let file = ClientFile::load(&path).unwrap();
        assert_eq!((file.current, file.contexts.into_keys().collect::<Vec<_>>()), (None, vec!["b".to_owned()]));
    }
}
