//! What this machine allows.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::{Disk, Limits, module};
use crate::net::Net;

/// One line of the table.
pub struct Check {
    /// What is needed.
    pub what: &'static str,
    /// What for.
    pub for_what: &'static str,
    /// Why it is not there; and what to do.
    pub missing: Option<String>,
}

/// Tries everything that a run needs, for real, and takes it down again.
pub fn examine(quorate: &Path) -> Vec<Check> {
    let answers = |program: &str, arg: &str| {
        let run =
            Command::new(program).arg(arg).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_err().then(|| format!("{program} can't be run; scripts/setup installs it"))
    };
    let network = || -> anyhow::Result<()> {
        let net = Net::build(2)?;
        net.cut(&[(1, 2)])?;
        net.heal()?;
        Ok(())
    };
    let disk = || -> anyhow::Result<()> {
        let image = std::env::temp_dir().join(format!("quorate-jepsen-doctor-{}", std::process::id()));
        let lost = Disk::create(&image, 0).and_then(|disk| disk.lose_power());
        let _ = std::fs::remove_file(&image);
        lost
    };
    let version = Command::new(quorate).arg("version").stdin(Stdio::null()).output();
    let quorate_missing = match version {
        Ok(output) if output.status.success() => None,
        _ => Some(format!("{} can't be run; cargo build, or name one with --quorate", quorate.display())),
    };
    vec![
        Check { what: "the quorate binary", for_what: "the nodes", missing: quorate_missing },
        Check { what: "softhsm2-util", for_what: "the nodes' tokens", missing: answers("softhsm2-util", "--version") },
        Check {
            what: "SoftHSM's module",
            for_what: "the nodes' tokens",
            missing: module().is_none().then(|| "not found; scripts/setup installs softhsm2".into()),
        },
        Check { what: "ip (iproute2)", for_what: "the network", missing: answers("ip", "-V") },
        Check { what: "nft (nftables)", for_what: "partition", missing: answers("nft", "--version") },
        Check {
            what: "network namespaces, veth, bridge, nftables",
            for_what: "every run",
            missing: network().err().map(|e| format!("{e:#}; run as root, outside a container that forbids it")),
        },
        Check {
            what: "loop devices, ext4, xfs_io",
            for_what: "power",
            missing: disk().err().map(|e| format!("{e:#}; run as root; scripts/setup tools installs xfsprogs")),
        },
        Check {
            what: "control groups (version 1) for memory",
            for_what: "memory",
            missing: Limits::create().err().map(|e| format!("{e:#}; run as root")),
        },
    ]
}
