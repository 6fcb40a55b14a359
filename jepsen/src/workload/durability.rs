//! Many keys, none of which may be lost.

use std::sync::Arc;

use rand::RngExt;
use tokio::task::JoinSet;

use super::{Context, Load, any_node, create};
use crate::history::Call;
use crate::seed::stream;

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, n));
    }
}

/// A key, a ciphertext of its first version, sometimes a second version and a ciphertext of that.
async fn client(context: Arc<Context>, load: Load, n: u32) {
    let mut rng = stream(context.seed, "durability", n.into());
    let mut process = context.process();
    while let Some(key) = create(&context, &mut process, &mut rng).await {
        let rotations = rng.random_range(0..3_u32);
        for round in 0..=rotations {
            let node = any_node(&context, &mut rng);
            if round > 0 {
                let _ = context.call(&mut process, node, Some(&key), Call::Rotate).await;
            }
            let node = any_node(&context, &mut rng);
            let _ = context.call(&mut process, node, Some(&key), Call::Encrypt { text: context.number() }).await;
            if context.nap(load.pause(&mut rng)).await {
                return;
            }
        }
    }
}
