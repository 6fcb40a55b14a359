//! Latency and rate over time, with the faults behind them.

use std::collections::{BTreeMap, HashMap};

use anyhow::anyhow;
use clap::ValueEnum;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::spans::Span;
use crate::history::{History, Op, Outcome, What};
use crate::ledger::quantile;
use crate::nemesis::Kind;

/// Width of a picture; it is scaled to the page.
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 340;
/// Height of one kind's lane, of the axis below, and width of what is written at the left.
const LANE: u32 = 18;
/// A turn of the colour wheel by this part never comes back to a colour.
const GOLDEN: f64 = 0.618_034;
const LEFT: u32 = 62;
const MARGIN: u32 = 18;
/// Points drawn at most of each outcome; of more, every n-th.
const POINTS_MAX: usize = 2500;
/// As many moments the quantiles and rates are taken at.
const WINDOWS: f64 = 60.0;
/// Latency is drawn between these, ms.
const LATENCY: std::ops::Range<f64> = 0.1..20_000.0;
pub(super) const FONT: &str = "sans-serif";

pub(super) const OK: RGBColor = RGBColor(0x2b, 0x8c, 0xc4);
pub(super) const FAIL: RGBColor = RGBColor(0x99, 0x99, 0x99);
pub(super) const INFO: RGBColor = RGBColor(0xe6, 0x6a, 0x1f);
/// Quantiles in percent, with their colours.
pub(super) const QUANTILES: [(u64, RGBColor); 3] =
    [(50, RGBColor(0x2c, 0xa0, 0x2c)), (95, RGBColor(0xb8, 0x8a, 0x00)), (99, RGBColor(0xc2, 0x3b, 0xa5))];

/// The colour of a kind: readable on white and on black, neighbours far apart.
pub fn colour(kind: Kind) -> RGBColor {
    let place = Kind::value_variants().iter().position(|k| *k == kind).unwrap_or(0) as f64;
    let (r, g, b) = HSLColor((place * GOLDEN).fract(), 0.68, 0.47).to_backend_color().rgb;
    RGBColor(r, g, b)
}

/// How a call ended: colour, and place in the order of drawing.
fn outcome(op: &Op) -> (usize, RGBColor) {
    match op.outcome {
        Outcome::Ok(_) => (0, OK),
        Outcome::Fail(_) => (1, FAIL),
        Outcome::Info(_) => (2, INFO),
    }
}

/// Seconds.
fn at(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A call, and when its client was answered or gave up, ns: an `info` too, which has no end.
pub struct Told<'a> {
    /// The call.
    pub op: &'a Op,
    /// `None` for one that was still open when the run ended.
    pub told: Option<u64>,
}

impl<'a> Told<'a> {
    /// All calls of a history.
    pub fn all(history: &History, ops: &'a [Op]) -> Vec<Self> {
        let (mut open, mut told) = (HashMap::new(), HashMap::new());
        for event in &history.events {
            match &event.what {
                What::Client { process, outcome: None, .. } => _ = open.insert(*process, event.index),
                What::Client { process, .. } => {
                    if let Some(index) = open.remove(process) {
                        told.insert(index, event.time);
                    }
                }
                What::Nemesis { .. } => {}
            }
        }
        ops.iter().map(|op| Self { op, told: told.get(&op.index).copied() }).collect()
    }
}

/// Each call's latency as a point, and quantiles of those that succeeded.
///
/// # Errors
/// When the library can't draw it.
pub fn latency(calls: &[&Told<'_>], spans: &[Span], end: f64) -> anyhow::Result<String> {
    let mut by_outcome: [Vec<(f64, f64)>; 3] = Default::default();
    let mut windows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let window = (end / WINDOWS).max(1.0);
    for Told { op, told } in calls.iter().copied() {
        let Some(told) = told else { continue };
        let ms = (told - op.invoked) as f64 / 1e6;
        by_outcome[outcome(op).0].push((at(op.invoked), ms.clamp(LATENCY.start, LATENCY.end)));
        if op.is_ok() {
            windows.entry((at(op.invoked) / window) as u64).or_default().push((ms * 1000.0) as u64);
        }
    }
    windows.values_mut().for_each(|w| w.sort_unstable());
    picture(spans, end, LATENCY.log_scale(), "ms (logarithmic)", LATENCY, |chart| {
        for (points, colour) in by_outcome.iter().zip([OK, FAIL, INFO]) {
            let every = points.len().div_ceil(POINTS_MAX).max(1);
            let drawn = points.iter().step_by(every).map(|p| Circle::new(*p, 1.5, colour.mix(0.7).filled()));
            chart.draw_series(drawn).map_err(said)?;
        }
        for (percent, colour) in QUANTILES {
            let line = windows.iter().map(|(n, us)| {
                let ms = quantile(us, percent) as f64 / 1000.0;
                ((*n as f64 + 0.5) * window, ms.clamp(LATENCY.start, LATENCY.end))
            });
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2))).map_err(said)?;
        }
        Ok(())
    })
}

/// Calls per second by how they ended.
///
/// # Errors
/// When the library can't draw it.
pub fn rate(calls: &[&Told<'_>], spans: &[Span], end: f64) -> anyhow::Result<String> {
    let window = (end / WINDOWS).max(1.0);
    let count = (end / window).ceil() as usize + 1;
    let mut counts = [vec![0_u64; count], vec![0; count], vec![0; count]];
    for Told { op, told } in calls.iter().copied() {
        // When the client learned of it: a cluster that stands still shows as a gap.
        let place = (at(told.unwrap_or(op.invoked)) / window) as usize;
        counts[outcome(op).0][place.min(count - 1)] += 1;
    }
    let most = counts.iter().flatten().max().copied().unwrap_or(0).max(1) as f64 / window * 1.05;
    picture(spans, end, 0.0..most, "calls per second", 0.0..most, |chart| {
        for (counts, colour) in counts.iter().zip([OK, FAIL, INFO]) {
            let line = counts.iter().enumerate().map(|(n, c)| ((n as f64 + 0.5) * window, *c as f64 / window));
            chart.draw_series(LineSeries::new(line.filter(|p| p.0 <= end), colour.stroke_width(2))).map_err(said)?;
        }
        Ok(())
    })
}

type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

/// A chart with bands behind it, and lanes below which say what the bands are.
fn picture<Y>(
    spans: &[Span],
    end: f64,
    y: impl plotters::coord::ranged1d::AsRangedCoord<CoordDescType = Y, Value = f64>,
    words: &str,
    height: std::ops::Range<f64>,
    draw: impl FnOnce(&mut Chart<'_, '_, Y>) -> anyhow::Result<()>,
) -> anyhow::Result<String>
where
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let kinds: Vec<Kind> =
        Kind::value_variants().iter().copied().filter(|k| spans.iter().any(|s| s.kind == *k)).collect();
    let lanes = kinds.len() as u32 * LANE;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT + lanes)).into_drawing_area();
        let (above, below) = root.split_vertically(HEIGHT);
        let mut chart = ChartBuilder::on(&above)
            .margin_top(8)
            .margin_right(12)
            .margin_left(MARGIN)
            .x_label_area_size(24)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(0.0..end, y)
            .map_err(said)?;
        let bands = spans.iter().map(|s| {
            let corners = [(s.from, height.start), (s.to.max(s.from + end / 1000.0), height.end)];
            Rectangle::new(corners, colour(s.kind).mix(0.13).filled())
        });
        chart.draw_series(bands).map_err(said)?;
        chart
            .configure_mesh()
            .x_labels(13)
            .x_label_formatter(&|s| format!("{s:.0} s"))
            .y_label_formatter(&|v| if *v < 1.0 && *v > 0.0 { format!("{v:.1}") } else { format!("{v:.0}") })
            .y_desc(words)
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAIL.mix(0.3))
            .label_style((FONT, 13))
            .draw()
            .map_err(said)?;
        draw(&mut chart)?;
        let x = |s: f64| chart.backend_coord(&(s.clamp(0.0, end), height.end)).0;
        lanes_below(&below, &kinds, spans, x)?;
        root.present().map_err(said)?;
    }
    Ok(svg)
}

fn lanes_below(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    kinds: &[Kind],
    spans: &[Span],
    x: impl Fn(f64) -> i32,
) -> anyhow::Result<()> {
    for (kind, lane) in kinds.iter().zip(0..) {
        let top = lane * LANE as i32;
        area.draw(&Text::new(kind.name(), (4, top + 3), (FONT, 12))).map_err(said)?;
        for span in spans.iter().filter(|s| s.kind == *kind) {
            let (left, right) = (x(span.from), x(span.to));
            let corners = [(left, top + 3), (right.max(left + 2), top + LANE as i32 - 4)];
            area.draw(&Rectangle::new(corners, colour(*kind).filled())).map_err(said)?;
        }
    }
    Ok(())
}

/// What the library says of an error is no `Sync` error of its own.
pub(super) fn said(e: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("can't draw: {e}")
}
