//! What the process does so that its memory stays its own (design §5): no core dumps, not dumpable, so that neither
//! a crash nor another process of the same user gets a copy.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};

/// Turns core dumps off and makes the process undumpable (which also forbids `ptrace` by others of the same user).
/// First thing in `main`, before any secret is in memory.
///
/// # Errors
/// When the system refuses; the caller stops, since nothing it would promise holds.
pub fn harden() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// The kernel kills this process when `parent`, its parent, ends in any way; for nodes of `quorate dev`.
///
/// # Errors
/// The parent has ended already, or the system refuses.
pub fn die_with(parent: u32) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Had it ended just before, no signal would ever come.
    match getppid().map(|p| p.as_raw_nonzero().get()) {
        Some(pid) if u32::try_from(pid) == Ok(parent) => Ok(()),
        _ => Err(std::io::Error::other(format!("process {parent}, which started this one, has ended"))),
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn afterwards_nothing_can_be_dumped() {
        harden().expect("allowed to everybody");
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().expect("readable"), DumpableBehavior::NotDumpable);
    }
}
