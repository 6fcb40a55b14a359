//! Few keys, many clients, every call.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Context, Load, any_node, create};
use crate::history::{Call, Outcome};
use crate::seed::stream;

/// Keys alive at a time.
const KEYS: usize = 4;
/// A key is replaced after so many calls: long enough for histories with depth, short enough for the search.
const CALLS_MAX: u32 = 300;
/// … or so many seconds, so that not too many calls in doubt gather.
const AGE_MAX: u64 = 20;

#[derive(Clone, Default)]
struct Slot {
    key: Option<(String, Instant)>,
    calls: u32,
    texts: Vec<u64>,
    being_replaced: bool,
}

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let slots = Arc::new(Mutex::new(vec![Slot::default(); KEYS]));
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, slots.clone(), n));
    }
}

async fn client(context: Arc<Context>, load: Load, slots: Arc<Mutex<Vec<Slot>>>, n: u32) {
    let mut rng = stream(context.seed, "lifecycle", n.into());
    let mut process = context.process();
    let lock = || slots.lock().unwrap_or_else(PoisonError::into_inner);
    while !context.nap(load.pause(&mut rng)).await {
        let place = rng.random_range(0..KEYS);
        let (key, text) = {
            let slot = &mut lock()[place];
            slot.calls += 1;
            let worn = slot.calls > CALLS_MAX || slot.key.as_ref().is_none_or(|(_, t)| t.elapsed().as_secs() > AGE_MAX);
            let replace = worn && !slot.being_replaced;
            slot.being_replaced |= replace;
            let text = (!slot.texts.is_empty()).then(|| slot.texts[rng.random_range(0..slot.texts.len())]);
            (slot.key.clone().filter(|_| !replace), text)
        };
        let Some((key, _)) = key else {
            // Whoever found the key worn makes the new one; the others find no key and come again.
            let mine = lock()[place].being_replaced;
            if mine && let Some(id) = create(&context, &mut process, &mut rng).await {
                lock()[place] = Slot { key: Some((id, Instant::now())), ..Slot::default() };
            }
            continue;
        };
        let call = choose(&mut rng, text, &context);
        let node = any_node(&context, &mut rng);
        let (outcome, _) = context.call(&mut process, node, Some(&key), call.clone()).await;
        if let (Call::Encrypt { text }, Outcome::Ok(_)) = (call, outcome) {
            let slot = &mut lock()[place];
            if slot.key.as_ref().is_some_and(|(id, _)| *id == key) {
                slot.texts.push(text);
            }
        }
    }
}

/// The next call. Enabling is likelier than disabling, so that most uses are allowed.
fn choose(rng: &mut StdRng, text: Option<u64>, context: &Context) -> Call {
    match (rng.random_range(0..100), text) {
        (0..20, _) => Call::Describe,
        (20..40, Some(text)) => Call::Decrypt { text },
        (40..62, _) => Call::Enable,
        (62..72, _) => Call::Disable,
        (72..80, _) => Call::Rotate,
        (80..82, _) => Call::Schedule,
        (82..90, _) => Call::Cancel,
        _ => Call::Encrypt { text: context.number() },
    }
}
