//! What the process does so that its memory stays its own (design §5): no core dumps, not dumpable, so that neither
//! a crash nor another process of the same user gets a copy.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

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
