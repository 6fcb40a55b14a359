//! A single node's folder is put back under its token, which knows better.

#[path = "../src/testing/node.rs"]
mod support;

use std::path::Path;

use quorate_service::seal::Health;
use support::*;

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let to = to.join(file.strip_prefix(from).expect("within"));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        std::fs::copy(&file, to).expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_from_one_start_earlier_is_damaged_and_says_why() {
    let rig = Rig::new();
    let (n1, shares) = rig.unsealed().await;
    n1.shutdown().await;
    drop(n1);
    let (data, old) = (rig.data_dir("n1"), rig.data_dir("old"));
    copy(&data, &old);

    // Healthy starts after it, which nothing is held against.
    for _ in 0..2 {
        let n1 = rig.node("n1").await;
        unseal(&n1, &shares[..2]).await;
        assert!(n1.status(&admin()).expect("status").nodes[0].problem.is_empty());
        n1.shutdown().await;
    }

    std::fs::remove_dir_all(&data).expect("removed");
    copy(&old, &data);
    let n1 = rig.node("n1").await;
    within(30, n1.wait_for(Health::Damaged)).await;
    let told = n1.status(&admin()).expect("status").nodes[0].problem.clone();
    assert!(told.contains("this is start 2 of this node") && told.contains("older copy"), "{told}");
    assert!(submit(&n1, &shares[0]).await.is_err());
}
