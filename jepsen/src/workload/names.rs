//! Few names for life that many clients create keys by, and purge those that have them: each has one key at a time.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use tokio::task::JoinSet;

use super::register::Registers;
use super::{Context, Load, any_node};
use crate::history::{Call, Outcome};
use crate::seed::stream;

/// Names in use at a time.
const NAMES: usize = 3;

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let names = Arc::new(Mutex::new(Registers::new(context, NAMES)));
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, names.clone(), n));
    }
}

async fn client(context: Arc<Context>, load: Load, names: Arc<Mutex<Registers>>, n: u32) {
    let mut rng = stream(context.seed, "names", n.into());
    let mut process = context.process();
    // What ended in doubt is asked again with its token, at another node, as a careful client does.
    let mut again = None;
    while !context.nap(load.pause(&mut rng)).await {
        let (name, _) = names.lock().unwrap_or_else(PoisonError::into_inner).any(&context, &mut rng);
        let call = again.take().unwrap_or_else(|| match rng.random_range(0..100) {
            0..35 => Call::CreateNamed { name, token: context.number() },
            35..65 => Call::DescribeNamed { name },
            65..82 => Call::ScheduleNamed { name },
            _ => Call::PurgeNamed { name },
        });
        let node = any_node(&context, &mut rng);
        let (outcome, _) = context.call(&mut process, node, None, call.clone()).await;
        if matches!((&outcome, &call), (Outcome::Info(_), Call::CreateNamed { .. })) {
            again = Some(call);
        }
    }
}
