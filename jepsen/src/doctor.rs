//! What this machine allows.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::cluster::{Disk, Limits, clock, module, token, trace};
use crate::nemesis::Kind;
use crate::nemesis::packet::Harm;
use crate::net::Backend;

/// One line of the table.
pub struct Check {
    /// What is needed.
    pub what: &'static str,
    /// What for.
    pub for_what: String,
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
        Check { what: "the quorate binary", for_what: "the nodes".into(), missing: quorate_missing },
        Check {
            what: "softhsm2-util",
            for_what: "the nodes' tokens".into(),
            missing: answers("softhsm2-util", "--version"),
        },
        Check {
            what: "SoftHSM's module",
            for_what: "the nodes' tokens".into(),
            missing: module().is_none().then(|| "not found; scripts/setup installs softhsm2".into()),
        },
        Check { what: "ip (iproute2)", for_what: "the network".into(), missing: answers("ip", "-V") },
        of_network(Backend::Tap, "--net tap: network namespaces, TAP devices"),
        of_network(Backend::Veth, "--net veth: network namespaces, veth, bridge, nftables"),
        of_network(Backend::Proxy, "--net proxy: processes under other users"),
        Check {
            what: "loop devices, ext4, xfs_io",
            for_what: "power and all faults of disks".into(),
            missing: disk().err().map(|e| format!("{e:#}; run as root; scripts/setup tools installs xfsprogs")),
        },
        Check {
            what: "the PKCS#11 forwarder",
            for_what: "hsm-error, hsm-slow, hsm-wrong".into(),
            missing: token::forwarder().err().map(|e| format!("{e:#}")),
        },
        Check {
            what: "strace",
            for_what: "disk-error, disk-no-space, disk-slow, disk-lie".into(),
            missing: trace::probe().err().map(|e| format!("{e:#}")),
        },
        Check {
            what: "libfaketime",
            for_what: "clock, clock-leap, clock-rate".into(),
            missing: clock::probe().err().map(|e| format!("{e:#}")),
        },
        Check {
            what: "control groups (version 1) for memory",
            for_what: "memory".into(),
            missing: Limits::create().err().map(|e| format!("{e:#}; run as root")),
        },
    ]
}

/// Whether a network can be built, and what can be done to it.
fn of_network(net: Backend, what: &'static str) -> Check {
    let kinds = Kind::value_variants().iter().filter(|kind| kind.lacks(net).is_none()).map(|kind| match kind {
        Kind::Packet | Kind::Stream => {
            let harms: Vec<_> = Harm::of(net).iter().map(|harm| harm.name()).collect();
            format!("{} ({})", kind.name(), harms.join(", "))
        }
        _ => kind.name().to_owned(),
    });
    let mut for_what = kinds.collect::<Vec<_>>().join(", ");
    if net.records() {
        for_what += "; a recording of what nodes send";
    }
    let missing = net.try_out().err().map(|why| format!("{why:#}; run as root, outside a container that forbids it"));
    Check { what, for_what, missing }
}
