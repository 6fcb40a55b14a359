//! What judging a request costs with 1, 10, 100 and 1000 policies: by the slice that can apply, and by all of them, as Cedar alone
//! does. `cargo bench -p quorate-policy`; figures of one machine in one run, so read the ratios.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use quorate_core::action::Action;
use quorate_core::id::Namespace;
use quorate_policy::{Context, ObjectFacts, Policy, Principal, PrincipalFacts, Request, Resource, Slices};

/// Microseconds that `f` takes: the least of several rounds, since others use the machine too.
fn us(mut f: impl FnMut()) -> f64 {
    let mut round = |times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| f());
        start.elapsed()
    };
    let mut times = 1;
    while round(times) < Duration::from_millis(2) {
        times *= 2;
    }
    let least = (0..20).map(|_| round(times)).min().unwrap_or_default();
    least.as_secs_f64() * 1e6 / f64::from(times)
}

/// One policy for each group, of which the caller is in one; `in_scope` = who it is about is said in the scope, where slices are cut,
/// else in a condition, where they are not.
fn policies(count: usize, in_scope: bool) -> Vec<Policy> {
    let text = |n: usize| {
        let group = format!("principal in Q::Group::\"g{n}\"");
        let (scope, condition) = if in_scope { (group.as_str(), "true") } else { ("principal", group.as_str()) };
        format!(
            "permit({scope}, action in Q::Action::\"CryptoUser\", resource is Q::Object in Q::Namespace::\"1\")
             when {{ {condition} && resource.spec == \"aes-256\" }};"
        )
    };
    let id = |n: usize| format!("p{n}").parse().expect("a name");
    (0..count).map(|n| Policy::parse(id(n), &text(n)).expect("a good policy")).collect()
}

fn main() {
    let groups = std::iter::once("g0".to_owned()).collect();
    let facts = PrincipalFacts { id: "p".into(), namespace: Namespace(1), groups, ..Default::default() };
    let who = Principal::new(&facts).expect("facts");
    let object = ObjectFacts { id: "o".into(), namespace: Namespace(1), spec: "aes-256".into(), ..Default::default() };
    let object = Resource::object(&object).expect("facts");
    let action = Action::Encrypt;
    println!(
        "{:>8} {:>10} {:>10} {:>8} {:>9} {:>9} {:>10}",
        "policies", "sliced us", "whole us", "ratio", "cut us", "put us", "parse us"
    );
    for count in [1, 10, 100, 1000] {
        let (sliced, whole) = (Slices::of(policies(count, true)), Slices::of(policies(count, false)));
        let (slice, all) = (sliced.slice(&who, action), whole.slice(&who, action));
        assert_eq!((slice.len(), all.len()), (1, count));
        let request = Request::new(&who, action, &object, &Context::default(), slice.reads()).expect("facts");
        assert_eq!(slice.decide(&request), all.decide(&request), "the same verdict");
        let by_slice = us(|| drop(black_box(slice.decide(&request))));
        let by_all = us(|| drop(black_box(all.decide(&request))));
        let cut = us(|| drop(black_box(whole.slice(&who, action))));
        let (mut changing, one) = (sliced.clone(), policies(1, true).remove(0));
        let put = us(|| changing.put(one.clone()));
        let parse = us(|| drop(black_box(policies(1, true))));
        println!(
            "{count:>8} {by_slice:>10.2} {by_all:>10.2} {:>8.1} {cut:>9.1} {put:>9.2} {parse:>10.0}",
            by_all / by_slice
        );
    }
    let ask = us(|| {
        drop(black_box(Request::new(&who, action, &object, &Context::default(), &quorate_policy::Reads::default())))
    });
    let all =
        us(|| drop(black_box(Request::new(&who, action, &object, &Context::default(), &quorate_policy::Reads::all()))));
    let entities = us(|| drop(black_box((Principal::new(&facts), Resource::namespace(Namespace(1))))));
    println!(
        "request without context {ask:.2} us, with door alone {all:.2} us; principal and namespace {entities:.2} us"
    );
}
