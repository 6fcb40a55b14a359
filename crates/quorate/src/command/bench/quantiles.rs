//! Times of few events, in order: exact quantiles.

use std::time::Duration;

use serde_json::{Value, json};

/// Times, in milliseconds.
#[derive(Clone, Default, Debug)]
pub struct Times(Vec<f64>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut ms: Vec<f64> = times.into_iter().map(|t| t.as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        Self(ms)
    }
}

impl Times {
    /// The smallest time that a part `q` of all do not exceed (nearest rank); `None` of none.
    pub fn at(&self, q: f64) -> Option<f64> {
        let rank = (self.0.len() as f64 * q).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).map(|ms| (ms * 10.0).round() / 10.0)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// p50, p90, p99 and maximum; null without times.
    pub fn to_json(&self) -> Value {
        match self.0.is_empty() {
            true => Value::Null,
            false => json!({
                "p50_ms": self.at(0.5), "p90_ms": self.at(0.9), "p99_ms": self.at(0.99), "max_ms": self.at(1.0),
                "count": self.len(),
            }),
        }
    }

    /// The same, for a table.
    pub fn cells(&self) -> [String; 4] {
        [0.5, 0.9, 0.99, 1.0].map(|q| self.at(q).map_or_else(|| "-".into(), |ms| format!("{ms:.1}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_seen() {
        let times: Times = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([0.5, 0.9, 0.99, 1.0].map(|q| times.at(q)), [Some(50.0), Some(90.0), Some(99.0), Some(100.0)]);
        let one: Times = [Duration::from_micros(1550)].into_iter().collect();
        assert_eq!([0.0, 0.5, 1.0].map(|q| one.at(q)), [Some(1.6); 3]);
        assert_eq!((Times::default().at(0.5), Times::default().to_json()), (None, Value::Null));
        assert_eq!(Times::default().cells(), ["-", "-", "-", "-"]);
    }
}
