//! Few keys at a time, and many clients that all call them; what they call is another workload's each.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Context, Load, any_node, create_as};
use crate::history::{Answer, Call, Form, Outcome};
use crate::seed::stream;

/// Keys alive at a time.
const KEYS: usize = 4;
/// A key is replaced after so many calls: long enough for histories with depth, short enough for the search.
const CALLS_MAX: u32 = 300;
/// … or so many seconds, so that not too many calls in doubt gather.
const AGE_MAX: u64 = 20;
/// One that is good for nothing any more is called so often yet.
const CALLS_AFTER_END: u32 = 20;

/// What is special about a workload.
#[derive(Clone, Copy)]
pub struct Play {
    pub name: &'static str,
    /// Of the next key.
    pub form: fn(&mut StdRng) -> Form,
    /// Whether there is more to a key after its purge.
    pub outlives_purge: bool,
    /// The next call of a key.
    pub choose: fn(&mut StdRng, &Known, &Context) -> Call,
}

/// What the clients know of a key.
#[derive(Clone, Debug)]
pub struct Known {
    pub key: String,
    /// How it was created: again, it is the same key.
    pub create: Call,
    /// The newest version that was told.
    pub newest: u32,
    /// Texts, each with the version that encrypted it.
    pub texts: Vec<(u64, u32)>,
    /// Numbers of two materials.
    pub materials: [u64; 2],
    since: Instant,
}

impl Known {
    /// One of the texts.
    pub fn text(&self, rng: &mut StdRng) -> Option<(u64, u32)> {
        (!self.texts.is_empty()).then(|| self.texts[rng.random_range(0..self.texts.len())])
    }
}

#[derive(Clone, Default)]
struct Slot {
    known: Option<Known>,
    calls: u32,
    being_replaced: bool,
}

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>, play: Play) {
    let slots = Arc::new(Mutex::new(vec![Slot::default(); KEYS]));
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, slots.clone(), play, n));
    }
}

async fn client(context: Arc<Context>, load: Load, slots: Arc<Mutex<Vec<Slot>>>, play: Play, n: u32) {
    let mut rng = stream(context.seed, play.name, n.into());
    let mut process = context.process();
    let lock = || slots.lock().unwrap_or_else(PoisonError::into_inner);
    while !context.nap(load.pause(&mut rng)).await {
        let place = rng.random_range(0..KEYS);
        let known = {
            let slot = &mut lock()[place];
            slot.calls += 1;
            let worn =
                slot.calls > CALLS_MAX || slot.known.as_ref().is_none_or(|k| k.since.elapsed().as_secs() > AGE_MAX);
            let replace = worn && !slot.being_replaced;
            slot.being_replaced |= replace;
            slot.known.clone().filter(|_| !replace)
        };
        let Some(known) = known else {
            // Whoever found the key worn makes the new one; the others find no key and come again.
            let mine = lock()[place].being_replaced;
            let form = (play.form)(&mut rng);
            if mine && let Some((key, create)) = create_as(&context, &mut process, &mut rng, form).await {
                let (newest, materials) = (1, [context.number(), context.number()]);
                let known = Known { key, create, newest, texts: vec![], materials, since: Instant::now() };
                lock()[place] = Slot { known: Some(known), ..Slot::default() };
            }
            continue;
        };
        let call = (play.choose)(&mut rng, &known, &context);
        let node = any_node(&context, &mut rng);
        let (outcome, _) = context.call(&mut process, node, Some(&known.key), call.clone()).await;
        let slot = &mut lock()[place];
        let Some(now) = slot.known.as_mut().filter(|now| now.key == known.key) else { continue };
        match (&outcome, call.encrypts()) {
            (Outcome::Ok(Answer::Encrypted { version }), Some(text)) => now.texts.push((text, *version)),
            (Outcome::Ok(Answer::Key { version, .. }), _) => now.newest = now.newest.max(*version),
            _ => {}
        }
        let is_destroyed = matches!(&outcome, Outcome::Fail(why) if why == "DESTROYED") && call == Call::Rotate;
        let is_purged = call == Call::Purge && matches!(outcome, Outcome::Ok(_)) && !play.outlives_purge;
        if is_destroyed || is_purged {
            slot.calls = slot.calls.max(CALLS_MAX - CALLS_AFTER_END);
        }
    }
}
