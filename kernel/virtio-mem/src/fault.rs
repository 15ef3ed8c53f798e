//! What can be wrong with a device.

use hotmem::PhysRange;

use super::request::{Refusal, Request};

hotmem::errors! {
    /// What is wrong with a device, or why it refuses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Fault {
        /// It does not come out of its reset; its status.
        Reset(status: u8) => "it does not end its reset: status {status:#x}",
        /// It has an interface from before version 1.0 of the standard only.
        NotModern => "it has no interface of virtio 1.0 or newer",
        /// It does not accept these features, which it offers.
        Features(features: u64) => "it does not accept its features {features:#x}",
        /// It says that it is broken and has to be reset.
        NeedsReset => "it reports that it needs a reset",
        /// Its queue has room for so many entries.
        Queue(room: u16) => "its queue has room for {room} entries, less than 2",
        /// It cannot be notified of requests.
        NoNotify => "it has no register for notifications of its queue",
        /// No memory is left for its queue.
        NoMemory => "no page is free for its queue",
        /// Its configuration changes all the time.
        NeverSettles => "its configuration changes all the time",
        /// The size of its blocks is not a power of two, or less than a page.
        BlockSize(bytes: u64) => "blocks of {bytes:#x} bytes",
        /// Its region is empty, not in whole blocks, or runs past the end of the address space.
        Region {
            /// Where it starts.
            start: u64,
            /// Its bytes.
            bytes: u64,
            /// Bytes of a block.
            block: u64,
        } => "a region of {bytes:#x} bytes at {start:#x}, in blocks of {block:#x}",
        /// Its region is smaller than one unit.
        NoUnit {
            /// The region.
            region: PhysRange,
            /// Bytes of a unit.
            unit: u64,
        } => "its region {region} has not one whole unit of {unit:#x} bytes",
        /// Its region, the first one, overlaps that of another device, or memory that is kept out.
        Overlaps(region: PhysRange, other: PhysRange) =>
            "its region {region} has memory of another device in it, {other}",
        /// The usable part of its region is not in whole blocks, or larger than the region.
        Usable {
            /// Its bytes.
            usable: u64,
            /// Those of the region.
            bytes: u64,
        } => "{usable:#x} bytes are usable of a region of {bytes:#x}",
        /// The requested size is not in whole blocks, or larger than the usable part of the region.
        Requested {
            /// The requested size.
            requested: u64,
            /// Bytes of the usable part.
            usable: u64,
        } => "it requests {requested:#x} bytes, of which {usable:#x} are usable",
        /// A value that must not change has changed.
        Changed {
            /// Its name.
            what: &'static str,
            /// What it was.
            was: u64,
            /// What it is.
            is: u64,
        } => "its {what} was {was:#x}, and is {is:#x}",
        /// There was no response in time.
        NoResponse(request: Request) => "no response to the request {request}",
        /// The device claims to have responded to requests that were not made.
        UsedIndex {
            /// The index of its ring before.
            was: u16,
            /// The index now.
            is: u16,
        } => "the index of its ring went from {was} to {is} for one request",
        /// The device responded to another descriptor than that of the request.
        UsedId(id: u32) => "it responded to descriptor {id}, which is not in use",
        /// The device wrote less than a response to this request, or more than there is room for, as the bytes say.
        UsedLength(request: Request, len: u32) => "a response of {len} bytes to the request {request}",
        /// No response is of the type of that to this request.
        ResponseType(request: Request, is: u16) => "a response of type {is:#x} to the request {request}",
        /// Blocks have no such state as that in the response to this request.
        StateType(request: Request, is: u16) =>
            "the state {is:#x} in the response to the request {request}",
        /// The device refused a request.
        Refused(request: Request, refusal: Refusal) =>
            "it refused the request {request}: {refusal}",
        /// The device did what was requested, and says that another size is plugged than should be.
        Plugged {
            /// What it says.
            says: u64,
            /// What should be plugged.
            holds: u64,
        } => "it says that {says:#x} bytes are plugged, and {holds:#x} should be",
        /// The device plugged blocks, and says that not all of them are.
        NotPlugged(range: PhysRange) => "it plugged {range}, and says that it did not",
    }
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
