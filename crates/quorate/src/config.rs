//! A node's configuration file: TOML, unknown fields refused, every impossible value named (design §6).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_core::id::Name;
use quorate_replica::CompactionConfig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a configuration can't be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {path}: {source}; name a readable file with --config")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown field, a missing field, or a value of the wrong type.
    #[error("{path} is not a valid configuration: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// A value that can't work.
    #[error("{path}: {field} {reason}")]
    Impossible {
        /// The file.
        path: PathBuf,
        /// The field, dotted.
        field: &'static str,
        /// Why it can't work and what would.
        reason: String,
    },
}

/// One node's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The node's name: identifies it in the cluster for ever.
    pub name: String,
    /// Where the journal, the state and the join progress are kept; mode 0700.
    pub data_dir: PathBuf,
    /// The port for clients: gRPC, health, metrics.
    pub api: Endpoint,
    /// The port for the other nodes.
    pub peer: Endpoint,
    /// Certificates.
    pub tls: Tls,
    /// The hardware security module.
    pub hsm: Hsm,
    /// How to join an existing cluster; absent on the first node, ignored once joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Timing of elections: `lan` (default) or `wan`.
    #[serde(default)]
    pub profile: Profile,
    /// The replicated log on disk.
    #[serde(default)]
    pub log: Log,
    /// Memory that grows with the number of keys, up to here.
    #[serde(default)]
    pub cache: Cache,
}

/// A port of this node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// `host:port` that others are told; default: `listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
}

impl Endpoint {
    /// `host:port` that others are told.
    pub fn advertised(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.listen.to_string())
    }
}

/// Certificates; the private key is in the HSM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The node's certificate chain (PEM), from `quorate pki sign`.
    pub cert: PathBuf,
    /// The cluster's self-signed root certificate (PEM), from `quorate pki init`.
    pub root_ca: PathBuf,
}

/// The hardware security module, by PKCS#11.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsm {
    /// The vendor's PKCS#11 module (a shared library).
    pub module: PathBuf,
    /// Label of the token.
    pub token_label: String,
    /// File with the user PIN (mode 0400). Absent: systemd credential `hsm-pin`, else a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
    /// Environment the module needs, set before it is loaded (SoftHSM finds its token by SOFTHSM2_CONF).
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// How a new node joins a cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Peer addresses (`host:port`, port 7601) of members.
    pub addresses: Vec<String>,
    /// File with the one-use token from `quorate operator members invite`.
    pub token_file: PathBuf,
}

/// Timing of elections (key-log §6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Nodes within a few milliseconds of each other.
    #[default]
    Lan,
    /// Nodes far apart, or on starved machines.
    Wan,
}

/// The replicated log on disk.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Size of a journal segment, in MiB (1 to 1024).
    pub segment_mib: u32,
    /// Free disk space, in MiB, below which the node takes no more changes, and hands on its leadership; never less than
    /// two segments. It goes on at twice as much.
    pub low_space_mib: u32,
    /// Log kept for members that were away, in KiB: without it a GiB, or an eighth of the state, if that is more. Who was away
    /// for longer gets a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_kib: Option<u64>,
    /// Log beyond that which sets a compaction off, in KiB.
    pub step_kib: u64,
    /// How often a compaction is tried when less has grown, in seconds.
    pub compact_seconds: u32,
    /// Log beyond that at which snapshots being sent are given up, in KiB, since it is kept for them.
    pub stream_kib: u64,
}

impl Log {
    /// When the log is compacted.
    pub fn compaction(&self) -> CompactionConfig {
        CompactionConfig {
            keep_bytes: self.keep_kib.map(|kib| kib << 10),
            step_bytes: self.step_kib << 10,
            interval: Duration::from_secs(self.compact_seconds.into()),
            stream_bytes: self.stream_kib << 10,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            segment_mib: 64,
            low_space_mib: 512,
            keep_kib: None,
            step_kib: 64 << 10,
            compact_seconds: 60,
            stream_kib: 4 << 20,
        }
    }
}

/// Memory for caches: what the number of keys may cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Pages of the encrypted state, in MiB (8 to 65536); at most as much again for changes on their way to the disk, and while
    /// a snapshot is received.
    pub state_mib: u32,
    /// Decrypted records of keys in use, in MiB (1 to 65536): some 1000 keys per MiB.
    pub keys_mib: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self { state_mib: 64, keys_mib: 64 }
    }
}

impl Config {
    /// Reads, parses and checks a file. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// See [`ConfigError`]; the message names the file and the field.
    #[expect(clippy::disallowed_methods, reason = "read once at start, before there is a World")]
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        // A bare file name has the empty parent, which is no path.
        let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base =
            std::path::absolute(base).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path, &base)
    }

    /// Parses and checks `text`; `path` is for messages, relative paths are put under `base`.
    pub fn parse(text: &str, path: &Path, base: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            toml::from_str(text).map_err(|e| ConfigError::Invalid { path: path.to_owned(), message: e.to_string() })?;
        let absolute = |p: &mut PathBuf| *p = base.join(&*p);
        absolute(&mut config.data_dir);
        absolute(&mut config.tls.cert);
        absolute(&mut config.tls.root_ca);
        config.hsm.pin_file.iter_mut().for_each(absolute);
        config.join.iter_mut().for_each(|j| absolute(&mut j.token_file));
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let no = |field, reason: String| Err(ConfigError::Impossible { path: path.to_owned(), field, reason });
        if let Err(e) = self.name.parse::<Name>() {
            return no("name", format!("is {e}"));
        }
        if self.name.contains('/') {
            return no("name", "must not contain '/': it stands in the node's certificate URI".into());
        }
        if self.api.listen == self.peer.listen && self.api.listen.port() != 0 {
            return no("peer.listen", format!("is the same as api.listen ({}); use two ports", self.api.listen));
        }
        for (field, endpoint) in [("api", &self.api), ("peer", &self.peer)] {
            let field = if field == "api" { "api.advertise" } else { "peer.advertise" };
            match &endpoint.advertise {
                Some(a) if !is_host_port(a) => return no(field, format!("is {a:?}, not host:port")),
                None if endpoint.listen.ip().is_unspecified() => {
                    return no(field, "must be set when listening on every address: others need one to call".into());
                }
                _ => {}
            }
        }
        if !(1..=1024).contains(&self.log.segment_mib) {
            return no("log.segment_mib", format!("is {}; 1 to 1024 MiB are possible", self.log.segment_mib));
        }
        const CACHE_MIB_MAX: u32 = 1 << 16;
        let cache = &self.cache;
        if !(8..=CACHE_MIB_MAX).contains(&cache.state_mib) {
            return no("cache.state_mib", format!("is {}; 8 to {CACHE_MIB_MAX} MiB are possible", cache.state_mib));
        }
        if !(1..=CACHE_MIB_MAX).contains(&cache.keys_mib) {
            return no("cache.keys_mib", format!("is {}; 1 to {CACHE_MIB_MAX} MiB are possible", cache.keys_mib));
        }
        const LOW_SPACE_MIB_MAX: u32 = 1 << 20;
        if self.log.low_space_mib > LOW_SPACE_MIB_MAX {
            let mib = self.log.low_space_mib;
            return no("log.low_space_mib", format!("is {mib}; at most {LOW_SPACE_MIB_MAX} MiB are possible"));
        }
        const KIB_MAX: u64 = 1 << 30;
        let log = &self.log;
        if let Some(keep_kib) = log.keep_kib.filter(|kib| !(1..=KIB_MAX).contains(kib)) {
            return no("log.keep_kib", format!("is {keep_kib}; 1 to {KIB_MAX} KiB are possible"));
        }
        if !(1..=KIB_MAX).contains(&log.step_kib) {
            return no("log.step_kib", format!("is {}; 1 to {KIB_MAX} KiB are possible", log.step_kib));
        }
        if log.compact_seconds == 0 {
            return no("log.compact_seconds", "is 0; at least one second is needed".into());
        }
        if !(log.step_kib..=KIB_MAX * 4).contains(&log.stream_kib) {
            return no("log.stream_kib", format!("is {}; it must not be less than log.step_kib", log.stream_kib));
        }
        if self.hsm.token_label.is_empty() || self.hsm.token_label.len() > 32 {
            return no("hsm.token_label", "must be 1 to 32 characters, as PKCS#11 token labels are".into());
        }
        if let Some(join) = &self.join {
            if join.addresses.is_empty() {
                return no("join.addresses", "is empty; name the peer address of at least one member".into());
            }
            if let Some(bad) = join.addresses.iter().find(|a| !is_host_port(a)) {
                return no("join.addresses", format!("has {bad:?}, which is not host:port"));
            }
        }
        Ok(())
    }
}

fn is_host_port(s: &str) -> bool {
    s.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "n1"
        data_dir = "data"
        [api]
        listen = "127.0.0.1:7600"
        [peer]
        listen = "127.0.0.1:7601"
        [tls]
        cert = "node.pem"
        root_ca = "/etc/quorate/ca.pem"
        [hsm]
        module = "/usr/lib/softhsm/libsofthsm2.so"
        token_label = "quorate"
        pin_file = "pin"
    "#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("n.toml"), Path::new("/base")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_minimal_file_and_its_defaults() {
        let c = parse(GOOD).expect("valid");
        assert_eq!((c.profile, c.log.segment_mib, c.log.low_space_mib), (Profile::Lan, 64, 512));
        assert_eq!(c.api.advertised(), "127.0.0.1:7600");
        assert_eq!(c.data_dir, Path::new("/base/data"), "relative paths are relative to the file");
        assert_eq!(c.tls.root_ca, Path::new("/etc/quorate/ca.pem"));
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let c = parse(GOOD).expect("valid");
        let text = toml::to_string(&c).expect("serializable");
        assert_eq!(toml::to_string(&parse(&text).expect("valid")).expect("serializable"), text);
    }

    #[test]
    fn bad_files_are_refused_and_the_field_is_named() {
        for (from, to, expected) in [
            ("name = \"n1\"", "name = \"n1\"\nnme = 1", "unknown field `nme`"),
            ("data_dir = \"data\"", "", "missing field `data_dir`"),
            ("name = \"n1\"", "name = \"a b\"", "name is not a valid name"),
            ("name = \"n1\"", "name = \"a/b\"", "must not contain '/'"),
            ("listen = \"127.0.0.1:7601\"", "listen = \"127.0.0.1:7600\"", "use two ports"),
            ("listen = \"127.0.0.1:7601\"", "listen = \"0.0.0.0:7601\"", "peer.advertise must be set"),
            ("listen = \"127.0.0.1:7601\"", "listen = \"127.0.0.1:7601\"\nadvertise = \"n1\"", "not host:port"),
            ("listen = \"127.0.0.1:7600\"", "listen = \"localhost\"", "invalid socket address"),
            ("token_label = \"quorate\"", "token_label = \"\"", "hsm.token_label must be"),
            ("[hsm]", "[log]\nsegment_mib = 0\n[hsm]", "log.segment_mib is 0"),
            ("[hsm]", "[cache]\nstate_mib = 7\n[hsm]", "cache.state_mib is 7"),
            ("[hsm]", "[cache]\nkeys_mib = 0\n[hsm]", "cache.keys_mib is 0"),
            ("[hsm]", "[log]\nlow_space_mib = 2000000\n[hsm]", "log.low_space_mib is 2000000"),
            ("[hsm]", "[log]\nkeep_kib = 0\n[hsm]", "log.keep_kib is 0"),
            ("[hsm]", "[log]\nstep_kib = 0\n[hsm]", "log.step_kib is 0"),
            ("[hsm]", "[log]\ncompact_seconds = 0\n[hsm]", "log.compact_seconds is 0"),
            ("[hsm]", "[log]\nstream_kib = 9\n[hsm]", "log.stream_kib is 9"),
            ("[hsm]", "[join]\naddresses = []\ntoken_file = \"t\"\n[hsm]", "join.addresses is empty"),
            ("name = \"n1\"", "name = \"n1\"\nprofile = \"moon\"", "unknown variant `moon`"),
            ("name = \"n1\"", "name = ", "TOML"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from} is in the example");
            let error = parse(&text).expect_err(to);
            assert!(error.contains("n.toml") && error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/nonexistent/n.toml")).expect_err("missing").to_string();
        assert!(error.contains("/nonexistent/n.toml") && error.contains("--config"), "{error}");
    }

    #[test]
    fn the_examples_in_cluster_config_parse() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster-config");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).expect("the folder is there") {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|e| e == "toml") {
                Config::load(&path).unwrap_or_else(|e| panic!("{e}"));
                seen += 1;
            }
        }
        assert!(seen >= 2, "examples are there");
    }

    #[test]
    fn what_an_example_calls_a_default_is_one() {
        let parse = |text: &str| {
            let mut config = Config::parse(text, Path::new("n.toml"), Path::new("/base")).expect("valid");
            // Its default is no number.
            config.log.keep_kib = None;
            toml::to_string(&config).expect("serializable")
        };
        let example = include_str!("../../../cluster-config/joining-node.toml");
        let setting = |line: &str| Some(line.strip_prefix("# ")?.to_owned()).filter(|line| line.contains(" = "));
        let defaults = example.lines().filter_map(setting).count();
        let spelt_out: Vec<_> = example.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect();
        assert_eq!(parse(&spelt_out.join("\n")), parse(example));
        assert_eq!(defaults, 8, "every setting that has a default");
    }
}
