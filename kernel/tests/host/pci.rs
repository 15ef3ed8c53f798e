//! Functions of PCI, whose configuration space is in memory.

use std::collections::BTreeMap;

use hotmem::{PhysAddr, PhysRange};

use crate::pc::range;

/// The configuration space of 64 buses.
pub(crate) const SPACE: PhysRange = range(0xB000_0000, 64 << 20);
/// The registers of functions: all are 0.
pub(crate) const REGISTERS: PhysRange = range(0xE000_0000, 0x4000);

/// Bus, device, function.
type Place = (u8, u8, u8);

/// A memory device, and a bridge.
const MEMORY: u32 = 0x1058_1AF4;
const BRIDGE: u32 = 0x000C_1B36;

/// The functions.
#[derive(Debug, Default)]
pub(crate) struct Functions(BTreeMap<Place, [u32; 64]>);

impl Functions {
    /// A memory device, whose registers are in BAR 4, with the interrupt pin INTA, connected to the ISA interrupt `line`.
    pub(crate) fn memory_device(&mut self, at: Place, line: u32) {
        let mut words = [0; 64];
        words[0] = MEMORY;
        // It has capabilities, and used its line and accessed memory for a kernel before this one.
        (words[1], words[13]) = (0x0010_0006, 0x40);
        (words[8], words[9]) = (REGISTERS.start().get() as u32 | 0xC, 0);
        words[15] = 1 << 8 | line;
        for (place, next, kind, offset) in [
            (0x40, 0x50, 1, 0),
            (0x50, 0x60, 3, 0x1000),
            (0x60, 0x70, 4, 0x2000),
            (0x70, 0, 2, 0x3000),
        ] {
            let at = place / 4;
            words[at..at + 4].copy_from_slice(&[
                9 | next << 8 | 20 << 16 | kind << 24,
                4,
                offset,
                0x1000,
            ]);
        }
        self.0.insert(at, words);
    }

    /// A bridge to another bus.
    pub(crate) fn bridge(&mut self, at: Place, to: u8) {
        let mut words = [0; 64];
        (words[0], words[3], words[6]) = (BRIDGE, 1 << 16, u32::from(to) << 8);
        self.0.insert(at, words);
    }

    /// The word at `offset` of a function.
    pub(crate) fn word(&self, at: Place, offset: usize) -> u32 {
        self.0.get(&at).map_or(u32::MAX, |words| words[offset / 4])
    }

    pub(crate) fn load(&self, at: PhysAddr) -> u32 {
        let (at, offset) = place(at);
        self.word(at, offset)
    }

    pub(crate) fn store(&mut self, at: PhysAddr, value: u32) {
        let (at, offset) = place(at);
        let Some(words) = self.0.get_mut(&at) else { return };
        let word = &mut words[offset / 4];
        *word = match offset {
            // Zeros leave the status as it is.
            4 => *word & 0xFFFF_0000 | value & 0xFFFF,
            0x20 if *word != 0 => value & !(REGISTERS.len() as u32 - 1) | 0xC,
            0x10..0x28 if offset != 0x24 => 0,
            _ => value,
        };
    }
}

/// The function and the offset in its space of an address.
fn place(at: PhysAddr) -> (Place, usize) {
    let offset = at.offset_from(SPACE.start()) as usize;
    assert!(offset & 0xFFF < 256, "a register past the first 256 bytes: {at}");
    let place = ((offset >> 20) as u8, (offset >> 15) as u8 & 31, (offset >> 12) as u8 & 7);
    (place, offset & 0xFFF)
}
