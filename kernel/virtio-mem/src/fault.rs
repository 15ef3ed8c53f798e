//! What can be wrong with a device.

use core::fmt;

use hotmem::PhysRange;

use super::request::{Refusal, Request};

/// What is wrong with a device, or why it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It does not come out of its reset; its status.
    Reset(u8),
    /// It has an interface from before version 1.0 of the standard only.
    NotModern,
    /// It does not accept these features, which it offers.
    Features(u64),
    /// It says that it is broken and has to be reset.
    NeedsReset,
    /// Its queue has room for so many entries.
    Queue(u16),
    /// It cannot be notified of requests.
    NoNotify,
    /// No memory is left for its queue.
    NoMemory,
    /// Its configuration changes all the time.
    NeverSettles,
    /// The size of its blocks is not a power of two, or less than a page.
    BlockSize(u64),
    /// Its region is empty, not in whole blocks, or runs past the end of the address space.
    Region {
        /// Where it starts.
        start: u64,
        /// Its bytes.
        bytes: u64,
        /// Bytes of a block.
        block: u64,
    },
    /// There is not one whole unit in its region.
    NoUnit {
        /// The region.
        region: PhysRange,
        /// Bytes of a unit.
        unit: u64,
    },
    /// Its region, the first one, overlaps that of another device, or memory that is kept out.
    Overlaps(PhysRange, PhysRange),
    /// The usable part of its region is not in whole blocks, or larger than the region.
    Usable {
        /// Its bytes.
        usable: u64,
        /// Those of the region.
        bytes: u64,
    },
    /// The requested size is not in whole blocks, or larger than the usable part of the region.
    Requested {
        /// The requested size.
        requested: u64,
        /// Bytes of the usable part.
        usable: u64,
    },
    /// A value that must not change has changed.
    Changed {
        /// Its name.
        what: &'static str,
        /// What it was.
        was: u64,
        /// What it is.
        is: u64,
    },
    /// There was no response in time.
    NoResponse(Request),
    /// The device claims to have responded to requests that were not made.
    UsedIndex {
        /// The index of its ring before.
        was: u16,
        /// The index now.
        is: u16,
    },
    /// The device responded to another descriptor than that of the request.
    UsedId(u32),
    /// The device wrote less than a response, or more than there is room for.
    UsedLength {
        /// To which request.
        request: Request,
        /// Bytes that it claims to have written.
        len: u32,
    },
    /// No response is of this type.
    ResponseType {
        /// To which request.
        request: Request,
        /// The type.
        is: u16,
    },
    /// Blocks have no such state.
    StateType {
        /// Of which request.
        request: Request,
        /// The state.
        is: u16,
    },
    /// The device refused a request.
    Refused(Request, Refusal),
    /// The device did what was requested, and says that another size is plugged than should be.
    Plugged {
        /// What it says.
        says: u64,
        /// What should be plugged.
        holds: u64,
    },
    /// The device plugged blocks, and says that not all of them are.
    NotPlugged(PhysRange),
}

impl Fault {
    /// Whether the device can be used all the same: what is plugged is known, and a later request may be done.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Refused(..) | Self::Usable { .. } | Self::Requested { .. } | Self::NeverSettles
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(status) => write!(f, "it does not end its reset: status {status:#x}"),
            Self::NotModern => f.write_str("it has no interface of virtio 1.0 or newer"),
            Self::Features(features) => write!(f, "it does not accept its features {features:#x}"),
            Self::NeedsReset => f.write_str("it reports that it needs a reset"),
            Self::Queue(room) => write!(f, "its queue has room for {room} entries, less than 2"),
            Self::NoNotify => f.write_str("it has no register for notifications of its queue"),
            Self::NoMemory => f.write_str("no page is free for its queue"),
            Self::NeverSettles => f.write_str("its configuration changes all the time"),
            Self::BlockSize(bytes) => write!(f, "blocks of {bytes:#x} bytes"),
            Self::Region { start, bytes, block } => {
                write!(f, "a region of {bytes:#x} bytes at {start:#x}, in blocks of {block:#x}")
            }
            Self::NoUnit { region, unit } => {
                write!(f, "its region {region} has not one whole unit of {unit:#x} bytes")
            }
            Self::Overlaps(region, other) => {
                write!(f, "its region {region} has memory of another device in it, {other}")
            }
            Self::Usable { usable, bytes } => {
                write!(f, "{usable:#x} bytes are usable of a region of {bytes:#x}")
            }
            Self::Requested { requested, usable } => {
                write!(f, "it requests {requested:#x} bytes, of which {usable:#x} are usable")
            }
            Self::Changed { what, was, is } => write!(f, "its {what} was {was:#x}, and is {is:#x}"),
            Self::NoResponse(request) => write!(f, "no response to the request {request}"),
            Self::UsedIndex { was, is } => {
                write!(f, "the index of its ring went from {was} to {is} for one request")
            }
            Self::UsedId(id) => write!(f, "it responded to descriptor {id}, which is not in use"),
            Self::UsedLength { request, len } => {
                write!(f, "a response of {len} bytes to the request {request}")
            }
            Self::ResponseType { request, is } => {
                write!(f, "a response of type {is:#x} to the request {request}")
            }
            Self::StateType { request, is } => {
                write!(f, "the state {is:#x} in the response to the request {request}")
            }
            Self::Refused(request, refusal) => {
                write!(f, "it refused the request {request}: {refusal}")
            }
            Self::Plugged { says, holds } => {
                write!(f, "it says that {says:#x} bytes are plugged, and {holds:#x} should be")
            }
            Self::NotPlugged(range) => write!(f, "it plugged {range}, and says that it did not"),
        }
    }
}

impl core::error::Error for Fault {}
