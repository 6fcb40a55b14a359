//! The bug that a build with seeded bugs runs with (`jepsen selftest --bugs`). No other build has this file.

use quorate_core::seeded::choose;

/// Names the bug.
const VARIABLE: &str = "QUORATE_SEEDED_BUG";

/// Takes up the bug that the environment names, and says so as loudly as a log can.
///
/// # Errors
/// When there is none of that name.
pub fn take_up() -> Result<(), String> {
    match std::env::var(VARIABLE) {
        Ok(name) => {
            let bug = choose(&name)?;
            tracing::error!(
                ?bug,
                "THIS NODE HAS A BUG ON PURPOSE ({VARIABLE}={name}): IT BREAKS PROMISES. NEVER KEEP KEYS IN IT"
            );
        }
        Err(_) => tracing::error!("this build has seeded bugs, of which {VARIABLE} chooses one: never keep keys in it"),
    }
    Ok(())
}
