//! The calls that contradict each other: one row a call, in the order of their beginnings, with node, process and answer.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::charts::{FAIL, FONT, INFO, OK, Told, colour, said};
use super::spans::Span;
use crate::checker::{Finding, Verdict, calls_of};
use crate::history::{Answer, Call, Op, Outcome};

const WIDTH: u32 = 1200;
const ROW: u32 = 22;
const LEFT: i32 = 250;
const RIGHT: i32 = 330;
/// Height of a line that names a fault.
const BAND: u32 = 15;
const BOTTOM: u32 = 26;
/// As many rows at most.
const ROWS_MAX: usize = 40;
const CULPRIT: RGBColor = RGBColor(0xd6, 0x27, 0x28);

/// What is drawn of a violation.
pub struct Timeline<'a> {
    /// The checker that found it.
    pub checker: String,
    /// The calls, by beginning.
    calls: Vec<&'a Told<'a>>,
    /// Those that the violation names.
    named: Vec<u64>,
}

impl<'a> Timeline<'a> {
    /// For each checker that found a promise broken, the violation that names the fewest calls, with the changes of the same
    /// object meanwhile.
    pub fn all(findings: &[Finding], calls: &'a [Told<'a>]) -> Vec<Self> {
        let broken = findings.iter().filter(|f| f.verdict == Verdict::Invalid);
        broken.filter_map(|f| Self::of(f, calls)).collect()
    }

    fn of(finding: &Finding, calls: &'a [Told<'a>]) -> Option<Self> {
        let violations = finding.details.iter().map(|d| calls_of(d)).filter(|named| !named.is_empty());
        let named = violations.min_by_key(Vec::len)?;
        let find = |index: &u64| calls.iter().find(|c| c.op.index == *index);
        let shown: Vec<&Told<'_>> = named.iter().filter_map(find).collect();
        let key = shown.iter().find_map(|c| c.op.key.as_ref());
        let (from, to) = (shown.iter().map(|c| c.op.invoked).min()?, shown.iter().map(|c| c.op.invoked).max()?);
        let changes = |c: &&Told<'_>| !c.op.call.is_use() && c.op.call != Call::Describe && c.op.may_have_happened();
        // What is about no key, such as a node's seal, has nothing beside it.
        let same = |c: &&Told<'_>| key.is_some() && c.op.key.as_ref() == key;
        let meanwhile = calls.iter().filter(same).filter(|c| !named.contains(&c.op.index));
        // Also what was in doubt before: it may take effect at any later time.
        let near = |c: &&Told<'_>| c.op.invoked <= to && (c.op.ended >= from);
        let mut others: Vec<&Told<'_>> = meanwhile.filter(changes).filter(near).collect();
        // The newest are nearest to the culprit.
        let room = ROWS_MAX.saturating_sub(shown.len());
        others.drain(..others.len().saturating_sub(room));
        let mut calls = [shown, others].concat();
        calls.sort_by_key(|c| c.op.invoked);
        Some(Self { checker: finding.checker.clone(), calls, named })
    }

    /// The call that could not be.
    pub fn culprit(&self) -> Option<&'a Op> {
        self.calls.iter().find(|c| self.named.last() == Some(&c.op.index)).map(|c| c.op)
    }

    /// The picture.
    ///
    /// # Errors
    /// When the library can't draw it.
    pub fn svg(&self, spans: &[Span]) -> anyhow::Result<String> {
        let ms = |ns: u64| ns as f64 / 1e6;
        let ends = self.calls.iter().map(|c| c.told.unwrap_or(c.op.invoked));
        let (first, last) =
            (ms(self.calls.iter().map(|c| c.op.invoked).min().unwrap_or(0)), ms(ends.max().unwrap_or(0)));
        let rim = ((last - first) * 0.03).max(0.05);
        let (first, last) = (first - rim, last + rim);
        let meanwhile: Vec<&Span> =
            spans.iter().filter(|s| s.from * 1e3 <= last && s.to.max(s.from) * 1e3 >= first).collect();
        let top = meanwhile.len() as u32 * BAND + 4;
        let height = self.calls.len() as u32 * ROW + top + BOTTOM;
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
            let mut chart = ChartBuilder::on(&root)
                .margin_top(top)
                .margin_left(LEFT)
                .margin_right(RIGHT)
                .x_label_area_size(BOTTOM)
                .build_cartesian_2d(first..last, 0.0..f64::from(height - top - BOTTOM))
                .map_err(said)?;
            let bands = meanwhile.iter().map(|s| {
                let (from, to) = ((s.from * 1e3).max(first), (s.to * 1e3).clamp(first, last));
                Rectangle::new([(from, 0.0), (to, f64::from(height))], colour(s.kind).mix(0.13).filled())
            });
            chart.draw_series(bands).map_err(said)?;
            chart
                .configure_mesh()
                .disable_y_mesh()
                .disable_y_axis()
                .light_line_style(TRANSPARENT)
                .bold_line_style(FAIL.mix(0.3))
                .x_labels(6)
                .x_label_formatter(&|ms| format!("{:.4} s", ms / 1e3))
                .label_style((FONT, 12))
                .draw()
                .map_err(said)?;
            let x = |ms: f64| chart.backend_coord(&(ms.clamp(first, last), 0.0)).0;
            for (span, line) in meanwhile.into_iter().zip(0..) {
                let text = format!("{}: {}", span.kind.name(), span.words);
                let place = x(span.from * 1e3).min(WIDTH as i32 - RIGHT - 100);
                root.draw(&Text::new(
                    text,
                    (place, line * BAND as i32 + 2),
                    (FONT, 11).into_font().color(&colour(span.kind)),
                ))
                .map_err(said)?;
            }
            for (call, row) in self.calls.iter().zip(0..) {
                let top = top as i32 + row * ROW as i32;
                self.row(&root, call, top, &x)?;
            }
            root.present().map_err(said)?;
        }
        Ok(svg)
    }

    fn row(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        call: &Told<'_>,
        top: i32,
        x: &impl Fn(f64) -> i32,
    ) -> anyhow::Result<()> {
        let op = call.op;
        let culprit = self.named.last() == Some(&op.index);
        let ink = match (&op.outcome, culprit) {
            (_, true) => CULPRIT,
            (Outcome::Ok(_), _) => OK,
            (Outcome::Fail(_), _) => FAIL,
            (Outcome::Info(_), _) => INFO,
        };
        let named = self.named.contains(&op.index);
        let mark = if culprit {
            "▶ "
        } else if named {
            "• "
        } else {
            ""
        };
        let who = format!("{mark}n{} · process {} · {}", op.node, op.process, words(&op.call));
        let left = x(op.invoked as f64 / 1e6);
        let right = x(call.told.map_or(f64::MAX, |told| told as f64 / 1e6)).max(left + 3);
        root.draw(&Rectangle::new([(left, top + 5), (right, top + ROW as i32 - 6)], ink.filled())).map_err(said)?;
        let text = |words: String, at: i32| {
            let style = (FONT, 13).into_font();
            let style = if culprit { style.color(&CULPRIT) } else { style.color(&BLACK) };
            root.draw(&Text::new(words, (at, top + 5), style)).map_err(said)
        };
        text(who, 6)?;
        text(told(&op.outcome), right + 6)
    }
}

fn words(call: &Call) -> String {
    match call {
        Call::Encrypt { text } | Call::Decrypt { text } => format!("{} text {text}", call.name()),
        Call::Create { token, .. } => format!("create token {token}"),
        Call::EncryptBy { text, version } | Call::DecryptBy { text, version } => {
            format!("{} text {text}, version {version}", call.name())
        }
        Call::Compromise { version } | Call::DestroyVersion { version } => format!("{} {version}", call.name()),
        _ => call.name().to_owned(),
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(Answer::Key { state, version }) => format!("ok: {state:?}, version {version}"),
        Outcome::Ok(Answer::Encrypted { version }) => format!("ok: under version {version}"),
        Outcome::Ok(Answer::Decrypted { version, exact: true }) => format!("ok: exact, of version {version}"),
        Outcome::Ok(Answer::Decrypted { version, exact: false }) => {
            format!("ok: WRONG plaintext, of version {version}")
        }
        Outcome::Ok(answer) => format!("ok: {answer:?}"),
        Outcome::Fail(why) => format!("refused: {why}"),
        Outcome::Info(why) => format!("in doubt: {why}"),
    }
}
