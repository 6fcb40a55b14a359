//! A page that a person reads: the verdict, the calls, and a picture of latency over time with the faults behind it.

use std::fmt::Write;

use crate::history::{History, Outcome};
use crate::run::Results;

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 320.0;
/// Points drawn at most; of more, every n-th.
const POINTS_MAX: usize = 6000;

/// The page, by itself: no script, nothing loaded from elsewhere.
///
/// # Errors
/// A history that no harness writes.
pub fn html(history: &History, results: &Results) -> anyhow::Result<String> {
    let test = &results.test;
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>{w}</title><style>body{{font:15px sans-serif;margin:2em;max-width:75em}}\
         table{{border-collapse:collapse}}td,th{{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}}\
         pre{{white-space:pre-wrap;margin:0}}.valid{{color:#080}}.invalid{{color:#c00;font-weight:bold}}.unknown,.uncovered{{color:#b60}}</style>\
         <h1>{w}: <span class={v}>{v}</span></h1><p>{n} nodes, {s} s of faults ({f}), seed {seed}, {ver}.</p>",
        w = escape(&test.workload),
        v = name(results.verdict),
        n = test.nodes,
        s = test.seconds,
        f = escape(&test.nemeses.join(", ")),
        seed = test.seed,
        ver = escape(&test.version),
    );
    page.push_str("<table><tr><th>checker<th>verdict<th>judged<th>violations<th>details");
    for finding in &results.findings {
        let (v, c) = (name(finding.verdict), escape(&finding.checker));
        let details = escape(&finding.details.join("\n"));
        write!(
            page,
            "<tr><td>{c}<td class={v}>{v}<td>{}<td>{}<td><pre>{details}</pre>",
            finding.checked, finding.violations
        )?;
    }
    page.push_str(
        "</table><h2>Latency over time</h2><p>Each point is a call: <span style=color:#27a>ok</span>, \
                   <span style=color:#aaa>refused</span>, <span style=color:#c22>in doubt</span>. Bands are faults: \
                   <span style=background:#fdd>partition</span> <span style=background:#fdf>packet, stream</span> <span style=background:#ddf>kill</span> \
                   <span style=background:#ffd>pause</span> <span style=background:#dfd>power</span>. Latency is on a logarithmic scale, 0.1 ms to 10 s.</p>",
    );
    page.push_str(&picture(history)?);
    page.push_str("<h2>Calls</h2><table><tr><th>call<th>ended");
    for (call, ends) in &results.calls {
        let ends: Vec<String> = ends.iter().map(|(end, n)| format!("{end}: {n}")).collect();
        write!(page, "<tr><td>{}<td>{}", escape(call), escape(&ends.join(", ")))?;
    }
    page.push_str("</table><h2>Faults</h2><table>");
    for (event, f, value) in history.nemesis() {
        write!(page, "<tr><td>{:.2} s<td>{}<td>{}", event.time as f64 / 1e9, escape(f), escape(value))?;
    }
    write!(
        page,
        "</table><p>After the loss of a leader a change was acknowledged after (ms): {:?}</p>",
        results.failover_ms
    )?;
    Ok(page)
}

fn picture(history: &History) -> anyhow::Result<String> {
    let end = history.events.last().map_or(1, |e| e.time).max(1) as f64;
    let x = |ns: u64| ns as f64 / end * WIDTH;
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {HEIGHT}' width=100% style='border:1px solid #ccc'>");
    let mut band = |from: u64, to: u64, colour: &str, words: &str| {
        let (left, width) = (x(from), (x(to) - x(from)).max(1.0));
        let words = escape(words);
        write!(
            svg,
            "<rect x={left:.1} y=0 width={width:.1} height={HEIGHT} fill='{colour}' opacity=.6><title>{words}</title></rect>"
        )
    };
    // A band goes from an event to the one that ends it.
    for (begins, ends, colour) in [
        ("partition", "heal-partition", "#fdd"),
        ("packet", "heal-packet", "#fdf"),
        ("stream", "heal-stream", "#fdf"),
        ("kill-took-effect", "restart", "#ddf"),
        ("pause-took-effect", "resume", "#ffd"),
        ("power-took-effect", "restart-power", "#dfd"),
    ] {
        let mut open: Option<(u64, &str)> = None;
        for (event, f, value) in history.nemesis() {
            if f == begins {
                open = Some((event.time, value));
            } else if f == ends
                && let Some((from, words)) = open.take()
            {
                band(from, event.time, colour, words)?;
            }
        }
    }
    let ops = history.ops()?;
    for op in ops.iter().step_by((ops.len() / POINTS_MAX).max(1)) {
        let colour = match op.outcome {
            Outcome::Ok(_) => "#27a",
            Outcome::Fail(_) => "#aaa",
            Outcome::Info(_) => "#c22",
        };
        let ms = op.ended.saturating_sub(op.invoked) as f64 / 1e6;
        let y = HEIGHT - ((ms.clamp(0.1, 10_000.0) / 0.1).log10() / 5.0 * HEIGHT);
        write!(svg, "<circle cx={:.1} cy={y:.1} r=1.5 fill='{colour}'/>", x(op.invoked))?;
    }
    svg.push_str("</svg>");
    Ok(svg)
}

fn name(verdict: crate::checker::Verdict) -> &'static str {
    use crate::checker::Verdict as V;
    match verdict {
        V::Valid => "valid",
        V::Uncovered => "uncovered",
        V::Unknown => "unknown",
        V::Invalid => "invalid",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}
