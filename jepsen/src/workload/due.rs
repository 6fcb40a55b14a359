//! Keys whose deletion falls due while faults happen.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;

use super::{Context, Load, any_node, create};
use crate::history::{Call, Outcome};
use crate::seed::stream;

/// A deletion waits so long, seconds: longer than a clock takes that leaps between two ticks, short enough to fall due.
const WAIT: std::ops::Range<u32> = 3..40;
/// A key is looked at so often at most, with a pause of so long; then the next key is made.
const LOOKS_MAX: u32 = 12;
const PAUSE: Duration = Duration::from_millis(500);

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, n));
    }
}

/// A key is used and scheduled; one in three is spared while it waits; the others are looked at until they are gone.
async fn client(context: Arc<Context>, load: Load, n: u32) {
    let mut rng = stream(context.seed, "due", n.into());
    let mut process = context.process();
    while let Some(key) = create(&context, &mut process, &mut rng).await {
        let node = any_node(&context, &mut rng);
        let _ = context.call(&mut process, node, Some(&key), Call::Encrypt { text: context.number() }).await;
        let (node, seconds) = (any_node(&context, &mut rng), rng.random_range(WAIT));
        let scheduled = context.call(&mut process, node, Some(&key), Call::ScheduleSoon { seconds }).await.0;
        let spared_after = rng.random_ratio(1, 3).then(|| rng.random_range(0..LOOKS_MAX / 2));
        for look in 0..LOOKS_MAX {
            if context.nap(PAUSE + load.pause(&mut rng)).await {
                return;
            }
            let node = any_node(&context, &mut rng);
            // In doubt, nobody knows what there is to spare.
            if spared_after == Some(look) && matches!(scheduled, Outcome::Ok(_)) {
                let _ = context.call(&mut process, node, Some(&key), Call::Cancel).await;
            }
            let found = context.call(&mut process, node, Some(&key), Call::Describe).await.0;
            if matches!(found, Outcome::Fail(why) if why == "NOT_FOUND") {
                break;
            }
        }
    }
}
