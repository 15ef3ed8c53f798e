//! Assigns addresses to registers that have none, as all are without firmware before the kernel.
//!
//! ```text
//!   window of the host bridge   [ . BAR . | window of a bridge      | . . . ]   bus 0
//!                                         [ BAR | window of another ]           behind the bridge
//! ```
//!
//! Behind a bridge that forwards no memory yet, a window is opened first: a MiB for each bus that can be behind it.

use alloc::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

use super::bars::{BARS, BRIDGE_BARS, Bar, Unplaced, bar, set};
use super::capabilities::Capabilities;
use super::error::{NoPlace, PciError};
use super::number::SUBORDINATE;
use super::scan::{DEEPEST, Kind, bridge_to, each};
use super::space::{ConfigSpace, Function, read8};
use super::window::{MEMORY, PREFETCHABLE, WINDOW_UNIT, forwarded, open_window, set_window};

/// Below, a PC has the memory of VGA and ROMs, which its bridge forwards, too.
const LOWEST: u64 = 1 << 20;
/// The end of what a BAR of 32 bits reaches.
const NARROW_END: u64 = 1 << 32;
/// Ranges that are kept of other functions at most: each has one to six.
pub(super) const MOST_TAKEN: usize = 1024;

/// What a place is looked for.
#[derive(Clone, Copy)]
struct Need {
    bytes: u64,
    /// What its address is a multiple of.
    align: u64,
    /// Whether its address can be above 4 GiB.
    wide: bool,
}

/// Places for registers.
#[derive(Debug)]
pub struct Places<'w> {
    /// The addresses that are forwarded to bus 0.
    windows: &'w [PhysRange],
    /// Where registers are on each bus, and what bridges there forward, ascending by start; read when the first place is looked
    /// for.
    taken: Option<Vec<(u8, PhysRange)>>,
}

impl<'w> Places<'w> {
    /// Places in `windows`, the addresses that are forwarded to bus 0.
    pub const fn new(windows: &'w [PhysRange]) -> Self {
        Self { windows, taken: None }
    }

    /// Places the registers of a function, unless they have an address. No other function is where they are then.
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
                let Bar::Unplaced(unplaced) = bar(space, function, index, BARS) else { continue };
                match self.choose(space, function.bus, unplaced.need(), 0) {
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
            chosen.for_each(|(_, range)| self.free(function.bus, range));
            return Err(error);
        }
        Ok(chosen.map(|(bar, range)| set(space, function, &bar, range.start())).count())
    }

    /// Finds and takes a place on a bus.
    fn choose(
        &mut self,
        space: &impl ConfigSpace,
        bus: u8,
        need: Need,
        depth: u8,
    ) -> Result<PhysRange, NoPlace> {
        if self.windows.is_empty() {
            return Err(NoPlace::NoWindow);
        }
        if self.taken.is_none() {
            self.taken = Some(taken(space)?);
        }
        let behind = if bus == 0 { None } else { Some(self.window_to(space, bus, need, depth)?) };
        let windows = behind.as_ref().map_or(self.windows, core::slice::from_ref);
        let taken = self.taken.get_or_insert_default();
        let mut free = windows.iter().filter_map(|window| free_in(*window, need, bus, taken));
        let range = free.next().ok_or(NoPlace::NoRoom)?;
        insert(taken, bus, range)?;
        Ok(range)
    }

    /// The window of the bridge to a bus. If the bridge forwards no memory yet, one for all that can be behind it is opened.
    fn window_to(
        &mut self,
        space: &impl ConfigSpace,
        bus: u8,
        need: Need,
        depth: u8,
    ) -> Result<PhysRange, NoPlace> {
        let bridge = bridge_to(space, bus).filter(|_| depth < DEEPEST).ok_or(NoPlace::NoBridge)?;
        if let Some(window) = open_window(space, bridge) {
            return Ok(window);
        }
        let buses = u64::from(read8(space, bridge, SUBORDINATE).saturating_sub(bus)) + 1;
        let least = need.bytes.checked_next_multiple_of(WINDOW_UNIT).ok_or(NoPlace::NoRoom)?;
        // As much as all windows behind it take together, and not more: they have to fit in.
        let bytes = least.max(buses * WINDOW_UNIT);
        let whole = Need { bytes, align: need.align.max(WINDOW_UNIT), wide: false };
        let window = self.choose(space, bridge.bus, whole, depth + 1)?;
        if set_window(space, bridge, window) {
            return Ok(window);
        }
        self.free(bridge.bus, window);
        Err(NoPlace::Closed)
    }

    fn free(&mut self, bus: u8, range: PhysRange) {
        if let Some(taken) = &mut self.taken
            && let Some(at) = taken.iter().position(|other| *other == (bus, range))
        {
            taken.remove(at);
        }
    }
}

impl Unplaced {
    const fn need(&self) -> Need {
        Need { bytes: self.bytes, align: self.bytes, wide: self.wide }
    }

    const fn refused(&self, why: NoPlace) -> PciError {
        PciError::NoPlace { bar: self.index, bytes: self.bytes, why }
    }
}

/// The first place in a window, where none of `taken` on its bus is, which ascend by start.
fn free_in(window: PhysRange, need: Need, bus: u8, taken: &[(u8, PhysRange)]) -> Option<PhysRange> {
    let end = if need.wide { window.end().get() } else { window.end().get().min(NARROW_END) };
    let mut start = window.start().get().max(LOWEST).checked_next_multiple_of(need.align)?;
    for (_, other) in taken.iter().filter(|(on, _)| *on == bus) {
        let behind = start.checked_add(need.bytes)?;
        if other.start().get() >= behind {
            break;
        }
        // One that is before the place is passed; one that is in it moves the place on.
        if other.end().get() > start {
            start = other.end().get().checked_next_multiple_of(need.align)?;
        }
    }
    let fits = start.checked_add(need.bytes)? <= end;
    PhysRange::new(PhysAddr::new(start), need.bytes).filter(|_| fits)
}

/// Adds a range in the order of their starts.
fn insert(taken: &mut Vec<(u8, PhysRange)>, bus: u8, range: PhysRange) -> Result<(), NoPlace> {
    if taken.len() >= MOST_TAKEN || taken.try_reserve(1).is_err() {
        return Err(NoPlace::TooMany);
    }
    let at = taken.partition_point(|(_, other)| other.start() <= range.start());
    taken.insert(at, (bus, range));
    Ok(())
}

/// Where the registers of all functions are, and what bridges forward, each on its bus.
fn taken(space: &impl ConfigSpace) -> Result<Vec<(u8, PhysRange)>, NoPlace> {
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
        let bars = (0..bars).filter_map(|index| match bar(space, function, index, bars) {
            Bar::Memory(range) => Some(range),
            _ => None,
        });
        let windows = [MEMORY, PREFETCHABLE].into_iter().filter(|_| kind == Kind::Bridge);
        let windows = windows.filter_map(|at| forwarded(space, function, at));
        result = bars.chain(windows).try_for_each(|range| insert(&mut taken, function.bus, range));
    });
    result.map(|()| taken)
}
