//! Lines of a node's log that no sound node writes, whatever its network and its neighbours do.

/// Words that mean a fault of the node itself.
const FAULTS: [&str; 8] = [
    "panicked at",
    "assertion failed",
    "internal fault",
    "damaged: this node no longer serves",
    "this node stops serving",
    "does not match its digest",
    "a forged batch",
    "memory allocation of",
];

/// The faulty lines of one log.
pub fn faults(node: &str, log: &str) -> Vec<String> {
    let faulty = |line: &&str| FAULTS.iter().any(|f| line.contains(f));
    log.lines().filter(faulty).map(|line| format!("{node}: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_and_trouble_with_others_is_not() {
        let log = "INFO leader changed\nthread 'raft' panicked at src/x.rs:1:2:\nWARN no read index\n";
        assert_eq!(faults("n2", log), ["n2: thread 'raft' panicked at src/x.rs:1:2:"]);
        assert!(faults("n1", "WARN quorate: a TLS peer was refused\nERROR an error elsewhere\n").is_empty());
    }
}
