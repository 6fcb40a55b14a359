//! A node's clock, in the harness's hands: libfaketime, loaded into the node's process, reads from a file what time it is.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Where Debian and its relatives keep libfaketime, in the form that is safe with threads.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
/// A process reads its clock for the first time at most so much after it was started, seconds, on a busy machine.
const START_MAX: f64 = 0.5;

/// libfaketime.
pub fn library() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|p| p.exists())
}

/// Which of a node's clocks are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The time of day alone, which may leap anywhere.
    Wall,
    /// The monotonic clock too, which may run at another rate, but never goes back.
    Monotonic,
}

/// How a clock goes: its reading is `rate` times the process's age, plus `offset`, seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// 1 = as it should.
    pub rate: f64,
    /// Seconds.
    pub offset: f64,
}

impl Pace {
    /// As it should go.
    pub const TRUE: Self = Self { rate: 1.0, offset: 0.0 };

    /// Goes on at another rate from the age `age` on, seconds. The age may be up to `START_MAX` too high: the reading may
    /// leap forward by as much, never back.
    pub fn at_rate(self, rate: f64, age: f64) -> Self {
        let leap = (rate - self.rate).max(0.0) * START_MAX;
        Self { rate, offset: self.offset + age * (self.rate - rate) + leap }
    }

    /// How far the clock is ahead at this age, seconds.
    pub fn ahead(self, age: f64) -> f64 {
        self.offset + age * (self.rate - 1.0)
    }

    /// As libfaketime wants it; without a rate it would keep the last one it was told.
    fn words(self) -> String {
        format!("{:+.6} x{}", self.offset, self.rate)
    }
}

/// The clock of one node.
pub struct Clock {
    reach: Reach,
    library: PathBuf,
    file: PathBuf,
    now: RefCell<Now>,
}

struct Now {
    pace: Pace,
    since: Instant,
    /// Counts the node's starts.
    start: u32,
}

impl Clock {
    /// Of a node whose folder is `dir`; going right.
    ///
    /// # Errors
    /// libfaketime is not installed, or the file can't be written.
    pub fn new(dir: &Path, reach: Reach) -> anyhow::Result<Self> {
        let library = library().context("libfaketime is not installed; scripts/setup tools installs it")?;
        let now = Now { pace: Pace::TRUE, since: Instant::now(), start: 0 };
        let clock = Self { reach, library, file: dir.join("clock"), now: RefCell::new(now) };
        clock.write(Pace::TRUE)?;
        Ok(clock)
    }

    /// Which clocks it moves.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// What the node's process must find in its environment.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&str, OsString)> = vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            // Times of files are the kernel's.
            ("NO_FAKE_STAT", "1".into()),
        ];
        if self.reach == Reach::Wall {
            variables.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()));
        }
        variables
    }

    /// The node is about to be started. A monotonic clock begins anew; a wrong time of day stays wrong, as on a machine.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn starts(&self) -> anyhow::Result<()> {
        let mut now = self.now.borrow_mut();
        (now.since, now.start) = (Instant::now(), now.start + 1);
        if now.pace.rate != 1.0 || self.reach == Reach::Monotonic {
            now.pace = Pace::TRUE;
            self.write(Pace::TRUE)?;
        }
        Ok(())
    }

    /// Which start of the node this is.
    pub fn start(&self) -> u32 {
        self.now.borrow().start
    }

    /// Leaps: the time of day is so many seconds ahead from now on, and goes at this rate.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn leap(&self, seconds: f64, rate: f64) -> anyhow::Result<()> {
        let pace = {
            let mut now = self.now.borrow_mut();
            let age = now.since.elapsed().as_secs_f64();
            now.pace = Pace { rate: 1.0, offset: seconds }.at_rate(rate, age);
            now.pace
        };
        self.write(pace)
    }

    /// Goes on at this rate, without a leap back.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_rate(&self, rate: f64) -> anyhow::Result<()> {
        let pace = {
            let mut now = self.now.borrow_mut();
            now.pace = now.pace.at_rate(rate, now.since.elapsed().as_secs_f64());
            now.pace
        };
        self.write(pace)
    }

    /// Makes a clock that is behind right, by one leap; one that is ahead stays ahead.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_right_forward(&self) -> anyhow::Result<()> {
        self.set_rate(1.0)?;
        let behind = -self.ahead();
        if behind > 0.0 {
            self.leap(0.0, 1.0)?;
        }
        Ok(())
    }

    /// How far it is ahead now, seconds.
    pub fn ahead(&self) -> f64 {
        let now = self.now.borrow();
        now.pace.ahead(now.since.elapsed().as_secs_f64())
    }

    /// At once whole or not at all: the node reads it at any moment.
    fn write(&self, pace: Pace) -> anyhow::Result<()> {
        let new = self.file.with_extension("new");
        let written = std::fs::write(&new, pace.words()).and_then(|()| std::fs::rename(&new, &self.file));
        written.with_context(|| self.file.display().to_string())
    }
}

/// Whether libfaketime moves a process's time of day here, and leaves it alone when told so.
///
/// # Errors
/// What does not work.
pub fn probe() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("quorate-jepsen-clock-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let told = Clock::new(&dir, Reach::Wall).and_then(|clock| {
        clock.leap(-86_400.0, 1.0)?;
        let mut date = std::process::Command::new("date");
        let output = date.arg("+%s").envs(clock.environment()).output().context("can't run date")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse::<u64>()?)
    });
    let _ = std::fs::remove_dir_all(&dir);
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let told = Duration::from_secs(told?);
    anyhow::ensure!(
        told + Duration::from_secs(86_000) < real,
        "libfaketime is there, but does not move a process's clock"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the rates, a monotonic clock never goes back, however late the process really began.
        #[test]
        fn a_change_of_rate_never_steps_back(
            rates in prop::collection::vec(prop::sample::select(vec![0.25, 0.5, 1.0, 2.0]), 1..8),
            ages in prop::collection::vec(0.1..20.0_f64, 8),
            late in 0.0..START_MAX,
        ) {
            let (mut pace, mut age) = (Pace::TRUE, 0.0);
            for (rate, passed) in rates.into_iter().zip(ages) {
                age += passed;
                let reading = |pace: Pace| pace.rate * (age - late) + pace.offset;
                let next = pace.at_rate(rate, age);
                prop_assert!(reading(next) >= reading(pace) - 1e-9);
                prop_assert!(reading(next) <= reading(pace) + 2.0 * START_MAX * (rate - pace.rate).abs() + 1e-9);
                pace = next;
            }
        }
    }

    #[test]
    fn what_libfaketime_reads() {
        assert_eq!(Pace::TRUE.words(), "+0.000000 x1");
        assert_eq!(Pace { rate: 0.5, offset: -3.25 }.words(), "-3.250000 x0.5");
        let fast = Pace::TRUE.at_rate(2.0, 10.0);
        assert_eq!((fast.ahead(10.0), fast.ahead(14.0)), (0.5, 4.5));
    }

    #[test]
    fn a_restart_leaves_the_time_of_day_wrong_and_the_monotonic_clock_new() {
        let dir = tempfile::tempdir().unwrap();
        let read = || std::fs::read_to_string(dir.path().join("clock")).unwrap();
        let wall = Clock::new(dir.path(), Reach::Wall).unwrap();
        wall.leap(600.0, 1.0).unwrap();
        wall.starts().unwrap();
        assert_eq!((read().as_str(), wall.start()), ("+600.000000 x1", 1));
        let monotonic = Clock::new(dir.path(), Reach::Monotonic).unwrap();
        monotonic.set_rate(2.0).unwrap();
        assert!(read().ends_with(" x2"));
        monotonic.starts().unwrap();
        assert_eq!(read(), "+0.000000 x1");
    }

    #[test]
    fn only_a_clock_that_is_behind_is_set_right() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::new(dir.path(), Reach::Monotonic).unwrap();
        clock.leap(-5.0, 1.0).unwrap();
        clock.set_right_forward().unwrap();
        assert_eq!(clock.ahead(), 0.0);
        clock.leap(5.0, 1.0).unwrap();
        clock.set_right_forward().unwrap();
        assert_eq!(clock.ahead(), 5.0);
    }
}
