//! Bridges that nobody has set up: buses get numbers, and windows that are inside one another.

use std::collections::BTreeMap;
use std::string::ToString as _;
use std::vec::Vec;

use hotmem::{PhysAddr, PhysRange};

use super::super::{
    ConfigSpace, Function, PciError, PciTransport, Places, Signals, find, number_buses, root_pin,
};
use super::{Bars, Fake};

const MIB: u64 = 1 << 20;
const FIRST: u64 = 0x1000_0000;

/// Wires, each of which leads from a bridge, on a wire of its own, to what is on it. Which bus a wire is, bridges say.
#[derive(Default)]
struct Tree {
    fake: Fake,
    bridges: BTreeMap<u8, Function>,
    /// Registers that cannot be written.
    fixed: Vec<(Function, u8)>,
}

fn at(bus: u8, device: u8) -> Function {
    Function { bus, device, function: 0 }
}

impl Tree {
    /// Adds a bridge to a wire.
    fn bridge(&mut self, bridge: Function, to: u8) {
        self.fake.put(bridge, &[(0, 0x000c_1b36), (4, 0), (0x0c, 1 << 16)]);
        self.fake.put(bridge, &[(0x18, 0xaa00_0000), (0x20, 0xfff0), (0x24, 0x1_fff1)]);
        self.bridges.insert(to, bridge);
    }

    /// Adds a memory device with registers in BAR 4, which it needs.
    fn device(&self, function: Function, bytes: u64) {
        self.fake.put(function, &[(0, 0x1058_1af4), (4, 0), (0x3c, 0x100)]);
        self.fake.put_bar(function, 4, (0, bytes), true);
    }

    fn buses(&self, bridge: Function) -> [u8; 4] {
        self.fake.read(bridge, 0x18).to_le_bytes()
    }

    /// The wire that a bus is, if all bridges on the way lead there.
    fn wire(&self, bus: u8) -> Option<u8> {
        if bus == 0 {
            return Some(0);
        }
        let leads = |bridge: &Function| {
            let [_, first, last, _] = self.buses(*bridge);
            (first..=last).contains(&bus)
        };
        let mut found = self.bridges.iter().filter(|(_, bridge)| self.buses(**bridge)[1] == bus);
        let (&wire, bridge) = found.next()?;
        let mut way = Some(bridge);
        while let Some(bridge) = way {
            if !leads(bridge) {
                return None;
            }
            way = self.bridges.get(&bridge.bus);
        }
        Some(wire)
    }

    fn window(&self, bridge: Function) -> Option<(u64, u64)> {
        let word = self.fake.read(bridge, 0x20);
        let (start, end) = (word & 0xfff0, (word >> 16 & 0xfff0) + 0x10);
        let forwards = self.fake.read(bridge, 4) & 2 != 0 && start < end;
        forwards.then_some((u64::from(start) << 16, u64::from(end) << 16))
    }
}

impl ConfigSpace for Tree {
    fn read(&self, at: Function, offset: u8) -> u32 {
        self.wire(at.bus).map_or(u32::MAX, |bus| self.fake.read(Function { bus, ..at }, offset))
    }

    fn write(&self, at: Function, offset: u8, value: u32) {
        let Some(bus) = self.wire(at.bus) else { return };
        let at = Function { bus, ..at };
        if !self.fixed.contains(&(at, offset)) {
            self.fake.write(at, offset, value);
        }
    }
}

/// Places all memory devices, in 16 MiB.
fn place(tree: &Tree) -> Vec<Result<usize, PciError>> {
    let windows = [PhysRange::new(PhysAddr::new(FIRST), 16 * MIB).unwrap()];
    let mut places = Places::new(&windows);
    find(tree).functions().map(|one| places.place_needed(tree, one, 1 << 4)).collect()
}

/// Bridges on bus 0, one with two more behind it, and a device on each wire.
fn tree() -> Tree {
    let mut tree = Tree::default();
    for (bridge, to) in [(at(0, 1), 1), (at(1, 0), 2), (at(1, 3), 3), (at(0, 2), 4)] {
        tree.bridge(bridge, to);
    }
    (0..=4).for_each(|wire| tree.device(at(wire, 8), 0x4000));
    tree
}

#[test]
fn buses_are_numbered_depth_first_and_all_devices_are_found() {
    let tree = tree();
    assert_eq!(find(&tree).functions().count(), 1);
    number_buses(&tree, 255);
    let numbers = [at(0, 1), at(1, 0), at(1, 3), at(0, 2)].map(|bridge| tree.buses(bridge));
    assert_eq!(numbers, [[0, 1, 3, 0xaa], [1, 2, 2, 0xaa], [1, 3, 3, 0xaa], [0, 4, 4, 0xaa]]);
    let found: Vec<_> = find(&tree).functions().collect();
    assert_eq!(found, [0, 1, 2, 3, 4].map(|bus| at(bus, 8)));
    // Device 8 of a bus is on the pin of its bridge, which is at 3 on the next one.
    assert_eq!(root_pin(&tree, at(3, 8)), Some((1, 3)));
    // Again, nothing is left to do.
    let before = tree.fake.0.borrow().clone();
    number_buses(&tree, 255);
    assert_eq!(*tree.fake.0.borrow(), before);
}

#[test]
fn windows_are_inside_one_another_and_what_is_beside_them_is_not_in_them() {
    let tree = tree();
    number_buses(&tree, 255);
    assert_eq!(place(&tree), [Ok(1), Ok(1), Ok(1), Ok(1), Ok(1)]);
    let [outer, left, right, other] =
        [at(0, 1), at(1, 0), at(1, 3), at(0, 2)].map(|bridge| tree.window(bridge).unwrap());
    let inside = |(start, end): (u64, u64), (from, to): (u64, u64)| from <= start && end <= to;
    let apart = |one: (u64, u64), two: (u64, u64)| one.1 <= two.0 || two.1 <= one.0;
    assert!(inside(left, outer) && inside(right, outer) && apart(left, right));
    assert!(apart(outer, other));
    let bars = [0, 1, 2, 3, 4].map(|wire| {
        let start = tree.fake.bar(at(wire, 8), 4, true);
        (start, start + 0x4000)
    });
    assert!(inside(bars[1], outer) && inside(bars[2], left) && inside(bars[3], right));
    assert!(inside(bars[4], other) && [outer, other].iter().all(|one| apart(bars[0], *one)));
    assert!(apart(bars[1], left) && apart(bars[1], right));
    // The other window of each is closed.
    assert_eq!([at(0, 1), at(1, 3)].map(|bridge| tree.fake.read(bridge, 0x24)), [0xfff0; 2]);
    // In a window that is open there is room for another.
    tree.device(at(4, 9), 0x8000);
    assert_eq!(place(&tree), [Ok(0), Ok(0), Ok(0), Ok(0), Ok(0), Ok(1)]);
    assert!(inside((tree.fake.bar(at(4, 9), 4, true), 0), other));
    assert_eq!(tree.window(at(0, 2)), Some(other));
}

#[test]
fn each_bridge_on_the_way_to_a_device_that_is_used_forwards_its_accesses() {
    let mut tree = Tree { fake: Fake::usual(), ..tree() };
    for (bridge, to) in [(at(0, 1), 1), (at(1, 0), 2), (at(1, 3), 3)] {
        tree.bridge(bridge, to);
    }
    let usual = tree.fake.0.borrow()[&(0, 3, 0)];
    tree.fake.0.borrow_mut().insert((3, 8, 0), usual);
    number_buses(&tree, 255);
    let bars = Bars::default();
    let new = |function| {
        PciTransport::new(&tree, function, Signals::default(), |range| bars.map(range)).unwrap()
    };
    drop(new(at(3, 8)));
    let masters = [at(0, 1), at(1, 0), at(1, 3)].map(|one| tree.fake.read(one, 4) & 4 != 0);
    assert_eq!(masters, [true, false, true]);
}

#[test]
fn what_firmware_has_numbered_stays_and_leaves_no_room_behind_it() {
    let mut tree = tree();
    tree.fake.put(at(0, 1), &[(0x18, 0x0005_0500)]);
    tree.bridge(at(0, 3), 5);
    tree.device(at(5, 8), 0x4000);
    number_buses(&tree, 255);
    let numbers = [at(0, 1), at(1, 0), at(0, 2), at(0, 3)].map(|bridge| tree.buses(bridge));
    assert_eq!(numbers, [[0, 5, 5, 0], [0, 0, 0, 0xaa], [0, 6, 6, 0xaa], [0, 7, 7, 0xaa]]);
    let found: Vec<_> = find(&tree).functions().collect();
    assert_eq!(found, [0, 5, 6, 7].map(|bus| at(bus, 8)));
}

#[test]
fn a_bridge_that_gets_no_number_costs_what_is_behind_it_and_no_other() {
    // Numbers up to 2 are two.
    let numbered = tree();
    number_buses(&numbered, 2);
    assert_eq!(numbered.buses(at(0, 1))[..3], [0, 1, 2]);
    assert_eq!(numbered.buses(at(1, 3)), [0, 0, 0, 0xaa]);
    assert_eq!(find(&numbered).functions().count(), 3);
    // One does not keep its numbers.
    let mut broken = tree();
    broken.fixed.push((at(0, 1), 0x18));
    number_buses(&broken, 255);
    assert_eq!(broken.buses(at(0, 2))[..3], [0, 1, 1]);
    assert_eq!(find(&broken).functions().count(), 2);
}

/// A machine with a bridge on each bus, whatever its number, that keeps what is written to it.
struct Endless(core::cell::RefCell<BTreeMap<(u8, u8), u32>>);

impl ConfigSpace for Endless {
    fn read(&self, at: Function, offset: u8) -> u32 {
        match (at.device, at.function, offset) {
            (0, 0, 0) => 0x000c_1b36,
            (0, 0, 0x0c) => 1 << 16,
            (0, 0, _) => self.0.borrow().get(&(at.bus, offset)).copied().unwrap_or(0),
            _ => u32::MAX,
        }
    }

    fn write(&self, at: Function, offset: u8, value: u32) {
        self.0.borrow_mut().insert((at.bus, offset), value);
    }
}

#[test]
fn bridges_without_an_end_are_followed_for_a_while_only() {
    let space = Endless(core::cell::RefCell::default());
    number_buses(&space, 255);
    let last = Function { bus: 0, device: 0, function: 0 };
    assert_eq!(space.read(last, 0x18).to_le_bytes(), [0, 1, 16, 0]);
}

#[test]
fn a_window_that_is_not_kept_or_does_not_fit_refuses_its_function_by_name_and_no_other() {
    let mut tree = tree();
    tree.fixed.push((at(1, 0), 0x20));
    number_buses(&tree, 255);
    let placed = place(&tree);
    let refused = placed[2].unwrap_err().to_string();
    assert!(refused.contains("does not keep its window"), "{refused}");
    assert_eq!([0, 1, 3, 4].map(|index| placed[index]), [Ok(1); 4]);
    // Of two that do not fit both, the first has its place.
    let mut small = Tree::default();
    small.bridge(at(0, 1), 1);
    small.bridge(at(0, 2), 2);
    small.device(at(1, 0), 8 * MIB);
    small.device(at(2, 0), 16 * MIB);
    number_buses(&small, 255);
    let placed = place(&small);
    assert_eq!(placed[0], Ok(1));
    let refused = placed[1].unwrap_err().to_string();
    assert!(refused.contains("BAR 4, of 0x1000000 bytes"), "{refused}");
    assert_eq!(small.window(at(0, 2)), None);
}

#[test]
fn what_is_behind_many_bridges_fits_beside_what_is_before_them() {
    // Six bridges one behind the other, and two beside each other before the last bus, with a device on each bus.
    let mut tree = Tree::default();
    (0..6).for_each(|wire| tree.bridge(at(wire, 1), wire + 1));
    tree.bridge(at(5, 2), 7);
    (0..=7).for_each(|wire| tree.device(at(wire, 8), 0x4000));
    number_buses(&tree, 255);
    let placed = place(&tree);
    assert_eq!(placed.len(), 8);
    assert!(placed.iter().all(|placed| *placed == Ok(1)), "{placed:?}");
    let windows: Vec<_> = (0..6).map(|wire| tree.window(at(wire, 1)).unwrap()).collect();
    assert!(windows.is_sorted_by(|outer, inner| outer.0 <= inner.0 && inner.1 <= outer.1));
    let sizes: Vec<_> = windows.iter().map(|(start, end)| (end - start) / MIB).collect();
    assert_eq!(sizes, [7, 6, 5, 4, 3, 1]);
    // Registers of more than a window's unit have an address that is a multiple of their bytes.
    let mut large = Tree::default();
    large.bridge(at(0, 1), 1);
    large.device(at(0, 8), 0x4000);
    large.device(at(1, 8), 2 * MIB);
    number_buses(&large, 255);
    assert_eq!(place(&large), [Ok(1), Ok(1)]);
    assert_eq!(large.window(at(0, 1)), Some((FIRST + 2 * MIB, FIRST + 4 * MIB)));
}

#[test]
fn a_window_that_was_never_set_is_opened_though_the_bridge_forwards() {
    let mut tree = Tree::default();
    tree.bridge(at(0, 1), 1);
    tree.fake.put(at(0, 1), &[(4, 2), (0x20, 0)]);
    tree.device(at(1, 8), 0x4000);
    number_buses(&tree, 255);
    assert_eq!(place(&tree), [Ok(1)]);
    assert_eq!(tree.window(at(0, 1)), Some((FIRST, FIRST + MIB)));
}

#[test]
fn numbers_of_buses_are_not_taken_for_the_upper_half_of_a_base_address_register() {
    let tree = tree();
    number_buses(&tree, 255);
    // The second of a bridge's two registers claims to be the lower half of one with 64 bits.
    tree.fake.put(at(0, 2), &[(0x14, 4)]);
    let watched = Watched(&tree, at(0, 2));
    let windows = [PhysRange::new(PhysAddr::new(FIRST), 16 * MIB).unwrap()];
    let mut places = Places::new(&windows);
    for function in find(&tree).functions() {
        assert_eq!(places.place_needed(&watched, function, 1 << 4), Ok(1));
    }
}

/// A machine in which the numbers of a bridge's buses are not written.
struct Watched<'t>(&'t Tree, Function);

impl ConfigSpace for Watched<'_> {
    fn read(&self, at: Function, offset: u8) -> u32 {
        self.0.read(at, offset)
    }

    fn write(&self, at: Function, offset: u8, value: u32) {
        assert!((at, offset) != (self.1, 0x18));
        self.0.write(at, offset, value);
    }
}
