//! Finds the functions that are virtio-mem devices.

use super::space::{ConfigSpace, Function, read8};

/// The vendor and the device (virtio 1.2, 4.1.2): 0x1040 and the type of device, 24.
const VIRTIO_MEM: u32 = 0x1058_1af4;
const NOTHING: u32 = 0xffff_ffff;

const HEADER: u8 = 0x0e;
const HAS_FUNCTIONS: u8 = 0x80;
const BRIDGE: u8 = 1;
const SECONDARY: u8 = 0x19;

/// The functions that were found: the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    functions: [Option<Function>; super::super::source::MOST_DEVICES],
    /// How many more there are.
    pub more: usize,
}

impl Found {
    /// Each function.
    pub fn functions(&self) -> impl Iterator<Item = Function> + '_ {
        self.functions.iter().flatten().copied()
    }

    fn push(&mut self, function: Function) {
        match self.functions.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(function),
            None => self.more += 1,
        }
    }
}

/// Looks at all functions of bus 0, and of the buses behind bridges. Each bus is looked at once, whatever bridges say.
pub fn find(space: &impl ConfigSpace) -> Found {
    let mut found = Found::default();
    // Buses to look at, and those that were.
    let (mut due, mut seen) = ([0_u64; 4], [0_u64; 4]);
    due[0] = 1;
    while let Some(bus) = (0..=u8::MAX).find(|&bus| has(&due, bus) && !has(&seen, bus)) {
        add(&mut seen, bus);
        for device in 0..32 {
            let mut functions = 1;
            let mut number = 0;
            while number < functions {
                let function = Function { bus, device, function: number };
                let id = space.read(function, 0);
                if id == NOTHING {
                    // Only function 0 says how many there are: without it the slot is empty.
                    number += 1;
                    continue;
                }
                if id == VIRTIO_MEM {
                    found.push(function);
                }
                let header = read8(space, function, HEADER);
                if number == 0 && header & HAS_FUNCTIONS != 0 {
                    functions = 8;
                }
                if header & !HAS_FUNCTIONS == BRIDGE {
                    add(&mut due, read8(space, function, SECONDARY));
                }
                number += 1;
            }
        }
    }
    found
}

fn has(set: &[u64; 4], bus: u8) -> bool {
    set.get(usize::from(bus / 64)).is_some_and(|word| word & 1 << (bus % 64) != 0)
}

fn add(set: &mut [u64; 4], bus: u8) {
    if let Some(word) = set.get_mut(usize::from(bus / 64)) {
        *word |= 1 << (bus % 64);
    }
}
