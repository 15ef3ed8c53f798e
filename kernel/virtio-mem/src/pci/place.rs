//! Assigns addresses to registers that have none, as all are without firmware before the kernel.

use alloc::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

use super::bars::{BARS, BRIDGE_BARS, Bar, Unplaced, bar, set};
use super::error::PciError;
use super::scan::{Kind, each};
use super::space::{ConfigSpace, Function};

/// The windows of a bridge (PCI-to-PCI Bridge 1.2, 3.2.5): memory, and memory that may be read ahead, with the upper halves of
/// its addresses.
const MEMORY: u8 = 0x20;
const PREFETCHABLE: u8 = 0x24;
const UPPER_BASE: u8 = 0x28;
const UPPER_LIMIT: u8 = 0x2c;
/// The window has upper halves.
const IS_WIDE: u32 = 1;
/// Below, a PC has the memory of VGA and ROMs, which its bridge forwards, too.
const LOWEST: u64 = 1 << 20;
/// The end of what a BAR of 32 bits reaches.
const NARROW_END: u64 = 1 << 32;

/// Places the registers of a function on bus 0 in `windows`, the addresses that are forwarded to that bus, unless they have
/// an address. No other function is where they are then. The function does not decode addresses of memory if one was placed.
/// Returns how many were.
///
/// # Errors
///
/// [`PciError::NoPlace`]: no window has so much room, or the function is on another bus.
pub fn place(
    space: &impl ConfigSpace,
    function: Function,
    windows: &[PhysRange],
) -> Result<usize, PciError> {
    let unplaced = (0..BARS).filter_map(|index| match bar(space, function, index) {
        Bar::Unplaced(unplaced) => Some(unplaced),
        _ => None,
    });
    let mut unplaced = unplaced.peekable();
    if unplaced.peek().is_none() {
        return Ok(0);
    }
    let mut taken = taken(space);
    let mut places = Vec::new();
    for bar in unplaced {
        let room = windows.iter().filter(|_| function.bus == 0);
        let mut free = room.filter_map(|window| free_in(*window, &bar, &taken));
        let range = free.next().ok_or(PciError::NoPlace { bytes: bar.bytes })?;
        taken.push(range);
        places.push((bar, range.start()));
    }
    // All of them, or none: a function that is not used takes no addresses.
    places.iter().for_each(|(bar, start)| set(space, function, bar, *start));
    Ok(places.len())
}

/// The first place for a BAR in a window.
fn free_in(window: PhysRange, bar: &Unplaced, taken: &[PhysRange]) -> Option<PhysRange> {
    let end = if bar.wide { window.end().get() } else { window.end().get().min(NARROW_END) };
    let mut from = window.start().get().max(LOWEST);
    loop {
        let start = from.checked_next_multiple_of(bar.bytes)?;
        if start.checked_add(bar.bytes)? > end {
            return None;
        }
        let range = PhysRange::new(PhysAddr::new(start), bar.bytes)?;
        // Each turn is past another one.
        match taken.iter().find(|other| other.overlaps(range)) {
            Some(other) => from = other.end().get(),
            None => return Some(range),
        }
    }
}

/// Where the registers of all functions are, and what bridges forward.
fn taken(space: &impl ConfigSpace) -> Vec<PhysRange> {
    let mut taken = Vec::new();
    each(space, |function, kind| {
        let bars = match kind {
            Kind::Endpoint => BARS,
            Kind::Bridge => BRIDGE_BARS,
            Kind::Other => 0,
        };
        let bars = (0..bars).filter_map(|index| match bar(space, function, index) {
            Bar::Memory(range) => Some(range),
            _ => None,
        });
        taken.extend(bars);
        if kind == Kind::Bridge {
            taken.extend(
                [forwarded(space, function, MEMORY), forwarded(space, function, PREFETCHABLE)]
                    .into_iter()
                    .flatten(),
            );
        }
    });
    taken
}

/// A window of a bridge; `None` if it is closed.
fn forwarded(space: &impl ConfigSpace, bridge: Function, at: u8) -> Option<PhysRange> {
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
