//! The page: no script, nothing loaded from elsewhere.

use std::fmt::Write;

use clap::ValueEnum;
use plotters::style::RGBColor;

use super::charts::{FAIL, INFO, OK, QUANTILES, colour};
use super::spans::Span;
use crate::checker::Verdict;
use crate::history::History;
use crate::ledger::quantile;
use crate::nemesis::Kind;
use crate::run::Results;
use crate::workload::Workload;

/// What each checker holds the cluster to, in words.
const PROMISES: [(&str, &str); 15] = [
    (
        "durability",
        "Nothing that was acknowledged is lost: every key, version and ciphertext is there in the end, on every node.",
    ),
    ("revocation", "From the moment a disable or scheduled deletion is acknowledged, no node uses the key."),
    (
        "linear",
        "All nodes behave like one: some order of the calls, each between its beginning and its end, explains every answer.",
    ),
    (
        "aliases",
        "An alias stands for one key at a time: some order of the calls explains every answer, and so does every use by it.",
    ),
    ("metadata", "What is known about a key and never changes stays as it is, on every node."),
    ("ids", "No id is given twice, and one token never makes two keys."),
    ("sealed", "A sealed node uses no key."),
    ("ceremony", "No wrong share is taken, and fewer shares than it takes open nothing."),
    ("membership", "A removed member answers nothing about a key any more."),
    ("digests", "Nodes that have applied the same log hold the same state."),
    (
        "secrets",
        "No secret and no name is readable in what a node writes or sends, nor in its memory once it is sealed.",
    ),
    ("logs", "No node panics, ends by itself, or reports damage."),
    ("answers", "No node says that quorate itself is at fault."),
    ("recovery", "Once every fault is healed, the cluster comes back; also after all nodes lost power at once."),
    ("coverage", "Not a promise, but the condition of a proof: the faults and races that were demanded happened."),
];

/// Of every page, light and dark.
pub(crate) const STYLE: &str = "
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1.5em;color:#222;background:#fff}
h1{margin-bottom:.2em}h2{margin-top:2em}
table{border-collapse:collapse;margin:.5em 0}
td,th{padding:.25em .9em .25em 0;text-align:left;border-bottom:1px solid #8884;vertical-align:top}
td.n,th.n{text-align:right}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3em 0;font-size:13px}
.lead{font-size:1.15em}
.valid{color:#1b7f3b}.invalid{color:#d62728;font-weight:bold}.unknown,.uncovered{color:#b36b00}
.key{white-space:nowrap;margin-right:1em}.key i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.3em}
figure{margin:1em 0;overflow-x:auto}svg{width:100%;height:auto;min-width:50em}
svg [fill='#000000']{fill:currentColor}svg [stroke='#000000']{stroke:currentColor}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}.valid{color:#4cc76f}.invalid{color:#ff6b6b}.unknown,.uncovered{color:#f0a840}a{color:#8ab4f8}}
";

/// The whole page; `pictures` are latency and rate, `timelines` by checker; `orders` whether `linear.html` lies beside it.
pub fn html(
    history: &History,
    results: &Results,
    spans: &[Span],
    pictures: [&str; 2],
    timelines: &[(String, String)],
    orders: bool,
) -> anyhow::Result<String> {
    let mut page = String::new();
    let p = &mut page;
    let test = &results.test;
    let title = escape(&format!("{} on {} nodes: {}", test.workload, test.nodes, results.verdict.name()));
    write!(
        p,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{title}</title><style>{STYLE}</style>"
    )?;
    let (class, word) = (results.verdict.name(), results.verdict.name().to_uppercase());
    write!(p, "<h1><span class={class}>{word}</span></h1><p class=lead>{}</p>", escape(&verdict(results)))?;
    write!(p, "<p>{}</p>", escape(&summary(results)))?;

    p.push_str("<h2>What was promised, and what was found</h2><table><tr><th>checker<th>promise<th>verdict<th class=n>judged<th class=n>violations");
    for finding in &results.findings {
        let promise = PROMISES.iter().find(|(name, _)| *name == finding.checker).map_or("", |(_, promise)| promise);
        let (name, verdict) = (escape(&finding.checker), finding.verdict.name());
        let (checked, violations) = (finding.checked, finding.violations);
        write!(
            p,
            "<tr><td>{name}<td>{promise}<td class={verdict}>{verdict}<td class=n>{checked}<td class=n>{violations}"
        )?;
    }
    p.push_str("</table>");
    for (checker, svg) in timelines {
        write!(
            p,
            "<h2>What contradicts itself ({})</h2><p>Each row is a call, in the order in which they began: who asked which node, \
             from when to when, and what came back. The call marked <span class=invalid>▶</span> can't have been answered so if the \
             promise holds; those marked • are why; the others changed the same key meanwhile.</p>{}",
            escape(checker),
            figure(svg, "The calls that contradict each other, over time")
        )?;
    }
    if orders {
        p.push_str("<p><a href=linear.html>linear.html</a> lets you step through the orders that were tried.</p>");
    }
    p.push_str("<h2>What was done to the cluster</h2>");
    faults(p, results, spans)?;
    p.push_str("<h2>What clients asked, and how it ended</h2>");
    calls(p, results)?;

    p.push_str("<h2>Latency over time</h2><p>Each point is a call at the time it began: ");
    [("succeeded", OK), ("refused", FAIL), ("in doubt", INFO)].iter().for_each(|(w, c)| key(p, w, *c));
    p.push_str("Lines are quantiles of those that succeeded: ");
    QUANTILES.iter().for_each(|(q, c)| key(p, &format!("{q} %"), *c));
    p.push_str("Bands are faults, told apart below the picture. The last reads, after everything is healed, are not in the pictures.</p>");
    p.push_str(&figure(pictures[0], "Latency of calls over time, with faults"));
    p.push_str("<h2>Rate over time</h2><p>Calls per second, by how they ended: ");
    [("succeeded", OK), ("refused", FAIL), ("in doubt", INFO)].iter().for_each(|(w, c)| key(p, w, *c));
    p.push_str("</p>");
    p.push_str(&figure(pictures[1], "Calls per second over time, with faults"));

    if results.findings.iter().any(|f| !f.details.is_empty()) {
        p.push_str("<h2>What the checkers say</h2>");
    }
    for finding in results.findings.iter().filter(|f| !f.details.is_empty()) {
        let (name, verdict) = (escape(&finding.checker), finding.verdict.name());
        write!(p, "<h3>{name}: <span class={verdict}>{verdict}</span></h3>")?;
        for detail in &finding.details {
            write!(p, "<pre>{}</pre>", escape(detail))?;
        }
    }

    p.push_str("<h2>Every event</h2><details><summary>What the nemesis did, in order</summary><table>");
    for (event, f, value) in history.nemesis() {
        write!(p, "<tr><td class=n>{:.2} s<td>{}<td>{}", event.time as f64 / 1e9, escape(f), escape(value))?;
    }
    write!(
        p,
        "</table></details><h2>Do it again</h2><p><code>jepsen run {}</code>, or <code>jepsen repro</code> with this folder. The \
         seed fixes which calls and faults are chosen, not how real processes interleave them. <code>jepsen check</code> judges the \
         stored history once more; <code>history.edn</code> beside this page is the evidence, and Jepsen's own tools read it.</p></html>",
        escape(&test.args().join(" "))
    )?;
    Ok(page)
}

/// The verdict, in a sentence.
fn verdict(results: &Results) -> String {
    let of = |verdict: Verdict| -> String {
        let findings = results.findings.iter().filter(|f| f.verdict == verdict);
        findings.map(|f| f.checker.clone()).collect::<Vec<_>>().join(", ")
    };
    match results.verdict {
        Verdict::Valid => {
            "Nothing that clients saw contradicts a promise. It is no proof: it holds for this history.".into()
        }
        Verdict::Uncovered => {
            "Nothing contradicts a promise, but not everything that was demanded happened: this run proves nothing."
                .into()
        }
        Verdict::Unknown => format!("It could not be decided: {}.", of(Verdict::Unknown)),
        Verdict::Invalid => {
            let violations: u64 = results.findings.iter().map(|f| f.violations).sum();
            format!("A promise was broken, {violations} times: {}.", of(Verdict::Invalid))
        }
    }
}

fn summary(results: &Results) -> String {
    let test = &results.test;
    let calls: u64 = results.calls.values().flat_map(|ends| ends.values()).sum();
    let faults: u64 = results.faults.values().sum();
    let does = help::<Workload>(&test.workload);
    format!(
        "quorate {} on {} nodes, for {} s with {faults} faults; {calls} calls by {} clients; seed {}. Workload {}: {does}.",
        test.version, test.nodes, test.seconds, test.clients, test.seed, test.workload
    )
}

fn faults(p: &mut String, results: &Results, spans: &[Span]) -> anyhow::Result<()> {
    if results.test.nemeses.is_empty() {
        p.push_str("<p>Nothing: no fault was asked for.</p>");
        return Ok(());
    }
    p.push_str("<table><tr><th>fault<th>what happens<th class=n>took effect<th class=n>seconds in all");
    for kind in Kind::value_variants().iter().filter(|k| results.test.nemeses.iter().any(|n| n == k.name())) {
        let seconds: f64 = spans.iter().filter(|s| s.kind == *kind).map(|s| s.to - s.from).sum();
        let count = results.faults.get(kind.name()).copied().unwrap_or(0);
        p.push_str("<tr><td>");
        key(p, kind.name(), colour(*kind));
        write!(p, "<td>{}<td class=n>{count}<td class=n>{seconds:.1}", escape(&help::<Kind>(kind.name())))?;
    }
    p.push_str("</table>");
    if results.failover_ms.is_empty() {
        return Ok(());
    }
    p.push_str("<p>After the loss of a leader, until a change was acknowledged that was asked for afterwards (the clients' own deadlines, and other faults at the same time, are in it):</p><table><tr><th>lost by<th class=n>events<th class=n>median<th class=n>longest");
    for (cause, times) in &results.failover_ms {
        let (median, longest) = (quantile(times, 50), times.last().copied().unwrap_or(0));
        write!(
            p,
            "<tr><td>{}<td class=n>{}<td class=n>{median} ms<td class=n>{longest} ms",
            escape(cause),
            times.len()
        )?;
    }
    p.push_str("</table>");
    Ok(())
}

fn calls(p: &mut String, results: &Results) -> anyhow::Result<()> {
    p.push_str("<table><tr><th>call<th class=n>succeeded<th class=n>refused<th class=n>in doubt<th>reasons");
    for (call, ends) in &results.calls {
        let sum = |kind: &str| -> u64 { ends.iter().filter(|(end, _)| end.starts_with(kind)).map(|(_, n)| n).sum() };
        let reasons = ends.iter().filter_map(|(end, n)| Some(format!("{} {n}", end.split_once(' ')?.1)));
        let reasons = escape(&reasons.collect::<Vec<_>>().join(", "));
        let (ok, fail, info) = (sum("ok"), sum("fail"), sum("info"));
        write!(p, "<tr><td>{}<td class=n>{ok}<td class=n>{fail}<td class=n>{info}<td>{reasons}", escape(call))?;
    }
    p.push_str("</table>");
    Ok(())
}

/// What the command's help says of a value.
fn help<T: ValueEnum>(name: &str) -> String {
    let value = T::from_str(name, false).ok().and_then(|v| v.to_possible_value());
    value.and_then(|v| v.get_help().map(ToString::to_string)).unwrap_or_default()
}

fn figure(svg: &str, words: &str) -> String {
    let svg = svg.replacen("<svg ", &format!("<svg role=img aria-label='{}' ", escape(words)), 1);
    format!("<figure>{svg}</figure>")
}

fn key(p: &mut String, words: &str, RGBColor(r, g, b): RGBColor) {
    let words = escape(words);
    p.push_str(&format!("<span class=key><i style='background:#{r:02x}{g:02x}{b:02x}'></i>{words}</span>"));
}

/// As text in a page.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&quot;")
}
