//! Finds the functions that are virtio-mem devices, and the way of their interrupt lines.

use super::space::{ConfigSpace, Function, read8};

/// The vendor and the device (virtio 1.2, 4.1.2): 0x1040 and the type of device, 24.
const VIRTIO_MEM: u32 = 0x1058_1af4;
const NOTHING: u32 = 0xffff_ffff;

const HEADER: u8 = 0x0e;
const HAS_FUNCTIONS: u8 = 0x80;
const ENDPOINT: u8 = 0;
const BRIDGE: u8 = 1;
pub(super) const SECONDARY: u8 = 0x19;
/// The interrupt pin: 1 to 4, or 0 for none.
const PIN: u8 = 0x3d;
const PINS: u8 = 4;
/// Bridges one behind the other: more than machines have.
pub(super) const DEEPEST: u8 = 16;

/// The functions that were found: the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    functions: [Option<Function>; super::super::pieces::MOST_DEVICES],
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

/// Looks at all functions of bus 0, and of the buses behind bridges.
pub fn find(space: &impl ConfigSpace) -> Found {
    let mut found = Found::default();
    each(space, |function, kind| {
        // What would be registers of a device are buses and windows of a bridge.
        if kind == Kind::Endpoint && space.read(function, 0) == VIRTIO_MEM {
            found.push(function);
        }
    });
    found
}

/// The device on bus 0 that the interrupt pin of a function reaches, and the pin there (0 is INTA): each bridge on the way
/// rotates the pins of its bus (PCI-to-PCI Bridge 1.2, 9.1). `None` if the function has no pin, or no bridge leads to it.
pub fn root_pin(space: &impl ConfigSpace, function: Function) -> Option<(u8, u8)> {
    let mut pin = read8(space, function, PIN).checked_sub(1).filter(|&pin| pin < PINS)?;
    let mut at = function;
    for _ in 0..=DEEPEST {
        if at.bus == 0 {
            return Some((at.device, pin));
        }
        pin = (pin + at.device) % PINS;
        at = bridge_to(space, at.bus)?;
    }
    None
}

/// The first bridge to a bus.
pub(super) fn bridge_to(space: &impl ConfigSpace, bus: u8) -> Option<Function> {
    let mut bridge = None;
    each(space, |function, kind| {
        if kind == Kind::Bridge && read8(space, function, SECONDARY) == bus {
            bridge = bridge.or(Some(function));
        }
    });
    bridge
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A device.
    Endpoint,
    /// A bridge to another bus.
    Bridge,
    /// Something else.
    Other,
}

/// Visits each function of bus 0, and of the buses behind bridges. Each bus is looked at once, whatever bridges say.
pub(super) fn each(space: &impl ConfigSpace, mut visit: impl FnMut(Function, Kind)) {
    // Buses to look at, and those that were.
    let (mut due, mut seen) = ([0_u64; 4], [0_u64; 4]);
    due[0] = 1;
    while let Some(bus) = (0..=u8::MAX).find(|&bus| has(&due, bus) && !has(&seen, bus)) {
        add(&mut seen, bus);
        on_bus(space, bus, &mut |function, kind| {
            if kind == Kind::Bridge {
                add(&mut due, read8(space, function, SECONDARY));
            }
            visit(function, kind);
        });
    }
}

/// Visits each function of a bus.
pub(super) fn on_bus(space: &impl ConfigSpace, bus: u8, visit: &mut dyn FnMut(Function, Kind)) {
    for device in 0..32 {
        let mut functions = 1;
        let mut number = 0;
        while number < functions {
            let function = Function { bus, device, function: number };
            number += 1;
            if space.read(function, 0) == NOTHING {
                // Only function 0 says how many there are: without it the slot is empty.
                continue;
            }
            let header = read8(space, function, HEADER);
            if function.function == 0 && header & HAS_FUNCTIONS != 0 {
                functions = 8;
            }
            let kind = match header & !HAS_FUNCTIONS {
                ENDPOINT => Kind::Endpoint,
                BRIDGE => Kind::Bridge,
                _ => Kind::Other,
            };
            visit(function, kind);
        }
    }
}

fn has(set: &[u64; 4], bus: u8) -> bool {
    set.get(usize::from(bus / 64)).is_some_and(|word| word & 1 << (bus % 64) != 0)
}

fn add(set: &mut [u64; 4], bus: u8) {
    if let Some(word) = set.get_mut(usize::from(bus / 64)) {
        *word |= 1 << (bus % 64);
    }
}
