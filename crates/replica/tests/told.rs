//! What an operator reads in the log when members go and come: each event once, by name.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Cluster, PATIENCE};
use tracing_subscriber::fmt::MakeWriter;

/// Everything that is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn with(&self, what: &str) -> Vec<String> {
        let all = String::from_utf8(self.0.lock().expect("lock").clone()).expect("text");
        all.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
    }

    async fn until(&self, what: &str, count: usize) {
        let there = async {
            while self.with(what).len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("not told {count} times: {what}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_goes_and_comes_back_is_told_by_the_others_once() {
    let lines = Lines::default();
    tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).init();
    let mut cluster = Cluster::voters(3).await;
    cluster.write(0, "a", b"1").await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let gone = (leader + 1) % 3;
    let name = cluster.sites[gone].name.clone();
    cluster.nodes[gone].shutdown().await;
    lines.until("a member does not answer", 2).await;
    cluster.write(leader, "b", b"2").await;
    cluster.nodes[gone] = cluster.sites[gone].open().await;
    lines.until("a member answers again", 2).await;
    cluster.stop().await;

    let of_it = |what: &str| lines.with(what).into_iter().filter(|line| line.contains(&format!("peer={name}"))).count();
    assert_eq!((of_it("does not answer"), of_it("answers again")), (2, 2));
    let leads = lines.with(" leads, in term ");
    assert!(leads.iter().any(|line| line.contains(&format!("{} leads", cluster.sites[leader].name))), "{leads:?}");
    assert_eq!(lines.with("NodeId("), [""; 0]);
}
