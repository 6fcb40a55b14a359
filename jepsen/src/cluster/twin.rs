//! A copy of a node that runs beside it: the same name, certificate and keys, from another folder, at the same address. New connections
//! reach the copy, those that stand stay with the original, as when an address moves from one machine to another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::node::NodeProcess;
use super::{Cluster, Copy};
use crate::net::{API_PORT, PEER_PORT, feed};

/// Folders of twins begin so; a number follows.
pub const FOLDER: &str = "twin-";
/// A twin listens so many ports above the original.
const PORTS: u16 = 10;
/// The table of rules, in the node's place.
const TABLE: &str = "ip quorate_jepsen_twin";

/// A node's twin, started. When dropped it is ended, and new connections reach the original again.
pub struct Twin<'c> {
    cluster: &'c Cluster<'c>,
    node: u32,
    process: NodeProcess,
}

impl Cluster<'_> {
    /// Starts a twin of a node from a copy of its folder, and of its token if it is to have one of its own; then new connections
    /// reach it. Its folder is kept.
    ///
    /// # Errors
    /// What the system said; the network must have a place of its own for each node.
    pub fn twin<'c>(&'c self, node: u32, copy: Copy, own_token: bool) -> anyhow::Result<Twin<'c>> {
        let home = self.node_dir(node);
        let folder = (1..).map(|n| home.join(format!("{FOLDER}{n}"))).find(|path| !path.exists());
        let folder = folder.context("no name is free")?;
        copy.keep(&folder)?;
        configure(&home, &folder, own_token)?;
        let mut process = NodeProcess::at(node, folder, self.gear.dev);
        process.start(self.net.command(node, &self.quorate))?;
        let twin = Twin { cluster: self, node, process };
        twin.attract()?;
        Ok(twin)
    }

    /// From now on the harness and whoever asks it for a client talk to a node over new connections.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn reconnect(&self, node: u32) -> anyhow::Result<()> {
        if let Some(known) = self.nodes.borrow_mut().get_mut(&node) {
            known.clients = known.clients.reconnected()?;
        }
        Ok(())
    }
}

impl Twin<'_> {
    /// Whether its process is there.
    pub fn runs(&mut self) -> bool {
        self.process.is_running()
    }

    /// New connections reach the twin. Segments of those that stand carry no lone SYN.
    fn attract(&self) -> anyhow::Result<()> {
        let rule = |port: u16| format!("tcp dport {port} tcp flags & (syn | ack) == syn redirect to :{}", port + PORTS);
        self.rules(&format!(
            "table {TABLE} {{\n chain to {{\n type nat hook prerouting priority dstnat;\n {}\n {}\n }}\n}}",
            rule(API_PORT),
            rule(PEER_PORT)
        ))
    }

    /// New connections reach the original again; those to the twin stand.
    ///
    /// # Errors
    /// What the system said.
    pub fn release(&self) -> anyhow::Result<()> {
        self.rules(&format!("table {TABLE} {{ }}\ndelete table {TABLE}"))
    }

    fn rules(&self, script: &str) -> anyhow::Result<()> {
        let mut nft = self.cluster.net.command(self.node, Path::new("nft"));
        nft.args(["-f", "-"]);
        feed(nft, &(script.to_owned() + "\n")).map(drop)
    }
}

impl Drop for Twin<'_> {
    fn drop(&mut self) {
        let _ = self.release();
        let _ = self.process.kill();
    }
}

/// The original's configuration, for another folder and other ports; what others are told stays.
fn configure(home: &Path, folder: &Path, own_token: bool) -> anyhow::Result<()> {
    let read = |path: PathBuf| std::fs::read_to_string(&path).with_context(|| path.display().to_string());
    let utf8 = |path: PathBuf| path.into_os_string().into_string().ok().context("the folder's name is not UTF-8");
    let mut config: toml::Table = toml::from_str(&read(home.join("node.toml"))?)?;
    config.insert("data_dir".into(), utf8(folder.join("data"))?.into());
    for port in ["api", "peer"] {
        let listen: SocketAddr = config[port]["listen"].as_str().context("no address")?.parse()?;
        let listen = SocketAddr::new(listen.ip(), listen.port() + PORTS);
        config[port].as_table_mut().context("no table")?.insert("listen".into(), listen.to_string().into());
    }
    if own_token {
        let conf = folder.join("softhsm2.conf");
        let tokens = folder.join("token");
        std::fs::write(&conf, format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display()))?;
        let environment = config["hsm"]["environment"].as_table_mut().context("no table")?;
        environment.insert("SOFTHSM2_CONF".into(), utf8(conf)?.into());
    }
    Ok(std::fs::write(folder.join("node.toml"), toml::to_string(&config)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_listens_elsewhere_and_says_that_it_is_where_the_original_is() {
        let dir = tempfile::tempdir().unwrap();
        let (home, folder) = (dir.path(), dir.path().join("twin-1"));
        std::fs::create_dir(&folder).unwrap();
        let port = |port| toml::toml! { listen = port advertise = port };
        let mut config = toml::toml! {
            name = "n3"
            data_dir = "/d"
            [hsm.environment]
            SOFTHSM2_CONF = "/c"
        };
        config.insert("api".into(), port("10.0.0.3:7600").into());
        config.insert("peer".into(), port("10.0.0.3:7601").into());
        std::fs::write(home.join("node.toml"), toml::to_string(&config).unwrap()).unwrap();
        let made = |own_token| -> toml::Table {
            configure(home, &folder, own_token).unwrap();
            toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap()
        };
        let shared = made(false);
        assert_eq!(shared["api"]["listen"].as_str(), Some("10.0.0.3:7610"));
        assert_eq!(shared["peer"]["listen"].as_str(), Some("10.0.0.3:7611"));
        assert_eq!(shared["peer"]["advertise"].as_str(), Some("10.0.0.3:7601"));
        assert_eq!(shared["data_dir"].as_str(), folder.join("data").to_str());
        assert_eq!(shared["hsm"]["environment"]["SOFTHSM2_CONF"].as_str(), Some("/c"));
        assert_eq!(made(true)["hsm"]["environment"]["SOFTHSM2_CONF"].as_str(), folder.join("softhsm2.conf").to_str());
    }
}
