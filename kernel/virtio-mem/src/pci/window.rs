//! The windows of bridges: the addresses that they forward to the bus behind them (PCI-to-PCI Bridge 1.2, 3.2.5).

use hotmem::{PhysAddr, PhysRange};

use super::bars::COMMAND;
use super::scan::{DEEPEST, bridge_to};
use super::space::{ConfigSpace, Function, read16, write_low};

/// Memory, and memory that may be read ahead, with the upper halves of its addresses.
pub(super) const MEMORY: u8 = 0x20;
pub(super) const PREFETCHABLE: u8 = 0x24;
const UPPER_BASE: u8 = 0x28;
const UPPER_LIMIT: u8 = 0x2c;
/// The window has upper halves.
const IS_WIDE: u32 = 1;
/// A window that ends before it begins.
const CLOSED: u32 = 0xfff0;
/// Bits of a command: the bridge forwards addresses of memory, and accesses of devices behind it.
const FORWARDS: u16 = 2;
const IS_MASTER: u16 = 4;

/// What windows are multiples of.
pub(super) const WINDOW_UNIT: u64 = 1 << 20;

/// A window of a bridge; `None` if it is closed.
pub(super) fn forwarded(space: &impl ConfigSpace, bridge: Function, at: u8) -> Option<PhysRange> {
    let word = space.read(bridge, at);
    let upper = |offset| match at {
        PREFETCHABLE if word & 0xf == IS_WIDE => u64::from(space.read(bridge, offset)) << 32,
        _ => 0,
    };
    let base = u64::from(word & 0xfff0) << 16 | upper(UPPER_BASE);
    let last = u64::from(word & 0xfff0_0000) | 0xf_ffff | upper(UPPER_LIMIT);
    // The end of a range is an address, too: the last byte of all is left out.
    let bytes = last.checked_sub(base)?.saturating_add(1).min(u64::MAX - base);
    PhysRange::new(PhysAddr::new(base), bytes)
}

/// The window of memory of a bridge, if the bridge forwards any. One at 0 was never set: that is its value after a reset.
pub(super) fn open_window(space: &impl ConfigSpace, bridge: Function) -> Option<PhysRange> {
    let forwards = read16(space, bridge, COMMAND) & FORWARDS != 0;
    forwarded(space, bridge, MEMORY).filter(|window| forwards && window.start().get() != 0)
}

/// Has a bridge that forwards nothing forward `window`, which is whole units below 4 GiB, and nothing else. Returns whether it
/// does.
pub(super) fn set_window(space: &impl ConfigSpace, bridge: Function, window: PhysRange) -> bool {
    let last = window.end().get().saturating_sub(1) as u32;
    space.write(bridge, MEMORY, window.start().get() as u32 >> 16 & 0xfff0 | last & 0xfff0_0000);
    let command = read16(space, bridge, COMMAND);
    if command & FORWARDS == 0 {
        space.write(bridge, PREFETCHABLE, CLOSED);
        space.write(bridge, UPPER_BASE, 0);
        space.write(bridge, UPPER_LIMIT, 0);
    }
    let is_set = forwarded(space, bridge, MEMORY) == Some(window);
    if is_set {
        write_low(space, bridge, COMMAND, command | FORWARDS);
    } else {
        space.write(bridge, MEMORY, CLOSED);
    }
    is_set
}

/// Has all bridges on the way to a function forward its accesses to memory.
pub(super) fn open_way(space: &impl ConfigSpace, function: Function) {
    let mut at = function;
    for _ in 0..=DEEPEST {
        if at.bus == 0 {
            return;
        }
        let Some(bridge) = bridge_to(space, at.bus) else { return };
        let command = read16(space, bridge, COMMAND);
        write_low(space, bridge, COMMAND, command | IS_MASTER);
        at = bridge;
    }
}
