//! Pairs of virtual devices into the kernel's bridge. Links are cut frame by frame, per direction, by one nftables set.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::places::{Places, batch, output};
use super::{Backend, Counts, Net, Policy, Recorded, own_address};

/// The namespace of the bridge.
const BRIDGE: &str = "bridge";

/// The network; taken down when dropped.
pub struct Veth {
    places: Places,
}

impl Veth {
    /// Builds it.
    ///
    /// # Errors
    /// With what the system refused: it takes root, iproute2 and nftables.
    pub fn build(nodes: u32) -> anyhow::Result<Self> {
        let places = Places::make(nodes, &[BRIDGE])?;
        let mut commands = vec![
            "link add br0 type bridge stp_state 0 forward_delay 0".to_owned(),
            "link set br0 up".to_owned(),
            "link set lo up".to_owned(),
        ];
        commands.extend(places.all().flat_map(|place| port(&places, place)));
        batch(&commands, Some(&places.name(BRIDGE)))?;
        places.all().try_for_each(|place| places.bring_up(place))?;
        let net = Self { places };
        net.nft(
            "table bridge cuts {
               set cut { type ipv4_addr . ipv4_addr; }
               counter dropped { }
               chain forward {
                 type filter hook forward priority 0;
                 ip saddr . ip daddr @cut counter name dropped drop;
               }
             }
            ",
        )?;
        Ok(net)
    }

    fn nft(&self, script: &str) -> anyhow::Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.places.name(BRIDGE), "nft", "-f", "-"]);
        output(command, script)
    }
}

/// The commands that join a place to the bridge.
fn port(places: &Places, place: u32) -> [String; 2] {
    let namespace = places.namespace(place);
    [
        format!("link add v{place} type veth peer name eth0 netns {namespace}"),
        format!("link set v{place} master br0 up"),
    ]
}

impl Net for Veth {
    fn backend(&self) -> Backend {
        Backend::Veth
    }

    fn attach(&self, node: u32) -> anyhow::Result<()> {
        self.places.add(node)?;
        batch(&port(&self.places, node), Some(&self.places.name(BRIDGE)))?;
        self.places.bring_up(node)
    }

    fn enter(&self) -> anyhow::Result<()> {
        self.places.enter(super::CLIENTS)
    }

    fn visit(&self, node: u32) -> anyhow::Result<()> {
        self.places.enter(node)
    }

    fn command(&self, node: u32, program: &Path) -> Command {
        self.places.command(node, program)
    }

    fn cut(&self, pairs: &[(u32, u32)]) -> anyhow::Result<()> {
        let elements: Vec<String> =
            pairs.iter().map(|(a, b)| format!("{} . {}", own_address(*a), own_address(*b))).collect();
        let mut script = "flush set bridge cuts cut\n".to_owned();
        if !elements.is_empty() {
            script += &format!("add element bridge cuts cut {{ {} }}", elements.join(", "));
        }
        self.nft(&script)?;
        Ok(())
    }

    fn heal(&self) -> anyhow::Result<u64> {
        self.nft("flush set bridge cuts cut")?;
        let counter = self.nft("list counter bridge cuts dropped")?;
        self.nft("reset counter bridge cuts dropped")?;
        let mut words = counter.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|n| n.parse().ok()).with_context(|| format!("nft told no count: {counter}"))
    }

    fn shape(&self, _: &[(u32, u32)], _: &Policy) -> anyhow::Result<()> {
        bail!("this kernel's bridge does not delay, lose or change frames; use --net tap")
    }

    fn unshape(&self) -> anyhow::Result<Counts> {
        bail!("this kernel's bridge does not delay, lose or change frames; use --net tap")
    }

    fn recorded(&self) -> anyhow::Result<Option<Recorded>> {
        Ok(None)
    }
}
