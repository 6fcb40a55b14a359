//! A clock that no suspension stops: how old is the round that this answer rests on? (key-log §1.8)

use std::time::Duration;

/// Time since some fixed point, counting while the process is stopped and while the machine sleeps.
pub trait BootClock: Send + Sync {
    /// Now.
    fn now(&self) -> Duration;
}

/// The kernel's `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBootClock;

impl BootClock for SystemBootClock {
    fn now(&self) -> Duration {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
    }
}
