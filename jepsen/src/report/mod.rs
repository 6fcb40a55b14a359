//! A page that a person reads, by itself: the verdict in words, what was promised, what was done to the cluster, pictures, details.

mod charts;
mod page;
mod spans;
mod timeline;

use std::time::Duration;

use crate::checker::linear;
use crate::checker::model::Key;
use crate::history::{History, Op};
use crate::run::Results;
use charts::Told;
pub(crate) use page::{STYLE, escape};
use timeline::Timeline;

/// The orders that were tried of an object whose calls no order explains.
const ORDERS: &str = "linear.html";
/// The longest search for them; what was found by then is shown.
const ORDERS_TIME_MAX: Duration = Duration::from_secs(20);

/// The calls of one object until the one that no order explains, with the longest orders that were found.
fn orders(timeline: &Timeline<'_>, ops: &[Op]) -> Option<String> {
    let culprit = timeline.culprit()?;
    let of_key: Vec<&Op> = ops.iter().filter(|o| o.key == culprit.key && o.invoked <= culprit.ended).collect();
    linear::orders::<Key>(&of_key, ORDERS_TIME_MAX)
}

/// The files of a report, by name: `report.html`, in which everything is, and the pictures by themselves.
///
/// # Errors
/// A history that no harness writes, or a picture that can't be drawn.
pub fn files(history: &History, results: &Results) -> anyhow::Result<Vec<(String, String)>> {
    let ops = history.ops()?;
    let calls = Told::all(history, &ops);
    let spans = spans::spans(history);
    // Without what follows the power-off: the last reads are a rush of their own.
    let off = history.nemesis().find(|(_, f, _)| *f == "power-off").map_or(u64::MAX, |(event, ..)| event.time);
    let load: Vec<&Told<'_>> = calls.iter().filter(|c| !c.op.last && c.op.invoked < off).collect();
    let end = load.iter().map(|c| c.told.unwrap_or(c.op.invoked)).max().unwrap_or(0) as f64 / 1e9;
    let end = (end * 1.01).max(1.0);
    let latency = charts::latency(&load, &spans, end)?;
    let rate = charts::rate(&load, &spans, end)?;
    let timelines = Timeline::all(&results.findings, &calls)
        .iter()
        .map(|t| Ok((t.checker.clone(), t.svg(&spans)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let linear = Timeline::all(&results.findings, &calls).into_iter().find(|t| t.checker == "linear");
    let orders = linear.and_then(|t| orders(&t, &ops));
    let html = page::html(history, results, &spans, [&latency, &rate], &timelines, orders.is_some())?;
    let mut files = vec![("report.html".into(), html), ("latency.svg".into(), latency), ("rate.svg".into(), rate)];
    files.extend(timelines.into_iter().map(|(checker, svg)| (format!("timeline-{checker}.svg"), svg)));
    files.extend(orders.map(|html| (ORDERS.into(), html)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checker::{Evidence, Verdict, check, overall};
    use crate::history::from_text;
    use crate::run::Test;

    /// A key is disabled while a node is down, and then used; a hostile name is in a reason.
    const BAD: &str = r#"
        {:index 0, :time 1000000, :process 0, :type :invoke, :f :create, :key nil, :node 1, :value {:token 1}}
        {:index 1, :time 2000000, :process 0, :type :ok, :f :create, :key "k", :node 1, :value {:token 1, :state :enabled, :version 1}}
        {:index 2, :time 3000000, :process :nemesis, :type :info, :f :kill-took-effect, :value "n1 (leader)"}
        {:index 3, :time 4000000, :process 1, :type :invoke, :f :disable, :key "k", :node 2, :value {}}
        {:index 4, :time 9000000, :process 1, :type :ok, :f :disable, :key "k", :node 2, :value {:state :disabled, :version 1}}
        {:index 5, :time 10000000, :process 2, :type :invoke, :f :rotate, :key "k", :node 2, :value {}}
        {:index 6, :time 11000000, :process 2, :type :info, :f :rotate, :key "k", :node 2, :value {}, :error "<script>"}
        {:index 7, :time 12000000, :process 3, :type :invoke, :f :encrypt, :key "k", :node 3, :value {:text 9}}
        {:index 8, :time 13000000, :process 3, :type :ok, :f :encrypt, :key "k", :node 3, :value {:text 9, :version 1}}
        {:index 9, :time 14000000, :process :nemesis, :type :info, :f :restart, :value "n1"}
    "#;

    fn report(text: &str) -> (Verdict, Vec<(String, String)>) {
        let history = from_text(text).unwrap();
        let findings = check(&history, &Evidence::default(), Duration::from_secs(60)).unwrap();
        let test = Test::sample();
        let results = Results {
            verdict: overall(&findings),
            test,
            findings,
            calls: [("rotate".to_owned(), [("info <script>".to_owned(), 1)].into())].into(),
            faults: [("kill".to_owned(), 1)].into(),
            fault_seconds: 1.0,
            races: 1,
            failover_ms: [("kill".to_owned(), vec![6])].into(),
        };
        (results.verdict, files(&history, &results).unwrap())
    }

    #[test]
    fn a_broken_promise_is_shown_with_its_culprit_and_what_it_contradicts() {
        let (verdict, files) = report(BAD);
        assert_eq!(verdict, Verdict::Invalid);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["report.html", "latency.svg", "rate.svg", "timeline-revocation.svg", "timeline-linear.svg", ORDERS]
        );
        let timeline = &files[3].1;
        for row in ["▶ n3 · process 3 · encrypt text 9", "• n2 · process 1 · disable", "n2 · process 2 · rotate"]
        {
            assert!(timeline.contains(row), "{row}: {timeline}");
        }
        assert!(timeline.contains("kill: n1 (leader)") && timeline.matches('▶').count() == 1);
        let page = &files[0].1;
        assert!(page.contains("INVALID") && page.contains("A promise was broken, 2 times: revocation, linear."));
        assert!(page.contains("href=linear.html") && page.matches("<svg").count() == 4);
        assert!(!page.contains("<script"), "what a node said is text");
        let links: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..at + 26]).collect();
        assert!(links.iter().all(|l| *l == "http://www.w3.org/2000/svg"), "nothing is loaded: {links:?}");
    }

    #[test]
    fn calls_about_no_key_are_drawn_too() {
        let sealed = r#"
            {:index 0, :time 1000000, :process 0, :type :invoke, :f :seal, :key nil, :node 1, :value {}}
            {:index 1, :time 2000000, :process 0, :type :ok, :f :seal, :key nil, :node 1, :value {}}
            {:index 2, :time 3000000, :process 1, :type :invoke, :f :encrypt, :key nil, :node 1, :value {:text 9}}
            {:index 3, :time 4000000, :process 1, :type :ok, :f :encrypt, :key nil, :node 1, :value {:text 9, :version 1}}
        "#;
        let (verdict, files) = report(sealed);
        assert_eq!(verdict, Verdict::Invalid);
        let timeline = files.iter().find(|(name, _)| name == "timeline-sealed.svg").expect("a picture");
        assert!(timeline.1.contains("▶ n1 · process 1 · encrypt text 9"), "{}", timeline.1);
    }

    #[test]
    fn a_history_of_nothing_has_a_report_too() {
        let (verdict, files) = report("");
        assert_eq!((verdict, files.len()), (Verdict::Valid, 3));
        assert!(!files[0].1.contains("What contradicts itself"));
    }
}
