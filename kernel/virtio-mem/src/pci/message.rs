//! Interrupts by messages (MSI-X; PCI Local Bus 3.0, 6.8.2): one, for all that the device reports.

use super::capabilities::{Capabilities, Place};
use super::error::PciError;
use super::space::{ConfigSpace, Function, Registers, read16};

/// Bytes of an entry of the table.
pub(super) const ENTRY: u32 = 16;
/// The bits of the capability's first word: enabled, and all masked.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;

/// A write that is an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// Where the table of messages is, if the capability is at `at`.
pub(super) fn table(space: &impl ConfigSpace, function: Function, at: u8) -> Option<Place> {
    if at > 0xf4 {
        return None;
    }
    let entries = u32::from(read16(space, function, at + 2) & 0x7ff) + 1;
    let word = space.read(function, at + 4);
    let bytes = entries * ENTRY;
    Some(Place { what: "messages", bar: (word & 7) as u8, offset: word & !7, bytes })
}

/// Ends interrupts by messages, of either kind, that a kernel before this one enabled: while they are, a function does not
/// use its line (PCI Local Bus 3.0, 6.8.1.3 and 6.8.2.3).
pub(super) fn disable(space: &impl ConfigSpace, function: Function, found: &Capabilities) {
    const OLD_ENABLE: u32 = 1 << 16;
    for (at, enabled) in [(found.message, ENABLE), (found.old_message, OLD_ENABLE)] {
        let Some(at) = at else { continue };
        let word = space.read(function, at);
        if word & enabled != 0 {
            space.write(function, at, word & !enabled);
        }
    }
}

/// Writes the first message into the mapped `table`, and enables it.
pub(super) fn enable<R: Registers>(
    space: &impl ConfigSpace,
    function: Function,
    at: u8,
    table: &R,
    message: Message,
) -> Result<(), PciError> {
    let control = space.read(function, at);
    space.write(function, at, control | ENABLE | MASK_ALL);
    table.write32(0, message.address as u32);
    table.write32(4, (message.address >> 32) as u32);
    table.write32(8, message.data);
    // Not masked.
    table.write32(12, 0);
    if table.read32(8) != message.data {
        space.write(function, at, control & !ENABLE);
        return Err(PciError::Missing("messages that can be written"));
    }
    space.write(function, at, (control | ENABLE) & !MASK_ALL);
    Ok(())
}
