//! What the driver does without, what other functions have, and what an earlier kernel left.

use core::cell::Cell;
use std::string::ToString as _;

use hotmem::testing::{Bench, Setup, Tiny};
use hotmem::{PhysAddr, PhysRange};
use hotmem_hotplug::Latch;

use super::super::place::MOST_TAKEN;
use super::super::{ConfigSpace, Function, Places, Signals, silence, start_polled};
use super::{BAR_BYTES, Bars, Fake, HERE};
use crate::VirtioMemSource;
use crate::testing::Ticks;

#[test]
fn registers_that_the_driver_does_without_refuse_no_function() {
    let (fake, room) = (Fake::usual(), PhysRange::new(PhysAddr::new(0x1000_0000), 0x8000).unwrap());
    // The driver needs those in BAR 4; BAR 0 comes before it, and BAR 2 fits nowhere.
    fake.put_bar(HERE, 0, (0, 0x4000), false);
    fake.put_bar(HERE, 1, (0, 0x1000), false);
    fake.put_bar(HERE, 2, (0, 1 << 20), true);
    fake.put_bar(HERE, 4, (0, BAR_BYTES), true);
    let windows = [room];
    let mut places = Places::new(&windows);
    assert_eq!(places.place(&fake, HERE), Ok(2));
    let bars = [(0, false), (1, false), (2, true), (4, true)];
    let bars = bars.map(|(index, wide)| fake.bar(HERE, index, wide));
    assert_eq!(bars, [0x1000_4000, 0, 0, 0x1000_0000]);
    assert!(fake.transport(&Bars::default()).is_ok());
    // Without a place for BAR 4 none is taken: another function gets what there is.
    let other = Function { device: 7, ..HERE };
    let spaces = fake.0.borrow()[&(0, 3, 0)];
    fake.0.borrow_mut().insert((0, 7, 0), spaces);
    fake.put_bar(HERE, 0, (0, 0x4000), false);
    fake.put_bar(HERE, 4, (0, 0x10_0000), true);
    fake.put_bar(other, 4, (0, BAR_BYTES), true);
    let mut places = Places::new(&windows);
    let error = places.place(&fake, HERE).unwrap_err().to_string();
    assert!(error.contains("BAR 4, of 0x100000 bytes"), "{error}");
    assert_eq!(fake.bar(HERE, 0, false), 0);
    assert!(places.place(&fake, other).is_ok());
    assert_eq!(fake.bar(other, 4, true), 0x1000_0000);
}

/// A function that counts how often it is looked at.
struct Counted<'f>(&'f Fake, Cell<usize>);

impl ConfigSpace for Counted<'_> {
    fn read(&self, at: Function, offset: u8) -> u32 {
        self.1.set(self.1.get() + usize::from(at.device == 9 && offset == 0));
        self.0.read(at, offset)
    }

    fn write(&self, at: Function, offset: u8, value: u32) {
        self.0.write(at, offset, value);
    }
}

#[test]
fn other_functions_are_looked_at_once_for_all_places_and_only_so_many_of_them() {
    let at = |bus, device| Function { bus, device, function: 0 };
    let fake = Fake::default();
    for device in 0..8 {
        fake.put(at(0, device), &[(0, 0x1058_1af4)]);
        fake.put_bar(at(0, device), 0, (0, 0x1000), false);
    }
    fake.put(at(0, 9), &[(0, 0x1af4)]);
    let windows = [PhysRange::new(PhysAddr::new(0x1000_0000), 0x10_0000).unwrap()];
    let (counted, mut places) = (Counted(&fake, Cell::new(0)), Places::new(&windows));
    for device in 0..8 {
        assert_eq!(places.place_needed(&counted, at(0, device), 1), Ok(1));
        let start = 0x1000_0000 + u64::from(device) * 0x1000;
        assert_eq!(fake.bar(at(0, device), 0, false), start);
    }
    assert_eq!(counted.1.get(), 1);

    // As many buses of functions as there can be, each with six sets of registers.
    fake.put_bar(at(0, 0), 0, (0, 0x1000), false);
    fake.put(at(0, 10), &[(0, 0x8086), (0x0c, 1 << 16), (0x18, 1 << 8)]);
    for bus in 1..=6 {
        for device in 0..32 {
            let next = u32::from(bus) + 1;
            fake.put(at(bus, device), &[(0, 0x1af4)]);
            if device == 31 {
                fake.put(at(bus, 31), &[(0x0c, 1 << 16), (0x18, next << 8)]);
                continue;
            }
            for index in 0..6 {
                let place = 0x2000_0000 + (u64::from(bus) << 20 | u64::from(device) << 15);
                fake.put_bar(at(bus, device), index, (place, 0x1000), false);
            }
        }
    }
    const { assert!(6 * 31 * 6 > MOST_TAKEN) };
    let error = Places::new(&windows).place_needed(&fake, at(0, 0), 1).unwrap_err().to_string();
    assert!(error.contains("too many registers"), "{error}");
}

#[test]
fn messages_that_an_earlier_kernel_enabled_end_before_the_line_is_used() {
    let fake = Fake::usual();
    // MSI before MSI-X; both are enabled.
    fake.put(HERE, &[(0x34, 0xb0), (0xb0, 0x0081_9805), (0x98, 0xc001_8411), (0x3c, 0x010a)]);
    let signals = Signals { message: None, line: true };
    let transport = fake.transport_with(signals, &Bars::default()).unwrap();
    assert!(transport.uses_line());
    assert_eq!((fake.read(HERE, 0xb0), fake.read(HERE, 0x98)), (0x0080_9805, 0x4001_8411));
    // With messages MSI ends, too: a function uses one kind only.
    fake.put(HERE, &[(0xb0, 0x0081_9805)]);
    assert!(!fake.transport(&Bars::default()).unwrap().uses_line());
    assert_eq!((fake.read(HERE, 0xb0), fake.read(HERE, 0x98) >> 30), (0x0080_9805, 2));
    // One that is not used interrupts in no way, and accesses no memory.
    fake.put(HERE, &[(0xb0, 0x0081_9805)]);
    silence(&fake, HERE);
    assert_eq!((fake.read(HERE, 0xb0), fake.read(HERE, 0x98) >> 31), (0x0080_9805, 0));
    assert_eq!(fake.read(HERE, 4) & 0x404, 0x400);
}

#[test]
fn a_device_that_a_polling_kernel_cannot_use_is_silenced() {
    static LATCH: Latch = Latch::new();
    let ram = std::vec![(0, 8 << 20, 0)];
    let setup = Setup { ram, block: 4 << 20, window: (64 << 20, 64 << 20), kernelcore: None };
    let bench = Bench::<Tiny>::new(&setup);
    let mut source = VirtioMemSource::new(&bench.mm, Ticks::default(), &LATCH);
    let (fake, bars) = (Fake::usual(), Bars::default());
    // One offers no feature; the other has no registers.
    let other = Function { device: 5, ..HERE };
    fake.put(other, &[(0, 0x1058_1af4), (4, 7)]);
    assert_eq!(start_polled(&mut source, &fake, &[], |range| bars.map(range)), 0);
    for function in [HERE, other] {
        assert_eq!(fake.read(function, 4) & 0x404, 0x400, "{function}");
    }
}
