//! The program that plays a member, see [`crate::hostile`].

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use quorate_client::v1::StatusResponse;

use super::Cluster;
use crate::hostile::Peer;
use crate::hostile::doors::{Door, Knock};

/// The program at work; ended when dropped.
pub struct Impostor {
    child: Child,
    said: PathBuf,
}

impl Cluster<'_> {
    /// Starts it at a node's place, whose own process must not run; `status` says who the members are.
    ///
    /// # Errors
    /// It can't be started, or who is to be played is no member.
    pub fn impersonate(&self, node: u32, status: &StatusResponse, doors: &[Door]) -> anyhow::Result<Impostor> {
        ensure!(!self.runs(node), "n{node} runs");
        let folder = self.node_dir(node);
        self.net.own(node, &folder)?;
        let name = format!("n{node}");
        let me = status.nodes.iter().find(|n| n.name == name).with_context(|| format!("{name} is no member"))?;
        let mut program = self.net.command(node, &std::env::current_exe()?);
        program.args(["hostile", "--me", &me.id.to_string(), "--cluster", &status.cluster_id, "--folder"]).arg(&folder);
        for other in status.nodes.iter().filter(|n| n.name != name) {
            let addr = other.peer.parse().with_context(|| format!("where {} is: {}", other.name, other.peer))?;
            program.args(["--peer", &Peer { id: other.id, name: other.name.clone(), addr }.arg()]);
        }
        for door in doors {
            program.args(["--door", door.name()]);
        }
        let said = folder.join("impostor");
        let child = program
            .stdin(Stdio::piped())
            .stdout(File::create(&said)?)
            .stderr(File::create(said.with_extension("errors"))?)
            .spawn()
            .context("can't start the hostile program")?;
        Ok(Impostor { child, said })
    }
}

impl Impostor {
    /// Ends it; what it was answered.
    ///
    /// # Errors
    /// It had ended by itself: why.
    pub fn end(mut self) -> anyhow::Result<Vec<Knock>> {
        let mut errors = String::new();
        if self.child.try_wait()?.is_some() {
            File::open(self.said.with_extension("errors"))?.read_to_string(&mut errors)?;
            anyhow::bail!("the hostile program ended by itself: {}", errors.trim());
        }
        self.child.kill()?;
        self.child.wait()?;
        let said = std::fs::read_to_string(&self.said)?;
        // The last line may not be whole.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
