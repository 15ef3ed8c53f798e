//! Functions as they should be, and as they should not.

mod bridges;
mod others;

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::string::ToString as _;
use std::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

use super::{
    ConfigSpace, Function, Message, NoPlace, PciError, PciTransport, Places, Registers, Signals,
    Width, find, line_of, root_pin,
};
use crate::{Rings, Transport as _};

const HERE: Function = Function { bus: 0, device: 3, function: 0 };
const MESSAGE: Message = Message { address: 0xfee0_0000, data: 0x25 };
/// A BAR above 4 GiB.
const BAR: u64 = 0x38_0000_0000;
const BAR_BYTES: u64 = 0x4000;

/// Configuration spaces, and the bits of BARs that can be set.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Spaces>>, Rc<RefCell<Masks>>);

/// The words of each function.
type Spaces = BTreeMap<(u8, u8, u8), [u32; 64]>;
type Masks = BTreeMap<(u8, u8, u8, u8), u32>;

impl ConfigSpace for Fake {
    fn read(&self, at: Function, offset: u8) -> u32 {
        assert!(offset.is_multiple_of(4));
        let spaces = self.0.borrow();
        let words = spaces.get(&(at.bus, at.device, at.function));
        words.map_or(u32::MAX, |words| words[usize::from(offset / 4)])
    }

    fn write(&self, at: Function, offset: u8, value: u32) {
        let mut spaces = self.0.borrow_mut();
        let words = spaces.get_mut(&(at.bus, at.device, at.function)).unwrap();
        let index = usize::from(offset / 4);
        let (decodes, is_bridge) = (words[1] & 3 != 0, words[3] >> 16 & 0x7f == 1);
        words[index] = match offset {
            // A bridge has two.
            0x10..0x28 if offset < 0x18 || !is_bridge => {
                assert!(!decodes, "a BAR is changed while it is decoded");
                // Bits below its size cannot be set.
                let mask = self.1.borrow().get(&(at.bus, at.device, at.function, offset)).copied();
                mask.map_or(words[index], |mask| value & mask | words[index] & 0xf & !mask)
            }
            // Zeros leave the status as it is.
            4 => words[index] & 0xffff_0000 | value & 0xffff,
            _ => value,
        };
    }
}

impl Fake {
    fn put(&self, at: Function, words: &[(u8, u32)]) {
        let mut spaces = self.0.borrow_mut();
        let space = spaces.entry((at.bus, at.device, at.function)).or_insert([0; 64]);
        words.iter().for_each(|&(offset, word)| space[usize::from(offset / 4)] = word);
    }

    /// Gives a function a BAR of memory, of so many bytes, at an address.
    fn put_bar(&self, at: Function, index: u8, (start, bytes): (u64, u64), wide: bool) {
        let (offset, kind) = (0x10 + 4 * index, if wide { 0xc } else { 0 });
        let mask = !(bytes - 1);
        let put = |offset, mask: u64, word: u64| {
            self.put(at, &[(offset, word as u32)]);
            self.1.borrow_mut().insert((at.bus, at.device, at.function, offset), mask as u32);
        };
        put(offset, mask, start | kind);
        if wide {
            put(offset + 4, mask >> 32, start >> 32);
        }
    }

    /// The address in a BAR.
    fn bar(&self, at: Function, index: u8, wide: bool) -> u64 {
        let offset = 0x10 + 4 * index;
        let high = if wide { self.read(at, offset + 4) } else { 0 };
        u64::from(high) << 32 | u64::from(self.read(at, offset) & !0xf)
    }

    /// A device as QEMU has it: registers in BAR 4, messages in BAR 1.
    fn usual() -> Self {
        let this = Self::default();
        let id = 0x1058_1af4;
        this.put(HERE, &[(0, id), (4, 0x0010_0003), (0x14, 0xfebd_0000), (0x34, 0x98)]);
        this.put_bar(HERE, 4, (BAR, BAR_BYTES), true);
        // MSI-X with two entries, at 0 of BAR 1.
        this.put(HERE, &[(0x98, 0x0001_8411), (0x9c, 1), (0xa0, 0x801)]);
        let capability = |at: u8, next: u8, len: u8, kind: u8, offset: u32, bytes: u32| {
            let first = 9 | u32::from(next) << 8 | u32::from(len) << 16 | u32::from(kind) << 24;
            this.put(HERE, &[(at, first), (at + 4, 4), (at + 8, offset), (at + 12, bytes)]);
        };
        capability(0x84, 0x70, 20, 2, 0x3000, 0x1000);
        this.put(HERE, &[(0x94, 4)]);
        capability(0x70, 0x60, 16, 4, 0x2000, 0x1000);
        capability(0x60, 0x50, 16, 3, 0x1000, 0x1000);
        capability(0x50, 0x40, 16, 1, 0, 0x1000);
        // Another way to the same registers, which is not used.
        capability(0x40, 0, 20, 5, 0, 0);
        this
    }

    fn transport(&self, bars: &Bars) -> Result<PciTransport<Mapped>, PciError> {
        self.transport_with(Signals { message: Some(MESSAGE), line: false }, bars)
    }

    fn transport_with(
        &self,
        signals: Signals,
        bars: &Bars,
    ) -> Result<PciTransport<Mapped>, PciError> {
        PciTransport::new(self, HERE, signals, |range| bars.map(range))
    }
}

/// Memory behind the BARs, by address.
#[derive(Clone, Default)]
struct Bars(Rc<RefCell<BTreeMap<u64, u8>>>, Rc<RefCell<Vec<PhysRange>>>);

struct Mapped(Bars, PhysRange);

impl Bars {
    fn map(&self, range: PhysRange) -> Option<Mapped> {
        self.1.borrow_mut().push(range);
        Some(Mapped(self.clone(), range))
    }
}

impl Registers for Mapped {
    fn read(&self, offset: usize, width: Width) -> u32 {
        let bytes = width.bytes();
        assert!(offset as u64 + bytes <= self.1.len() && (offset as u64).is_multiple_of(bytes));
        let memory = self.0.0.borrow();
        let at = self.1.start().get() + offset as u64;
        let byte = |n| u32::from(*memory.get(&(at + n)).unwrap_or(&0)) << (8 * n);
        (0..bytes).map(byte).sum()
    }

    fn write(&self, offset: usize, width: Width, value: u32) {
        self.read(offset, width);
        let at = self.1.start().get() + offset as u64;
        let mut memory = self.0.0.borrow_mut();
        memory.extend((0..width.bytes()).map(|n| (at + n, (value >> (8 * n)) as u8)));
    }
}

fn rings() -> Rings {
    let [descriptors, available, used] =
        [0x1_2345_6000, 0x1_2345_6020, 0x1_2345_6040].map(PhysAddr::new);
    Rings { descriptors, available, used }
}

#[test]
fn the_registers_of_a_device_are_where_its_capabilities_say() {
    let (fake, bars) = (Fake::usual(), Bars::default());
    // BAR 1 is not of a size that the fake changes: its lowest bit that stays is its size.
    // The message is masked at first.
    let table = bars.map(PhysRange::new(PhysAddr::new(0xfebd_0000), 16).unwrap()).unwrap();
    table.write32(12, 1);
    bars.1.borrow_mut().clear();
    let mut transport = fake.transport(&bars).unwrap();
    assert!(!transport.uses_line());
    let starts: Vec<_> = bars.1.borrow().iter().map(|range| range.start().get()).collect();
    assert_eq!(starts, [BAR, BAR + 0x2000, BAR + 0x3000, 0xfebd_0000]);
    assert_eq!(fake.read(HERE, 4) & 0x406, 0x406);
    assert_eq!([0, 4, 8, 12].map(|at| table.read32(at)), [0xfee0_0000, 0, 0x25, 0]);
    assert_eq!(fake.read(HERE, 0x98) >> 30, 2);

    let common = bars.map(PhysRange::new(PhysAddr::new(BAR), 64).unwrap()).unwrap();
    common.write16(30, 5);
    assert!(transport.set_queue(0, 2, rings()));
    assert!(transport.interrupts());
    assert_eq!([32, 36].map(|at| common.read32(at)), [0x2345_6000, 1]);
    assert_eq!((common.read16(24), common.read16(26), common.read16(28)), (2, 0xffff, 1));
    transport.notify(7);
    let notify = bars.map(PhysRange::new(PhysAddr::new(BAR + 0x3000), 0x1000).unwrap()).unwrap();
    assert_eq!(notify.read16(5 * 4), 7);
    let device = bars.map(PhysRange::new(PhysAddr::new(BAR + 0x2000), 0x1000).unwrap()).unwrap();
    device.write32(48, 0xabcd);
    assert_eq!(transport.config(48), 0xabcd);
    transport.set_status(15);
    assert_eq!((common.read16(16), common.read8(20)), (0, 15));
    transport.silence();
    assert_eq!((common.read16(16), common.read8(20)), (0xffff, 0));
}

#[test]
fn a_notification_outside_of_its_registers_is_never_made() {
    for (queue, multiplier, good) in [
        (0x3ff, 4, true),
        (0x400, 4, false),
        (0xffff, u32::MAX, false),
        (1, 1, false),
        (9, 0, true),
    ] {
        let (fake, bars) = (Fake::usual(), Bars::default());
        fake.put(HERE, &[(0x94, multiplier)]);
        let mut transport = fake.transport(&bars).unwrap();
        let common = bars.map(PhysRange::new(PhysAddr::new(BAR), 64).unwrap()).unwrap();
        common.write16(30, queue);
        assert_eq!(transport.set_queue(0, 2, rings()), good, "{queue:#x} {multiplier:#x}");
        transport.notify(0);
    }
}

#[test]
fn a_function_that_cannot_be_used_is_named_and_keeps_its_addresses() {
    let cases: [(&[(u8, u32)], &str); 14] = [
        (&[(4, 3)], "no registers for the queue"),
        (&[(0x34, 0)], "no registers for the queue"),
        // Lists that never end.
        (&[(0x98, 0x0001_9811)], "no registers for the queue"),
        (&[(0x84, 0x0214_8409)], "no registers for the queue"),
        (&[(0x50, 0x010f_4009)], "no registers for the queue"),
        (&[(0x84, 0x0210_7009)], "no registers for notifications"),
        (&[(0x54, 6)], "BAR 6, which does not exist"),
        (&[(0x54, 0xff)], "BAR 255, which does not exist"),
        (&[(0x54, 5)], "BAR 5, which does not exist"),
        (&[(0x54, 0)], "BAR 0, which has no memory address"),
        (
            &[(0x58, u32::MAX - 0xfff), (0x5c, 0x1000)],
            "0x1000 bytes at 0xfffff000 of a BAR of 0x4000",
        ),
        (&[(0x5c, 0x30)], "0x30 bytes at 0x0 of a BAR"),
        (&[(0x78, 0x2002)], "at 0x2002 of a BAR"),
        (&[(0x90, 0x1001)], "0x1001 bytes at 0x3000 of a BAR of 0x4000"),
    ];
    for (words, name) in cases {
        let (fake, bars) = (Fake::usual(), Bars::default());
        fake.put(HERE, words);
        let before = fake.0.borrow().clone();
        let error = fake.transport(&bars).map(drop).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(*fake.0.borrow(), before, "{error}");
    }
    let fake = Fake::usual();
    let error = PciTransport::<Mapped>::new(&fake, HERE, Signals::default(), |_| None)
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("cannot be mapped"), "{error}");
}

#[test]
fn a_device_without_messages_interrupts_by_its_line_if_firmware_connected_it() {
    // No capability; a table in a BAR that has no address; one past the end.
    let cases: [&[(u8, u32)]; 3] = [&[(0x98, 0x0001_8412)], &[(0x9c, 3)], &[(0x9c, 0x4004)]];
    for words in cases {
        for (line, connected) in
            [(0x010a, Some(10)), (0x0100, None), (0x01ff, None), (0x000a, None), (0x050a, None)]
        {
            let (fake, bars) = (Fake::usual(), Bars::default());
            fake.put(HERE, words);
            fake.put(HERE, &[(0x3c, line)]);
            assert_eq!(line_of(&fake, HERE), connected);
            let uses = connected.is_some();
            let signals = Signals { message: Some(MESSAGE), line: uses };
            let mut transport = fake.transport_with(signals, &bars).unwrap();
            assert!(transport.set_queue(0, 2, rings()));
            assert_eq!((transport.interrupts(), transport.uses_line()), (uses, uses));
            assert_eq!(fake.read(HERE, 4) & 0x400 == 0, uses);
            transport.acknowledge();
            transport.give_up_line(&fake, HERE);
            assert!(transport.set_queue(0, 2, rings()) && !transport.interrupts());
            assert_eq!(fake.read(HERE, 4) & 0x400, 0x400);
        }
    }
    // The register that releases the line is outside of its BAR.
    let (fake, bars) = (Fake::usual(), Bars::default());
    fake.put(HERE, &[(0x98, 0x0001_8412), (0x3c, 0x010a), (0x68, 0x4000)]);
    let signals = Signals { message: Some(MESSAGE), line: true };
    assert!(!fake.transport_with(signals, &bars).unwrap().uses_line());
}

#[test]
fn devices_are_found_behind_bridges_and_each_bus_is_looked_at_once() {
    let fake = Fake::default();
    let at = |bus, device, function| Function { bus, device, function };
    let id = (0, 0x1058_1af4);
    let bridge =
        |header: u32, secondary: u32| [(0, 0x8086), (0x0c, header << 16), (0x18, secondary << 8)];
    fake.put(at(0, 1, 0), &bridge(0x81, 5));
    fake.put(at(0, 1, 3), &[id]);
    fake.put(at(0, 2, 0), &[(0, 0x1041_1af4)]);
    // Only a device that says so has more functions.
    fake.put(at(0, 2, 1), &[id]);
    fake.put(at(5, 0, 0), &[id]);
    // Bridges to buses that are known, and to itself.
    fake.put(at(5, 1, 0), &bridge(1, 0));
    fake.put(at(5, 2, 0), &bridge(1, 5));
    fake.put(at(5, 3, 0), &bridge(1, 200));
    fake.put(at(200, 31, 0), &[id]);
    let found = find(&fake);
    let functions: Vec<_> = found.functions().collect();
    assert_eq!(functions, [at(0, 1, 3), at(5, 0, 0), at(200, 31, 0)]);
    assert_eq!(found.more, 0);
    (0..20).for_each(|device| fake.put(at(200, device, 0), &[id]));
    assert_eq!(find(&fake).more, 15);
    assert_eq!(find(&Fake::default()).functions().count(), 0);
    assert_eq!(at(5, 0, 1).to_string(), "05:00.1");
}

#[test]
fn a_line_is_rotated_by_each_bridge_on_the_way_to_bus_0() {
    let fake = Fake::default();
    let at = |bus, device| Function { bus, device, function: 0 };
    let bridge = |to: u32| [(0, 0x8086), (0x0c, 1 << 16), (0x18, to << 8)];
    let pin = |pin: u32| [(0, 0x1af4), (0x3c, pin << 8)];
    fake.put(at(0, 3), &pin(2));
    fake.put(at(0, 6), &bridge(4));
    fake.put(at(4, 2), &bridge(7));
    fake.put(at(4, 5), &pin(1));
    fake.put(at(7, 3), &pin(4));
    fake.put(at(7, 4), &pin(5));
    fake.put(at(7, 5), &pin(0));
    // A bus that no bridge leads to.
    fake.put(at(9, 0), &pin(1));
    let found = [at(0, 3), at(4, 5), at(7, 3)].map(|function| root_pin(&fake, function));
    assert_eq!(found, [Some((3, 1)), Some((6, 1)), Some((6, 0))]);
    assert_eq!([at(7, 4), at(7, 5), at(9, 0)].map(|function| root_pin(&fake, function)), [None; 3]);
    // As many bridges as are followed, and one more.
    (20..37).for_each(|bus| fake.put(at(bus - 1, 0), &bridge(bus.into())));
    fake.put(at(0, 9), &bridge(20));
    [35, 36].into_iter().for_each(|bus| fake.put(at(bus, 8), &pin(1)));
    assert_eq!([35, 36].map(|bus| root_pin(&fake, at(bus, 8))), [Some((9, 0)), None]);
    // A bridge to the bus that it is on.
    fake.put(at(7, 0), &bridge(4));
    fake.put(at(0, 6), &[(0, u32::MAX)]);
    assert_eq!(root_pin(&fake, at(4, 5)), None);
}

/// Places all registers of a function, as if all of them were needed.
fn place(fake: &Fake, function: Function, windows: &[PhysRange]) -> Result<usize, PciError> {
    Places::new(windows).place_needed(fake, function, 0x3f)
}

#[test]
fn registers_without_an_address_get_one_where_no_others_are() {
    let at = |device, header: u32| {
        (Function { bus: 0, device, function: 0 }, [(0, 0x1af4), (0x0c, header << 16)])
    };
    let fake = Fake::default();
    let [(device, id), (other, other_id), (bridge, bridge_id)] = [at(3, 0), at(4, 0), at(5, 1)];
    fake.put(device, &id);
    fake.put(device, &[(4, 0x0010_0003)]);
    fake.put_bar(device, 0, (0, 0x1000), false);
    fake.put_bar(device, 1, (0, 0x1000), false);
    fake.put_bar(device, 2, (0, 0x4000), true);
    fake.put_bar(device, 4, (0x1000_9000, 0x1000), true);
    fake.put(other, &other_id);
    fake.put_bar(other, 0, (0x1000_0000, 0x2000), false);
    // Ports, which are nowhere in memory.
    fake.put(other, &[(0x14, 0x1000_2001)]);
    // A bridge with a window of each kind: the lower half of the second is that of the first window.
    fake.put(bridge, &bridge_id);
    fake.put(bridge, &[(0x20, 0x1020_1010), (0x24, 0x2011_1001), (0x28, 0x80), (0x2c, 0x80)]);
    let range = |start, len| PhysRange::new(PhysAddr::new(start), len).unwrap();

    let windows = [range(0, 0), range(0x1000_0000, 0x20_0000), range(0x80_0000_0000, 0x4000_0000)];
    let (bytes, why) = (0x1000, NoPlace::NoRoom);
    let refused = Err(PciError::NoPlace { bar: 0, bytes, why });
    assert_eq!(place(&fake, device, &windows[..1]), refused);
    assert_eq!(place(&fake, device, &windows[..2]), Ok(3));
    // Past those of the other function, and of its own.
    let placed = [(0, false), (1, false), (2, true), (4, true)];
    let placed = placed.map(|(bar, wide)| fake.bar(device, bar, wide));
    assert_eq!(placed, [0x1000_2000, 0x1000_3000, 0x1000_4000, 0x1000_9000]);
    assert_eq!((fake.read(device, 0x14) & 0xf, fake.read(device, 0x18) & 0xf), (0, 0xc));
    // It does not decode addresses until it is used, and is left alone once it has them.
    assert_eq!(fake.read(device, 4) & 3, 0);
    assert_eq!(place(&fake, device, &[]), Ok(0));

    // Only one that is wide can be above 4 GiB.
    fake.put_bar(device, 2, (0, 0x20_0000), true);
    assert_eq!(place(&fake, device, &windows[2..]), Ok(1));
    // Not where the bridge's second window is, which begins and ends in upper halves.
    assert_eq!(fake.bar(device, 2, true), 0x80_0000_0000);
    fake.put_bar(device, 2, (0, 0x20_0000), true);
    assert_eq!(place(&fake, device, &[range(0x80_1000_0000, 0x4000_0000)]), Ok(1));
    assert_eq!(fake.bar(device, 2, true), 0x80_2020_0000);
    fake.put_bar(device, 1, (0, 0x1000), false);
    let error = place(&fake, device, &windows[2..]).unwrap_err();
    assert!(error.to_string().contains("BAR 1, of 0x1000 bytes"), "{error}");
    // What would pass the end of a window is not placed there.
    fake.put_bar(device, 1, (0, 0x10_0000), false);
    assert!(place(&fake, device, &windows[1..2]).is_err());
    assert_eq!(place(&fake, device, &[range(0x1000_0000, 0x40_0000)]), Ok(1));
    assert_eq!(fake.bar(device, 1, false), 0x1030_0000);

    // On a bus that no bridge leads to nothing is placed.
    let behind = Function { bus: 5, ..device };
    fake.put(behind, &id);
    fake.put_bar(behind, 1, (0, 0x1000), false);
    let error = place(&fake, behind, &windows).unwrap_err().to_string();
    assert!(error.contains("BAR 1") && error.contains("no bridge leads to"), "{error}");
    fake.put_bar(device, 1, (0, 0x1000), false);
    let error = place(&fake, device, &[]).unwrap_err().to_string();
    assert!(error.contains("firmware describes no window"), "{error}");
}

#[test]
fn a_bridge_that_forwards_all_addresses_leaves_no_place_and_does_not_hang_the_search() {
    let at = |device| Function { bus: 0, device, function: 0 };
    let (device, bridge, all) = (at(3), at(5), PhysRange::new(PhysAddr::new(0), u64::MAX).unwrap());
    // Up to the last byte, from 1 MiB on, below which it forwards memory; and from 4 GiB on.
    for (window, upper) in [(0xfff1_0011, 0), (0xfff1_0001, 1)] {
        let fake = Fake::default();
        fake.put(bridge, &[(0, 0x1af4), (0x0c, 1 << 16)]);
        fake.put(bridge, &[(0x24, window), (0x28, upper), (0x2c, u32::MAX)]);
        fake.put(device, &[(0, 0x1058_1af4)]);
        fake.put_bar(device, 0, (0, 0x1000), true);
        fake.put_bar(device, 2, (0, 1 << 33), true);
        let high = PhysRange::new(PhysAddr::new(0x1000_0000), u64::MAX - 0x1000_0000).unwrap();
        let no_place = if upper == 0 { 0x1000 } else { 1 << 33 };
        for window in [all, high] {
            let (bar, why) = (if upper == 0 { 0 } else { 2 }, NoPlace::NoRoom);
            let refused = PciError::NoPlace { bar, bytes: no_place, why };
            assert_eq!(place(&fake, device, &[window]), Err(refused));
            // Of two sets of registers that do not fit both, neither is placed.
            assert_eq!((fake.bar(device, 0, true), fake.bar(device, 2, true)), (0, 0));
        }
    }
}

#[test]
fn a_bridge_that_says_it_is_a_memory_device_is_not_used_as_one() {
    let fake = Fake::usual();
    assert_eq!(find(&fake).functions().collect::<Vec<_>>(), [HERE]);
    fake.put(HERE, &[(0x0c, 1 << 16)]);
    assert_eq!(find(&fake).functions().count(), 0);
}

#[test]
fn a_size_of_registers_that_no_address_space_has_is_refused() {
    let fake = Fake::default();
    fake.put(HERE, &[(0, 0x1058_1af4)]);
    fake.put_bar(HERE, 0, (0, 1 << 63), true);
    let all = PhysRange::new(PhysAddr::new(0), u64::MAX).unwrap();
    let refused = PciError::NoPlace { bar: 0, bytes: 1 << 63, why: NoPlace::NoRoom };
    assert_eq!(place(&fake, HERE, &[all]), Err(refused));
    // No bit can be set: it has no size.
    fake.put_bar(HERE, 0, (0, 1 << 63), true);
    fake.1.borrow_mut().values_mut().for_each(|mask| *mask = 0);
    assert_eq!(place(&fake, HERE, &[all]), Ok(0));
}
