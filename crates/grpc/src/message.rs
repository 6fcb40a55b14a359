//! The body of a gRPC request as all our calls have it: one message, not compressed (gRPC over HTTP/2,
//! "Length-Prefixed-Message"). It is read before the call begins, under a deadline and a budget.

use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use quorate_proto::MESSAGE_LEN_MAX;
use quorate_service::Error;
use quorate_service::core::request::{InvalidRequest, Part};
use tokio::time::timeout;

use crate::budget::Reserved;

/// A request has to be there whole within this time.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest question about health, in bytes.
pub(crate) const HEALTH_LEN_MAX: usize = 1024;
/// Flag and length.
const PREFIX_LEN: usize = 5;
/// A body that is not longer is paid for with what every call costs.
const SMALL: usize = 4 * 1024;

/// The message with its prefix, as it came.
///
/// # Errors
/// [`Error::InvalidArgument`] unless it is one whole message; [`Error::TooLarge`] above `max`; [`Error::Busy`] when it does
/// not come in time, or when its principal has too much under way.
pub(crate) async fn read(body: Body, max: usize, reserved: &mut Reserved) -> Result<Bytes, Error> {
    let whole = timeout(BODY_TIME_MAX, read_whole(body, max, reserved)).await;
    whole.unwrap_or_else(|_| {
        let why = format!("the request was not there whole within {} seconds", BODY_TIME_MAX.as_secs());
        Err(Error::Busy(format!("{why}; nothing was changed, try again")))
    })
}

async fn read_whole(mut body: Body, max: usize, reserved: &mut Reserved) -> Result<Bytes, Error> {
    let mut read = Read::Nothing;
    let mut len = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| invalid("the request was broken off"))?;
        let Ok(data) = frame.into_data() else { continue };
        read = read.and(data, len);
        if len.is_none()
            && let Some(announced) = announced(read.bytes(), max)?
        {
            // What is read, and what the call makes of it.
            if announced > SMALL && !reserved.grow(2 * announced) {
                return Err(too_much());
            }
            len = Some(PREFIX_LEN + announced);
        }
        if read.bytes().len() > len.unwrap_or(PREFIX_LEN) {
            return Err(invalid("more follows the message; one call takes one message"));
        }
    }
    match len {
        Some(len) if read.bytes().len() == len => Ok(read.whole()),
        Some(_) => Err(invalid("the request ends before its message does")),
        None => Err(invalid("the request has no message")),
    }
}

/// The refusal of somebody who has too much under way.
pub(crate) fn too_much() -> Error {
    Error::Busy("too many or too large requests of this principal are under way at this node; try again".into())
}

fn invalid(why: &str) -> Error {
    Error::InvalidArgument(format!("this is no request of the protocol: {why}"))
}

/// Length of the message that a body begins with, once that can be told.
fn announced(body: &[u8], max: usize) -> Result<Option<usize>, Error> {
    let Some(([flag, len @ ..], _)) = body.split_first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    let len = u32::from_be_bytes(*len) as usize;
    match flag {
        0 if len <= max => Ok(Some(len)),
        0 => Err(InvalidRequest::TooLarge { part: Part::Message, len, max }.into()),
        _ => Err(invalid("its message is compressed; send it as it is")),
    }
}

/// What has come so far. Most requests come in one piece, which is not copied.
enum Read {
    Nothing,
    Piece(Bytes),
    Pieces(BytesMut),
}

impl Read {
    fn and(self, data: Bytes, len: Option<usize>) -> Self {
        match self {
            Self::Nothing => Self::Piece(data),
            Self::Piece(first) => {
                // Room for the whole at once: growing would copy, and keep both.
                let len = len.unwrap_or(PREFIX_LEN).max(first.len() + data.len()).min(PREFIX_LEN + MESSAGE_LEN_MAX);
                let mut pieces = BytesMut::with_capacity(len);
                pieces.put(first);
                pieces.put(data);
                Self::Pieces(pieces)
            }
            Self::Pieces(mut pieces) => {
                pieces.put(data);
                Self::Pieces(pieces)
            }
        }
    }
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Piece(bytes) => bytes,
            Self::Pieces(bytes) => bytes,
        }
    }
    fn whole(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Piece(bytes) => bytes,
            Self::Pieces(bytes) => bytes.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;
    use futures::stream;
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    async fn read_from(body: Body) -> Result<Bytes, Error> {
        let mut reserved = Arc::<Budget>::default().take(None, 0).expect("nothing is taken");
        read(body, MESSAGE_LEN_MAX, &mut reserved).await
    }

    fn pieces(pieces: Vec<Bytes>) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
        stream::iter(pieces.into_iter().map(Ok))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
        for begun in [vec![], vec![Bytes::from_static(&[0, 0])], vec![Bytes::from_static(&[0, 0, 0, 0, 9, 1])]] {
            let body = Body::from_stream(pieces(begun).chain(stream::pending()));
            assert!(matches!(read_from(body).await, Err(Error::Busy(why)) if why.contains("10 seconds")));
        }
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written_however_it_was_cut(
            message in prop::collection::vec(any::<u8>(), 0..6000),
            cuts in prop::collection::vec(1usize..2000, 0..20),
            beyond in -3isize..4,
        ) {
            let mut body = vec![0];
            body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            body.extend_from_slice(&message);
            let whole = Bytes::from(body.clone());
            body.resize(body.len().saturating_add_signed(beyond), 7);
            let (mut rest, mut cut) = (Bytes::from(body), Vec::new());
            for at in cuts {
                cut.push(rest.split_to(at.min(rest.len())));
            }
            cut.push(rest);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            match runtime.block_on(read_from(Body::from_stream(pieces(cut)))) {
                Ok(read) => prop_assert!(beyond == 0 && read == whole),
                Err(e) => prop_assert!(beyond != 0 && matches!(e, Error::InvalidArgument(_)), "{}", e),
            }
        }
    }
}
