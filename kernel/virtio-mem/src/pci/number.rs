//! Numbers the buses behind bridges that have no number, as all are without firmware before the kernel.
//!
//! ```text
//!   bus 0 --- bridge 1..3 --- bus 1 --- bridge 2..2 --- bus 2       the bus behind a bridge, and the last one
//!        |                         \--- bridge 3..3 --- bus 3       behind it: depth first
//!        \--- bridge 4..4 --- bus 4
//! ```

use super::scan::{DEEPEST, Kind, SECONDARY, each, on_bus};
use super::space::{ConfigSpace, Function, read8};

/// The buses of a bridge: on this side, on the other, and the last one behind it (PCI-to-PCI Bridge 1.2, 3.2.5).
const BUSES: u8 = 0x18;
pub(super) const SUBORDINATE: u8 = 0x1a;
/// The byte above them, which is not a bus.
const TIMER: u32 = 0xff00_0000;

hotmem::errors! {
    /// Why the bus behind a bridge gets no number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum NoNumber {
        /// All numbers up to this one are used.
        Last(last: u8) => "all numbers up to {last} are used",
        /// The bridge does not keep its numbers.
        Kept(word: u32) => "the bridge does not keep its numbers, and has {word:#x}",
        /// Firmware numbered the bus that the bridge is on, and left no room behind it.
        NoRoom => "firmware left no number for it",
        /// Too many bridges are before it.
        TooDeep => "there are {DEEPEST} bridges before it",
    }
}

/// Numbers buses behind bridges that firmware left without a number, up to `last`. Those that have one keep it. A bus that gets
/// none is logged: nothing behind its bridge is found.
pub fn number_buses(space: &impl ConfigSpace, last: u8) {
    let mut highest = 0;
    let mut is_needed = false;
    each(space, |function, kind| {
        if kind == Kind::Bridge {
            let buses = [SECONDARY, SUBORDINATE].map(|at| read8(space, function, at));
            is_needed |= buses[0] == 0;
            highest = highest.max(buses[0]).max(buses[1]);
        }
    });
    if is_needed {
        Walk { space, next: u16::from(highest) + 1, last, seen: [0; 4] }.bus(0, true, 0);
    }
}

struct Walk<'s, S> {
    space: &'s S,
    next: u16,
    last: u8,
    /// Buses that were looked at.
    seen: [u64; 4],
}

impl<S: ConfigSpace> Walk<'_, S> {
    /// Numbers what is behind the bridges of a bus, if there `is_room` behind the bus.
    fn bus(&mut self, bus: u8, is_room: bool, depth: u8) {
        let seen = self.seen.get_mut(usize::from(bus / 64));
        let bit = 1 << (bus % 64);
        if seen.is_none_or(|word| core::mem::replace(word, *word | bit) & bit != 0) {
            return;
        }
        on_bus(self.space, bus, &mut |function, kind| {
            if kind != Kind::Bridge {
                return;
            }
            match read8(self.space, function, SECONDARY) {
                0 => {
                    if let Err(why) = self.bridge(function, is_room, depth) {
                        log::warn!("PCI: the bus behind {function} is not used: {why}");
                    }
                }
                known if depth < DEEPEST => self.bus(known, false, depth + 1),
                _ => {}
            }
        });
    }

    /// Numbers the bus behind a bridge, and those behind that.
    fn bridge(&mut self, bridge: Function, is_room: bool, depth: u8) -> Result<(), NoNumber> {
        if !is_room {
            return Err(NoNumber::NoRoom);
        }
        if depth == DEEPEST {
            return Err(NoNumber::TooDeep);
        }
        let secondary = u8::try_from(self.next).ok().filter(|&next| next <= self.last);
        let secondary = secondary.ok_or(NoNumber::Last(self.last))?;
        self.write(bridge, secondary, self.last)?;
        self.next += 1;
        self.bus(secondary, true, depth + 1);
        // What was numbered is at most `last`.
        self.write(bridge, secondary, (self.next - 1) as u8)
    }

    /// Writes the numbers of a bridge. If it does not keep them, it has none.
    fn write(&self, bridge: Function, secondary: u8, last: u8) -> Result<(), NoNumber> {
        let before = self.space.read(bridge, BUSES);
        let word = u32::from_le_bytes([bridge.bus, secondary, last, 0]);
        self.space.write(bridge, BUSES, word | before & TIMER);
        let kept = self.space.read(bridge, BUSES) & !TIMER;
        if kept == word {
            return Ok(());
        }
        self.space.write(bridge, BUSES, before & TIMER);
        Err(NoNumber::Kept(kept))
    }
}
