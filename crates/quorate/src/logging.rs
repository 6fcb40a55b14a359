//! What is logged: `QUORATE_LOG`.

use tracing_subscriber::EnvFilter;

/// Names the environment variable.
const LOG_ENV: &str = "QUORATE_LOG";
/// What is said of openraft without being asked for: of its errors the replica tells, and one of them is none.
const QUIET: &str = "openraft=error,openraft::raft=off";

/// What `QUORATE_LOG` asks for; what can't be understood is told, and is `info` then.
pub fn filter() -> EnvFilter {
    let said = std::env::var(LOG_ENV).unwrap_or_default();
    EnvFilter::try_new(directives(&said)).unwrap_or_else(|e| {
        eprintln!(
            "quorate: {LOG_ENV} is not understood ({e}): info is logged. Say error, warn, info, debug, or module=level"
        );
        EnvFilter::new(directives(""))
    })
}

/// A level alone is about quorate: of what it is built on no more is told than at `info`, but for what is named.
fn directives(said: &str) -> String {
    let words: Vec<&str> = said.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let is_level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let (levels, named): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| is_level(word));
    let level = levels.last().map_or_else(|| "info".to_owned(), |level| level.to_ascii_lowercase());
    let others = if matches!(&*level, "debug" | "trace" | "4" | "5") { "info" } else { &level };
    let quiet = if named.iter().any(|word| word.starts_with("openraft")) { "" } else { QUIET };
    let ours = format!("quorate={level}");
    let all = [others, &ours, quiet].into_iter().chain(named);
    all.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_about_quorate() {
        for (said, means) in [
            ("", "info,quorate=info,openraft=error,openraft::raft=off"),
            ("debug", "info,quorate=debug,openraft=error,openraft::raft=off"),
            ("TRACE", "info,quorate=trace,openraft=error,openraft::raft=off"),
            ("warn", "warn,quorate=warn,openraft=error,openraft::raft=off"),
            ("off", "off,quorate=off,openraft=error,openraft::raft=off"),
            ("debug, h2=debug", "info,quorate=debug,openraft=error,openraft::raft=off,h2=debug"),
            ("openraft=debug", "info,quorate=info,openraft=debug"),
            ("quorate_replica=debug", "info,quorate=info,openraft=error,openraft::raft=off,quorate_replica=debug"),
        ] {
            assert_eq!(directives(said), means, "{said}");
            EnvFilter::try_new(directives(said)).expect("they are understood");
        }
        assert!(EnvFilter::try_new(directives("quorate=loud")).is_err());
    }
}
