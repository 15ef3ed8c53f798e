//! Functions as they should be, and as they should not.

use core::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::string::ToString as _;
use std::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

use super::{ConfigSpace, Function, Message, PciError, PciTransport, Registers, find, line_of};
use crate::{Rings, Transport as _};

const HERE: Function = Function { bus: 0, device: 3, function: 0 };
const MESSAGE: Message = Message { address: 0xfee0_0000, data: 0x25 };
/// A BAR above 4 GiB.
const BAR: u64 = 0x38_0000_0000;
const BAR_BYTES: u64 = 0x4000;

/// Configuration spaces.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Spaces>>);

/// The words of each function.
type Spaces = BTreeMap<(u8, u8, u8), [u32; 64]>;

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
        let decodes = words[1] & 3 != 0;
        words[index] = match offset {
            // BAR 4 and 5 are one of 16 KiB; bits below its size cannot be set.
            0x20 => {
                assert!(!decodes, "a BAR is changed while it is decoded");
                value & !(BAR_BYTES as u32 - 1) | 0xc
            }
            0x10..0x28 => words[index],
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

    /// A device as QEMU has it: registers in BAR 4, messages in BAR 1.
    fn usual() -> Self {
        let this = Self::default();
        let id = 0x1058_1af4;
        this.put(HERE, &[(0, id), (4, 0x0010_0003), (0x14, 0xfebd_0000), (0x34, 0x98)]);
        this.put(HERE, &[(0x20, BAR as u32 | 0xc), (0x24, (BAR >> 32) as u32)]);
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
        PciTransport::new(self, HERE, Some(MESSAGE), |range| bars.map(range))
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

impl Mapped {
    fn get(&self, offset: usize, bytes: u64) -> u64 {
        assert!(offset as u64 + bytes <= self.1.len() && (offset as u64).is_multiple_of(bytes));
        let memory = self.0.0.borrow();
        let at = self.1.start().get() + offset as u64;
        let byte = |n| u64::from(*memory.get(&(at + n)).unwrap_or(&0)) << (8 * n);
        (0..bytes).map(byte).sum()
    }

    fn put(&self, offset: usize, bytes: u64, value: u64) {
        self.get(offset, bytes);
        let at = self.1.start().get() + offset as u64;
        let mut memory = self.0.0.borrow_mut();
        memory.extend((0..bytes).map(|n| (at + n, (value >> (8 * n)) as u8)));
    }
}

impl Registers for Mapped {
    fn read8(&self, offset: usize) -> u8 {
        self.get(offset, 1) as u8
    }
    fn read16(&self, offset: usize) -> u16 {
        self.get(offset, 2) as u16
    }
    fn read32(&self, offset: usize) -> u32 {
        self.get(offset, 4) as u32
    }
    fn write8(&self, offset: usize, value: u8) {
        self.put(offset, 1, value.into());
    }
    fn write16(&self, offset: usize, value: u16) {
        self.put(offset, 2, value.into());
    }
    fn write32(&self, offset: usize, value: u32) {
        self.put(offset, 4, value.into());
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
    let mut transport = fake.transport(&bars).unwrap();
    assert!(!transport.uses_line());
    let starts: Vec<_> = bars.1.borrow().iter().map(|range| range.start().get()).collect();
    assert_eq!(starts, [BAR, BAR + 0x2000, BAR + 0x3000, 0xfebd_0000]);
    assert_eq!(fake.read(HERE, 4) & 0x406, 0x406);
    let table = bars.map(PhysRange::new(PhysAddr::new(0xfebd_0000), 16).unwrap()).unwrap();
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
    let cases: [(&[(u8, u32)], &str); 12] = [
        (&[(4, 3)], "no registers for the queue"),
        (&[(0x34, 0)], "no registers for the queue"),
        // Lists that never end.
        (&[(0x98, 0x0001_9811)], "no registers for the queue"),
        (&[(0x84, 0x0214_8409)], "no registers for the queue"),
        (&[(0x50, 0x010f_4009)], "no registers for the queue"),
        (&[(0x84, 0x0210_7009)], "no registers for notifications"),
        (&[(0x54, 6)], "BAR 6, which does not exist"),
        (&[(0x54, 5)], "BAR 5, which does not exist"),
        (&[(0x54, 0)], "BAR 0, which has no memory address"),
        (
            &[(0x58, u32::MAX - 0xfff), (0x5c, 0x1000)],
            "0x1000 bytes at 0xfffff000 of a BAR of 0x4000",
        ),
        (&[(0x5c, 0x30)], "0x30 bytes at 0x0 of a BAR"),
        (&[(0x78, 0x2002)], "at 0x2002 of a BAR"),
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
    let error = PciTransport::<Mapped>::new(&fake, HERE, None, |_| None).map(drop).unwrap_err();
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
            let mut transport = fake.transport(&bars).unwrap();
            assert!(transport.set_queue(0, 2, rings()));
            let uses = connected.is_some();
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
    assert!(!fake.transport(&bars).unwrap().uses_line());
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
