//! The folder of a development cluster.
//!
//! ```text
//! D/cluster.toml                 what makes it a cluster; written last
//! D/dev.json                     output: how to reach it, written at each start once every node serves
//! D/pki/                         the authority, its passphrase (!), the administrator's certificate
//! D/shares/share-1.txt …         every custodian's share (!)
//! D/n1/{node.toml,node.pem,node.request,pin,join-token,token/,data/,node.log}
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::command::failure::{CommandResult, Failure};
use crate::command::files;

/// Format of `cluster.toml`.
const FORMAT: u32 = 1;

/// Paths under D, all absolute.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of the folder `root`, absolute.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
    /// D.
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn cluster_file(&self) -> PathBuf {
        self.root.join("cluster.toml")
    }
    pub fn dev_json(&self) -> PathBuf {
        self.root.join("dev.json")
    }
    pub fn client_file(&self) -> PathBuf {
        self.root.join("client.toml")
    }
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    pub fn ca(&self) -> PathBuf {
        self.pki().join("ca.pem")
    }
    pub fn admin_cert(&self) -> PathBuf {
        self.pki().join("admin.pem")
    }
    pub fn admin_key(&self) -> PathBuf {
        self.pki().join("admin.key")
    }
    pub fn passphrase(&self) -> PathBuf {
        self.pki().join("passphrase")
    }
    pub fn shares(&self) -> PathBuf {
        self.root.join("shares")
    }
    /// Share `number`, from 1.
    pub fn share(&self, number: usize) -> PathBuf {
        self.shares().join(format!("share-{number}.txt"))
    }
    /// The folder of a node.
    pub fn node(&self, name: &str) -> NodeLayout {
        NodeLayout { root: self.root.join(name) }
    }
}

/// Paths of one node.
#[derive(Clone, Debug)]
pub struct NodeLayout {
    root: PathBuf,
}

impl NodeLayout {
    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn config(&self) -> PathBuf {
        self.root.join("node.toml")
    }
    pub fn cert(&self) -> PathBuf {
        self.root.join("node.pem")
    }
    pub fn request(&self) -> PathBuf {
        self.root.join("node.request")
    }
    pub fn pin(&self) -> PathBuf {
        self.root.join("pin")
    }
    pub fn join_token(&self) -> PathBuf {
        self.root.join("join-token")
    }
    pub fn token(&self) -> PathBuf {
        self.root.join("token")
    }
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }
    pub fn log(&self) -> PathBuf {
        self.root.join("node.log")
    }
}

/// `cluster.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    format: u32,
    /// How many shares there are.
    pub shares: usize,
    /// How many open it.
    pub threshold: usize,
    /// Its nodes; members know each other by these addresses, so they stay.
    pub nodes: Vec<NodeEntry>,
}

/// One node of `cluster.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    pub name: String,
    /// `host:port` for clients.
    pub api: String,
    /// `host:port` for the other nodes.
    pub peer: String,
}

impl ClusterFile {
    pub fn new(shares: usize, threshold: usize, nodes: Vec<NodeEntry>) -> Self {
        Self { format: FORMAT, shares, threshold, nodes }
    }

    /// Reads it; `None` when the folder is no cluster yet.
    pub fn load(layout: &Layout) -> CommandResult<Option<Self>> {
        let path = layout.cluster_file();
        if !files::exists(&path) {
            return Ok(None);
        }
        let bytes = files::read(&path, "the cluster's file")?;
        let bad = |why: String| {
            let todo = "restore it, or move the folder away and start a new cluster";
            Failure::failed("can't start the cluster", format!("{}: {why}", path.display()), todo)
        };
        let file: Self = toml::from_str(&String::from_utf8_lossy(&bytes)).map_err(|e| bad(e.to_string()))?;
        if file.format != FORMAT {
            return Err(bad(format!("format {} is not known to this version", file.format)));
        }
        if file.nodes.is_empty() || file.threshold == 0 || file.threshold > file.shares {
            return Err(bad("it names no nodes, or an impossible threshold".into()));
        }
        Ok(Some(file))
    }

    /// Writes it: from now on the folder is a cluster.
    pub fn store(&self, layout: &Layout) -> CommandResult {
        let text = toml::to_string(self).map_err(|e| Failure::failed("can't describe the cluster", e, ""))?;
        let text =
            format!("# A cluster of `quorate dev`, for development only: its shares and PINs lie beside it.\n{text}");
        let path = layout.cluster_file();
        files::replace(&path, 0o600, text.as_bytes())
            .map_err(|e| Failure::failed("can't write a file", format!("{}: {e}", path.display()), ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_file_reads_back_and_its_absence_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        assert_eq!(ClusterFile::load(&layout).unwrap(), None);
        let node = NodeEntry { name: "n1".into(), api: "127.0.0.1:7600".into(), peer: "127.0.0.1:7601".into() };
        let file = ClusterFile::new(5, 3, vec![node]);
        file.store(&layout).unwrap();
        assert_eq!(ClusterFile::load(&layout).unwrap(), Some(file.clone()));
        for (from, to) in [("format = 1", "format = 2"), ("threshold = 3", "threshold = 6"), ("name", "nme")] {
            let text = String::from_utf8(files::read(&layout.cluster_file(), "").unwrap()).unwrap();
            files::replace(&layout.cluster_file(), 0o600, text.replacen(from, to, 1).as_bytes()).unwrap();
            let error = ClusterFile::load(&layout).unwrap_err().to_string();
            assert!(error.contains("cluster.toml"), "{error}");
            file.store(&layout).unwrap();
        }
    }
}
