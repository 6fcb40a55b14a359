//! A switch of our own: each place has a TAP device, and one thread carries frames between them as the links' policies say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::link::{Link, Queue};
use super::places::{Places, batch};
use super::recording::Recorder;
use super::{Backend, CLIENTS, Counts, Net, Policy, Recorded, Recording, frame, own_address};
use crate::seed::stream;

/// The switch looks this often whether it is to end.
const IDLE: Duration = Duration::from_millis(100);
/// Frames taken from one device before the others have their turn.
const BURST: usize = 32;
/// Room for the greatest frame of a device with the usual MTU.
const FRAME_LEN_MAX: usize = 2048;

type Links = BTreeMap<(u32, u32), Link>;

/// The network; taken down when dropped.
pub struct Tap {
    seed: u64,
    shared: Arc<Shared>,
    switch: Mutex<Option<JoinHandle<anyhow::Result<Option<Recorded>>>>>,
    /// Last: the devices are closed before their namespaces go.
    places: Places,
}

struct Shared {
    links: Mutex<Links>,
    /// Devices of places that came later, until the switch takes them.
    arrivals: Mutex<Vec<(u32, SyncDevice)>>,
    stop: AtomicBool,
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<(u32, SyncDevice)>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// Builds it, and starts the switch.
    ///
    /// # Errors
    /// With what the system refused: it takes root, iproute2 and `/dev/net/tun`.
    pub fn build(nodes: u32, seed: u64, recording: Option<Recording>) -> anyhow::Result<Self> {
        let places = Places::make(nodes, &[])?;
        let devices = places.all().map(|place| Ok((place, device(&places, place)?)));
        let devices = devices.collect::<anyhow::Result<Vec<_>>>()?;
        for place in places.all() {
            places.bring_up(place)?;
            let others = places.all().filter(|other| *other != place);
            batch(&others.map(neighbour).collect::<Vec<_>>(), Some(&places.namespace(place)))?;
        }
        let pairs = places.all().flat_map(|a| places.all().map(move |b| (a, b))).filter(|(a, b)| a != b);
        let links = pairs.map(|pair| (pair, link(seed, pair))).collect();
        let (links, arrivals) = (Mutex::new(links), Mutex::default());
        let shared = Arc::new(Shared { links, arrivals, stop: AtomicBool::new(false) });
        let recorder = recording.map(|r| recorder(&r)).transpose()?;
        let switch = Switch { shared: shared.clone(), devices, queue: Queue::default(), recorder };
        let switch = thread::Builder::new().name("switch".into()).spawn(move || switch.run())?;
        Ok(Self { seed, shared, switch: Mutex::new(Some(switch)), places })
    }

    fn end(&self) -> anyhow::Result<Option<Recorded>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner).take();
        switch.map_or(Ok(None), |switch| switch.join().map_err(|_| anyhow!("the switch broke"))?)
    }
}

impl Net for Tap {
    fn backend(&self) -> Backend {
        Backend::Tap
    }

    fn attach(&self, node: u32) -> anyhow::Result<()> {
        let others: Vec<u32> = self.places.all().collect();
        self.places.add(node)?;
        let device = device(&self.places, node)?;
        self.places.bring_up(node)?;
        let known: Vec<String> = others.iter().copied().map(neighbour).collect();
        batch(&known, Some(&self.places.namespace(node)))?;
        for other in &others {
            batch(&[neighbour(node)], Some(&self.places.namespace(*other)))?;
        }
        let pairs = others.iter().flat_map(|other| [(*other, node), (node, *other)]);
        self.shared.links().extend(pairs.map(|pair| (pair, link(self.seed, pair))));
        self.shared.arrivals().push((node, device));
        Ok(())
    }

    fn enter(&self) -> anyhow::Result<()> {
        self.places.enter(CLIENTS)
    }

    fn visit(&self, node: u32) -> anyhow::Result<()> {
        self.places.enter(node)
    }

    fn command(&self, node: u32, program: &Path) -> Command {
        self.places.command(node, program)
    }

    fn cut(&self, pairs: &[(u32, u32)]) -> anyhow::Result<()> {
        self.shared.links().iter_mut().for_each(|(pair, link)| link.set_cut(pairs.contains(pair)));
        Ok(())
    }

    fn heal(&self) -> anyhow::Result<u64> {
        let mut links = self.shared.links();
        links.values_mut().for_each(|link| link.set_cut(false));
        Ok(links.values_mut().map(Link::take_cut).sum())
    }

    fn shape(&self, pairs: &[(u32, u32)], policy: &Policy) -> anyhow::Result<()> {
        ensure!(policy.half_close == 0.0 && policy.reset == 0.0, "a switch knows no connections; use --net proxy");
        for (pair, link) in self.shared.links().iter_mut() {
            link.set_policy(pairs.contains(pair).then(|| policy.clone()));
        }
        Ok(())
    }

    fn unshape(&self) -> anyhow::Result<Counts> {
        let mut sum = Counts::default();
        for link in self.shared.links().values_mut() {
            link.set_policy(None);
            sum += link.take_counts();
        }
        Ok(sum)
    }

    fn recorded(&self) -> anyhow::Result<Option<Recorded>> {
        self.end()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            eprintln!("jepsen: {e:#}");
        }
    }
}

/// Neighbours are known for good: a link that was cut does not have to find them again.
fn neighbour(place: u32) -> String {
    format!("neigh add {} lladdr {} dev eth0 nud permanent", own_address(place), hex(place))
}

fn link(seed: u64, (a, b): (u32, u32)) -> Link {
    Link::new(stream(seed, "link", u64::from(a << 16 | b)))
}

/// A place's device, made by a thread that visits its namespace.
fn device(places: &Places, place: u32) -> anyhow::Result<SyncDevice> {
    let make = || -> anyhow::Result<SyncDevice> {
        places.enter(place)?;
        let device = DeviceBuilder::new()
            .name("eth0")
            .layer(Layer::L2)
            .mac_addr(frame::hardware_address(place))
            .enable(false)
            .build_sync()
            .context("can't make a TAP device; /dev/net/tun is needed")?;
        device.set_nonblocking(true)?;
        Ok(device)
    };
    thread::scope(|scope| scope.spawn(make).join().map_err(|_| anyhow!("a thread broke"))?)
}

fn recorder(recording: &Recording) -> anyhow::Result<Recorder<BufWriter<File>>> {
    let file = File::create(&recording.file).with_context(|| recording.file.display().to_string())?;
    Recorder::new(BufWriter::new(file), recording.limit, SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn hex(place: u32) -> String {
    frame::hardware_address(place).map(|b| format!("{b:02x}")).join(":")
}

/// The thread that carries frames.
struct Switch {
    shared: Arc<Shared>,
    devices: Vec<(u32, SyncDevice)>,
    queue: Queue,
    recorder: Option<Recorder<BufWriter<File>>>,
}

impl Switch {
    fn run(mut self) -> anyhow::Result<Option<Recorded>> {
        let begun = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.devices.append(&mut self.shared.arrivals());
            let wait = self.queue.next_due().map_or(IDLE, |due| due.saturating_sub(begun.elapsed()).min(IDLE));
            let readable = self.wait(wait)?;
            for at in readable {
                self.take(at, begun)?;
            }
            while let Some((place, frame)) = self.queue.pop(begun.elapsed()) {
                self.deliver(place, &frame);
            }
        }
        self.recorder.map(Recorder::end).transpose()
    }

    /// Waits for a frame, at most so long; which devices have some.
    fn wait(&self, time: Duration) -> anyhow::Result<Vec<usize>> {
        let mut fds: Vec<PollFd<'_>> =
            self.devices.iter().map(|(_, device)| PollFd::new(device, PollFlags::IN)).collect();
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        match poll(&mut fds, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("the switch can't wait for frames"),
        }
        Ok((0..fds.len()).filter(|at| fds[*at].revents().contains(PollFlags::IN)).collect())
    }

    /// Takes frames from a device and puts them on their way.
    fn take(&mut self, at: usize, begun: Instant) -> anyhow::Result<()> {
        let mut buffer = [0; FRAME_LEN_MAX];
        for _ in 0..BURST {
            let (from, device) = &self.devices[at];
            let from = *from;
            let len = match device.recv(&mut buffer) {
                Ok(len) => len,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e).with_context(|| format!("the device of place {from}")),
            };
            let (now, frame) = (begun.elapsed(), &buffer[..len]);
            if let Some(recorder) = &mut self.recorder {
                recorder.frame(now, frame)?;
            }
            let to = frame::destination(frame);
            let mut links = self.shared.links();
            for ((_, place), link) in links.range_mut((from, 0)..=(from, u32::MAX)) {
                if to.is_none_or(|to| to == *place) {
                    for (due, frame) in link.pass(now, frame) {
                        self.queue.push(due, *place, frame);
                    }
                }
            }
        }
        Ok(())
    }

    fn deliver(&self, place: u32, frame: &[u8]) {
        if let Some((_, device)) = self.devices.iter().find(|(p, _)| *p == place) {
            // A device that can't take it is a receiver that loses a frame: networks do.
            let _ = device.send(frame);
        }
    }
}
