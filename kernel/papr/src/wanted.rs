//! What the hypervisor wants back.

use super::pieces::Piece;
use hotmem_hotplug::DeviceId;

/// A request of the hypervisor for memory that is in use, in one piece or in several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// All that the hypervisor asked for.
    pub(super) whole: Piece,
    /// The next device of it that is to go.
    pub(super) next: Option<DeviceId>,
    /// The clock when its interrupt came.
    pub(super) since: Option<u64>,
    /// Whether some of it is gone: what is left cannot be kept as a device.
    pub(super) broken: bool,
}

impl Wanted {
    /// Whether more devices of it are to go.
    pub(super) fn goes_on(&self) -> bool {
        self.next.is_some()
    }

    /// Notes that `piece` is gone.
    pub(super) fn lose(&mut self, piece: Piece) {
        self.broken |= piece.is_in(self.whole);
    }
}
