//! Assigns addresses to registers that have none, as all are without firmware before the kernel.

use alloc::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

use super::bars::{BARS, BRIDGE_BARS, Bar, Unplaced, bar, set};
use super::capabilities::Capabilities;
use super::error::{NoPlace, PciError};
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
/// Ranges that are kept of other functions at most: each has one to six.
pub(super) const MOST_TAKEN: usize = 1024;

/// Places for registers on bus 0.
#[derive(Debug)]
pub struct Places<'w> {
    /// The addresses that are forwarded to that bus.
    windows: &'w [PhysRange],
    /// Where registers are, and what bridges forward, ascending by start; read when the first place is looked for.
    taken: Option<Vec<PhysRange>>,
}

impl<'w> Places<'w> {
    /// Places in `windows`, the addresses that are forwarded to bus 0.
    pub const fn new(windows: &'w [PhysRange]) -> Self {
        Self { windows, taken: None }
    }

    /// Places the registers of a function on bus 0, unless they have an address. No other function is where they are then.
    /// The function does not decode addresses of memory if one was placed. Returns how many were. What the driver can do
    /// without may stay without an address.
    ///
    /// # Errors
    ///
    /// [`PciError::NoPlace`] for registers that the driver needs: none is placed then.
    pub fn place(
        &mut self,
        space: &impl ConfigSpace,
        function: Function,
    ) -> Result<usize, PciError> {
        let needed = Capabilities::read(space, function).needed();
        self.place_needed(space, function, needed)
    }

    /// The same, with the BARs that the driver needs, a bit for each.
    pub(super) fn place_needed(
        &mut self,
        space: &impl ConfigSpace,
        function: Function,
        needed: u8,
    ) -> Result<usize, PciError> {
        let is_needed = |index: u8| needed & 1 << index != 0;
        let mut chosen: [Option<(Unplaced, PhysRange)>; BARS as usize] = [None; _];
        let mut refused = None;
        // Those that are needed come first: the others do not take their place.
        for first in [true, false] {
            for (index, slot) in (0..BARS).zip(&mut chosen).filter(|of| is_needed(of.0) == first) {
                let Bar::Unplaced(unplaced) = bar(space, function, index) else { continue };
                match self.choose(space, function, &unplaced) {
                    Ok(range) => *slot = Some((unplaced, range)),
                    Err(why) if first => refused = refused.or(Some(unplaced.refused(why))),
                    Err(why) => log::warn!(
                        "virtio-mem at {function}: {}; it is not needed",
                        unplaced.refused(why)
                    ),
                }
            }
        }
        let chosen = chosen.into_iter().flatten();
        if let Some(error) = refused {
            // All of them, or none: a function that is not used takes no addresses.
            chosen.for_each(|(_, range)| self.free(range));
            return Err(error);
        }
        Ok(chosen.map(|(bar, range)| set(space, function, &bar, range.start())).count())
    }

    /// Finds and takes a place for a BAR.
    fn choose(
        &mut self,
        space: &impl ConfigSpace,
        function: Function,
        bar: &Unplaced,
    ) -> Result<PhysRange, NoPlace> {
        if function.bus != 0 {
            return Err(NoPlace::BehindBridge);
        }
        if self.windows.is_empty() {
            return Err(NoPlace::NoWindow);
        }
        if self.taken.is_none() {
            self.taken = Some(taken(space)?);
        }
        let taken = self.taken.get_or_insert_default();
        let mut free = self.windows.iter().filter_map(|window| free_in(*window, bar, taken));
        let range = free.next().ok_or(NoPlace::NoRoom)?;
        insert(taken, range)?;
        Ok(range)
    }

    fn free(&mut self, range: PhysRange) {
        if let Some(taken) = &mut self.taken
            && let Some(at) = taken.iter().position(|other| *other == range)
        {
            taken.remove(at);
        }
    }
}

impl Unplaced {
    const fn refused(&self, why: NoPlace) -> PciError {
        PciError::NoPlace { bar: self.index, bytes: self.bytes, why }
    }
}

/// The first place for a BAR in a window, where none of `taken` is, which ascend by start.
fn free_in(window: PhysRange, bar: &Unplaced, taken: &[PhysRange]) -> Option<PhysRange> {
    let end = if bar.wide { window.end().get() } else { window.end().get().min(NARROW_END) };
    let mut start = window.start().get().max(LOWEST).checked_next_multiple_of(bar.bytes)?;
    for other in taken {
        let behind = start.checked_add(bar.bytes)?;
        if other.start().get() >= behind {
            break;
        }
        // One that is before the place is passed; one that is in it moves the place on.
        if other.end().get() > start {
            start = other.end().get().checked_next_multiple_of(bar.bytes)?;
        }
    }
    let fits = start.checked_add(bar.bytes)? <= end;
    PhysRange::new(PhysAddr::new(start), bar.bytes).filter(|_| fits)
}

/// Adds a range in the order of their starts.
fn insert(taken: &mut Vec<PhysRange>, range: PhysRange) -> Result<(), NoPlace> {
    if taken.len() >= MOST_TAKEN || taken.try_reserve(1).is_err() {
        return Err(NoPlace::TooMany);
    }
    let at = taken.partition_point(|other| other.start() <= range.start());
    taken.insert(at, range);
    Ok(())
}

/// Where the registers of all functions are, and what bridges forward.
fn taken(space: &impl ConfigSpace) -> Result<Vec<PhysRange>, NoPlace> {
    let (mut taken, mut result) = (Vec::new(), Ok(()));
    each(space, |function, kind| {
        if result.is_err() {
            return;
        }
        let bars = match kind {
            Kind::Endpoint => BARS,
            Kind::Bridge => BRIDGE_BARS,
            Kind::Other => 0,
        };
        let bars = (0..bars).filter_map(|index| match bar(space, function, index) {
            Bar::Memory(range) => Some(range),
            _ => None,
        });
        let windows = [MEMORY, PREFETCHABLE].into_iter().filter(|_| kind == Kind::Bridge);
        let windows = windows.filter_map(|at| forwarded(space, function, at));
        result = bars.chain(windows).try_for_each(|range| insert(&mut taken, range));
    });
    result.map(|()| taken)
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
