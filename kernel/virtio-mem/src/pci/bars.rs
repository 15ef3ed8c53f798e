//! Base address registers (PCI Local Bus 3.0, 6.2.5): where the function's registers are in memory, and how many.

use hotmem::{PhysAddr, PhysRange};

use super::space::{ConfigSpace, Function, read16, write_low};

/// BARs of an endpoint (header type 0).
pub(super) const BARS: u8 = 6;
/// BARs of a bridge (header type 1).
pub(super) const BRIDGE_BARS: u8 = 2;
const FIRST: u8 = 0x10;
pub(super) const COMMAND: u8 = 0x04;
/// The function decodes addresses of ports, or of memory.
const DECODES: u16 = 3;
const IS_PORTS: u32 = 1;
/// Bits of a BAR of memory that are not of its address.
const KIND: u32 = 0xf;
const WIDTH: u32 = 6;
const WIDE: u32 = 4;

/// What a BAR is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bar {
    /// The function lacks this BAR, or it is the upper half of a 64-bit one.
    None,
    /// It is ports, or its address or size cannot be.
    NotMemory,
    /// Memory without an address.
    Unplaced(Unplaced),
    /// Memory.
    Memory(PhysRange),
}

/// What a BAR without an address needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unplaced {
    pub(super) index: u8,
    /// Bytes, which its address is a multiple of.
    pub(super) bytes: u64,
    /// Whether its address can be above 4 GiB.
    pub(super) wide: bool,
}

/// Looks at a BAR of a function that has `bars` of them. While its size is determined, the function decodes no addresses.
pub(super) fn bar(space: &impl ConfigSpace, function: Function, index: u8, bars: u8) -> Bar {
    if index >= bars {
        return Bar::None;
    }
    let mut number = 0;
    // The second half of a wide one is not a BAR.
    while number < index {
        number += if is_wide(space.read(function, FIRST + 4 * number)) { 2 } else { 1 };
    }
    if number != index {
        return Bar::None;
    }
    let at = FIRST + 4 * index;
    let low = space.read(function, at);
    let wide = is_wide(low);
    if wide && index + 1 >= bars {
        return Bar::None;
    }
    if low & IS_PORTS != 0 {
        return Bar::NotMemory;
    }
    let high = if wide { space.read(function, at + 4) } else { 0 };
    let command = read16(space, function, COMMAND);
    write_low(space, function, COMMAND, command & !DECODES);
    space.write(function, at, u32::MAX);
    let mut mask = u64::from(space.read(function, at) & !KIND);
    space.write(function, at, low);
    if wide {
        space.write(function, at + 4, u32::MAX);
        mask |= u64::from(space.read(function, at + 4)) << 32;
        space.write(function, at + 4, high);
    } else if mask != 0 {
        mask |= 0xffff_ffff << 32;
    }
    write_low(space, function, COMMAND, command);
    let start = u64::from(high) << 32 | u64::from(low & !KIND);
    // The lowest bit that can be set is the size.
    let bytes = mask & mask.wrapping_neg();
    match PhysRange::new(PhysAddr::new(start), bytes) {
        Some(_) if bytes == 0 => Bar::NotMemory,
        Some(_) if start == 0 => Bar::Unplaced(Unplaced { index, bytes, wide }),
        Some(range) if start.is_multiple_of(bytes) && fits(range) => Bar::Memory(range),
        _ => Bar::NotMemory,
    }
}

/// Gives a BAR an address. The function does not decode addresses of memory afterwards.
pub(super) fn set(space: &impl ConfigSpace, function: Function, bar: &Unplaced, start: PhysAddr) {
    let command = read16(space, function, COMMAND);
    write_low(space, function, COMMAND, command & !DECODES);
    let at = FIRST + 4 * bar.index;
    space.write(function, at, start.get() as u32);
    if bar.wide {
        space.write(function, at + 4, (start.get() >> 32) as u32);
    }
}

/// Whether the end of a range is an address, too.
fn fits(range: PhysRange) -> bool {
    range.start().checked_add(range.len()).is_some()
}

fn is_wide(low: u32) -> bool {
    low & IS_PORTS == 0 && low & WIDTH == WIDE
}
