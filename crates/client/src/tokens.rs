//! Client tokens: UUIDv7s (RFC 9562), which make a retry recognisable. Nodes take only those whose time is about theirs, so
//! they are made by the nodes' clock, as far as it was ever told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::client::Client;
use crate::error::ClientError;

/// What must be added to this machine's clock to have the nodes', in milliseconds; 0 until a node has told otherwise.
#[derive(Default)]
pub(crate) struct TokenClock(AtomicI64);

impl TokenClock {
    fn own_ms() -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the application's clock; it runs outside the node")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as i64)
    }

    fn token(&self) -> Result<Bytes, ClientError> {
        let ms = Self::own_ms().saturating_add(self.0.load(Ordering::Relaxed));
        let mut random = [0; 10];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| ClientError::config("the operating system gives no random bytes"))?;
        let token = uuid::Builder::from_unix_timestamp_millis(ms.max(0) as u64, &random).into_uuid();
        Ok(Bytes::copy_from_slice(token.as_bytes()))
    }

    fn set(&self, node_ms: u64) {
        self.0.store((node_ms as i64).saturating_sub(Self::own_ms()), Ordering::Relaxed);
    }
}

impl Client {
    /// Makes a call with the request's own token, or else with a fresh one: with another if a node tells that this machine's
    /// clock is wrong, which it does before anything was changed.
    pub(crate) async fn with_token<Req: Clone, Resp, F: Future<Output = Result<Resp, ClientError>>>(
        &self,
        mut request: Req,
        token: impl Fn(&mut Req) -> &mut Bytes,
        call: impl Fn(Req) -> F,
    ) -> Result<Resp, ClientError> {
        if !token(&mut request).is_empty() {
            return call(request).await;
        }
        *token(&mut request) = self.clock.token()?;
        let first = call(request.clone()).await;
        let Some(node_ms) = first.as_ref().err().and_then(|e| e.node_time_ms) else { return first };
        self.clock.set(node_ms);
        *token(&mut request) = self.clock.token()?;
        call(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_the_clock_that_nodes_tell() {
        let clock = TokenClock::default();
        let (a, b) = (clock.token().unwrap(), clock.token().unwrap());
        assert_ne!(a, b);
        let time = |token: &Bytes| uuid::Uuid::from_slice(token).unwrap().as_u128() >> 80;
        assert!(time(&a).abs_diff(TokenClock::own_ms() as u128) < 60_000);
        clock.set(5_000_000);
        assert!((5_000_000..5_060_000).contains(&time(&clock.token().unwrap())));
    }
}
