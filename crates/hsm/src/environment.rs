//! The environment a PKCS#11 module reads when it starts.

use std::collections::BTreeMap;

use crate::HsmError;

/// Sets the variables a module must find (`hsm.environment`). Call it first in `main`, before a runtime exists:
/// changing the environment is sound only while nobody else can read it, so that this refuses to change anything
/// once the process has a second thread. Variables that already hold their value are left alone.
///
/// # Errors
/// [`HsmError::Environment`]: a name or value that no environment can hold, or the process has more than one thread.
pub fn set_environment(environment: &BTreeMap<String, String>) -> Result<(), HsmError> {
    if environment.iter().all(|(name, value)| holds(name, value)) {
        return Ok(());
    }
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(HsmError::Environment {
                variable: name.clone(),
                reason: "is not something an environment can hold; correct hsm.environment".into(),
            });
        }
    }
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(usize::MAX);
    if threads != 1 {
        return Err(HsmError::Environment {
            variable: environment.keys().cloned().collect::<Vec<_>>().join(", "),
            reason: "must be set before this process starts threads; set it in the environment of the process".into(),
        });
    }
    for (name, value) in environment {
        // SAFETY: this is the process's only thread (counted above; only this thread could start another), so that
        // nothing reads or writes the environment at the same time.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    Ok(())
}

/// Checks that every variable holds its value, as the module is about to read it.
pub(crate) fn check(environment: &BTreeMap<String, String>) -> Result<(), HsmError> {
    match environment.iter().find(|(name, value)| !holds(name, value)) {
        None => Ok(()),
        Some((name, value)) => Err(HsmError::Environment {
            variable: name.clone(),
            reason: format!(
                "must be {value:?} for this token, but this process has another value or none; set it before the process starts"
            ),
        }),
    }
}

fn holds(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|v| v == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_may_not_change_its_environment() {
        // The test harness runs this on a second thread.
        let env = BTreeMap::from([("QUORATE_TEST_UNSET".to_owned(), "1".to_owned())]);
        let error = set_environment(&env).expect_err("two threads").to_string();
        assert!(error.contains("QUORATE_TEST_UNSET") && error.contains("threads"), "{error}");
        assert!(check(&env).expect_err("not set").to_string().contains("QUORATE_TEST_UNSET"));
    }

    #[test]
    fn what_is_set_already_is_accepted() {
        let path = std::env::var("PATH").expect("PATH is set");
        let env = BTreeMap::from([("PATH".to_owned(), path)]);
        set_environment(&env).expect("nothing to change");
        check(&env).expect("holds");
    }

    #[test]
    fn impossible_names_and_values_are_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            let env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert!(matches!(set_environment(&env), Err(HsmError::Environment { .. })), "{name:?}={value:?}");
        }
    }
}
