//! Requests and responses, as they lie in memory (virtio 1.2, 5.15.6).

use super::fault::Fault;
use super::request::{Kind, Refusal, Request};

/// Bytes of a request.
pub(crate) const REQUEST_BYTES: u32 = 24;
/// Bytes of the longest response.
pub(crate) const RESPONSE_BYTES: u32 = 10;
/// Bytes of a response without a state.
const SHORT_BYTES: u32 = 2;

/// What the device responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    /// It was done.
    Done,
    /// The blocks are all plugged, or all unplugged, or some of each.
    State(State),
    /// It was refused.
    Refused(Refusal),
}

/// The state of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Plugged,
    Unplugged,
    Mixed,
}

/// A request in memory: words of 64 bits.
pub(crate) fn encode(request: Request) -> [u64; 3] {
    let Request { kind, start, blocks } = request;
    match kind {
        Kind::UnplugAll => [kind as u64, 0, 0],
        _ => [kind as u64, start.get(), u64::from(blocks)],
    }
}

/// Decodes a response in memory, of which the device wrote `len` bytes.
///
/// # Errors
///
/// The [`Fault`] that the response is.
pub(crate) fn decode(request: Request, words: [u64; 2], len: u32) -> Result<Response, Fault> {
    let least = if request.kind == Kind::State { RESPONSE_BYTES } else { SHORT_BYTES };
    let refused = match words[0] as u16 {
        0 if len >= least => None,
        1 => Some(Refusal::Nack),
        2 => Some(Refusal::Busy),
        3 => Some(Refusal::Error),
        0 => return Err(Fault::UsedLength(request, len)),
        other => return Err(Fault::ResponseType(request, other)),
    };
    // A refusal is at least its own type long.
    if len < SHORT_BYTES {
        return Err(Fault::UsedLength(request, len));
    }
    if let Some(refusal) = refused {
        return Ok(Response::Refused(refusal));
    }
    if request.kind != Kind::State {
        return Ok(Response::Done);
    }
    match words[1] as u16 {
        0 => Ok(Response::State(State::Plugged)),
        1 => Ok(Response::State(State::Unplugged)),
        2 => Ok(Response::State(State::Mixed)),
        other => Err(Fault::StateType(request, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::PhysAddr;

    const STATE: Request = Request { kind: Kind::State, start: PhysAddr::new(0x1000), blocks: 7 };
    const PLUG: Request = Request { kind: Kind::Plug, ..STATE };

    #[test]
    fn requests_lie_in_memory_as_the_standard_says() {
        assert_eq!(encode(PLUG), [0, 0x1000, 7]);
        assert_eq!(encode(Request { kind: Kind::Unplug, ..PLUG }), [1, 0x1000, 7]);
        assert_eq!(encode(Request { kind: Kind::UnplugAll, ..PLUG }), [2, 0, 0]);
        assert_eq!(encode(STATE), [3, 0x1000, 7]);
    }

    #[test]
    fn each_response_is_decoded_or_named() {
        assert_eq!(decode(PLUG, [0, 0], 10), Ok(Response::Done));
        assert_eq!(decode(PLUG, [0, 0], 2), Ok(Response::Done));
        assert_eq!(decode(PLUG, [2, 9], 10), Ok(Response::Refused(Refusal::Busy)));
        assert_eq!(decode(STATE, [0, 2], 10), Ok(Response::State(State::Mixed)));
        assert_eq!(decode(STATE, [1, 0], 10), Ok(Response::Refused(Refusal::Nack)));
        let wrong = [
            (decode(PLUG, [0, 0], 1), "1 bytes"),
            (decode(PLUG, [3, 0], 0), "0 bytes"),
            (decode(STATE, [0, 0], 9), "9 bytes"),
            (decode(PLUG, [4, 0], 10), "type 0x4"),
            (decode(STATE, [0, 3], 10), "state 0x3"),
        ];
        for (result, name) in wrong {
            let error = std::string::ToString::to_string(&result.unwrap_err());
            assert!(error.contains(name), "{error}");
        }
    }
}
