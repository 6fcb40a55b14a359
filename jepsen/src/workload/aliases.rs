//! Few aliases, set and cleared by many clients: compare-and-set registers whose values are keys.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use super::register::Registers;
use super::{Context, Load, any_node, create};
use crate::history::Call;
use crate::seed::stream;

/// Aliases in use at a time.
const ALIASES: usize = 3;
/// Keys that they are made to stand for.
const KEYS: usize = 4;

/// What the clients share.
struct Shared {
    aliases: Registers,
    keys: Vec<String>,
}

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let shared = Arc::new(Mutex::new(Shared { aliases: Registers::new(context, ALIASES), keys: vec![] }));
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, shared.clone(), n));
    }
}

async fn client(context: Arc<Context>, load: Load, shared: Arc<Mutex<Shared>>, n: u32) {
    let mut rng = stream(context.seed, "aliases", n.into());
    let mut process = context.process();
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    if (n as usize) < KEYS {
        let Some(key) = create(&context, &mut process, &mut rng).await else { return };
        lock().keys.push(key);
    }
    while !context.nap(load.pause(&mut rng)).await {
        let (alias, key, worn) = {
            let mut shared = lock();
            if shared.keys.is_empty() {
                continue;
            }
            let key = shared.keys[rng.random_range(0..shared.keys.len())].clone();
            let (alias, worn) = shared.aliases.any(&context, &mut rng);
            (alias, key, worn)
        };
        // Old aliases stay on their keys, which bear a limited number: with each new alias comes a new key.
        if worn && let Some(fresh) = create(&context, &mut process, &mut rng).await {
            let mut shared = lock();
            let place = rng.random_range(0..shared.keys.len());
            shared.keys[place] = fresh;
        }
        let node = any_node(&context, &mut rng);
        let (key, call) = choose(&mut rng, alias, &key, &context);
        let _ = context.call(&mut process, node, key, call).await;
    }
}

/// The next call. Setting is likelier than clearing, so that most uses find a key.
fn choose<'k>(rng: &mut StdRng, alias: u64, key: &'k str, context: &Context) -> (Option<&'k str>, Call) {
    match rng.random_range(0..100) {
        0..25 => (None, Call::DescribeAlias { alias }),
        25..55 => (None, Call::EncryptAlias { alias, text: context.number() }),
        55..85 => (Some(key), Call::CreateAlias { alias }),
        _ => (None, Call::DeleteAlias { alias }),
    }
}
