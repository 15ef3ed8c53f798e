//! Tables move, and their mappings stay.

use super::*;

/// The tables below the root: their places and frames.
fn tables_of(machine: &Machine) -> std::vec::Vec<(TablePlace, PhysAddr, u64)> {
    let mut tables = std::vec::Vec::new();
    machine.tables.visit_tables(&mut |table| {
        let place = TablePlace { level: table.level, first: table.virt.get() };
        tables.push((place, table.frame, table.bytes));
    });
    tables.remove(0);
    tables
}

#[test]
fn every_table_moves_under_its_mappings() {
    let machine = Machine::new();
    machine.map(VIRT, 0, 3 * LARGE, PAGE).unwrap();
    machine.map(VIRT + HUGE, HUGE, LARGE, LARGE).unwrap();
    let leaves = machine.leaves();
    for (place, from, bytes) in tables_of(&machine) {
        machine.mmu.speculate();
        let to = machine.frames.take(bytes).unwrap();
        let at = to.at();
        let old = machine.tables.relocate(place, from, to).unwrap();
        assert_eq!((old.at(), old.bytes()), (from, bytes));
        machine.mmu.assert_coherent();
        machine.frames.give_back(old);
        assert!(tables_of(&machine).contains(&(place, at, bytes)));
        assert_eq!(machine.leaves(), leaves);
        assert_eq!(machine.mmu.translate_through(VirtAddr::new(VIRT + 5)).get(), 5);
    }
    machine.unmap(VIRT, 2 * HUGE).unwrap();
    assert_eq!(machine.frames.used(), []);
}

#[test]
fn a_source_of_frames_learns_the_place_of_each_table() {
    struct Noting<'f>(&'f FakeTables<TinyPte>, std::cell::RefCell<std::vec::Vec<TablePlace>>);

    impl TableFrames for Noting<'_> {
        fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
            self.0.take(bytes)
        }

        fn take_for(&self, bytes: u64, place: TablePlace) -> Result<TableFrame, OutOfFrames> {
            self.1.borrow_mut().push(place);
            self.0.take(bytes)
        }

        fn give_back(&self, frame: TableFrame) {
            self.0.give_back(frame);
        }
    }

    let machine = Machine::new();
    let frames = Noting(&machine.frames, std::cell::RefCell::default());
    let virt = VirtAddr::new(VIRT + LARGE + PAGE);
    let mapping =
        Mapping { virt, phys: PhysAddr::new(0), len: PAGE, attr: Attr::WRITE, max_leaf: PAGE };
    machine.tables.map(&mapping, &frames).unwrap();
    let place = |level, first| TablePlace { level, first };
    assert_eq!(*frames.1.borrow(), [place(1, VIRT), place(2, VIRT), place(3, VIRT + LARGE)]);
    let places: std::vec::Vec<_> = tables_of(&machine).iter().map(|table| table.0).collect();
    assert_eq!(places, *frames.1.borrow());
}

#[test]
fn a_table_that_is_not_there_or_has_another_size_is_not_moved() {
    let machine = Machine::new();
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    let tables = tables_of(&machine);
    let (place, from, bytes) = tables[2];
    let (_, above, _) = tables[1];
    let elsewhere = TablePlace { first: VIRT + HUGE, ..place };
    let root = TablePlace { level: 0, first: 0 };
    let deep = TablePlace { level: 4, ..place };
    let beyond = TablePlace { first: u64::MAX, ..place };
    for (place, from) in [
        (place, above),
        (elsewhere, from),
        (root, machine.tables.root()),
        (deep, from),
        (beyond, from),
    ] {
        let to = machine.frames.take(bytes).unwrap();
        let error = machine.tables.relocate(place, from, to).unwrap_err();
        assert_eq!(std::format!("{error}"), "the tree has no such table");
        machine.frames.give_back(error.into_frame());
    }
    let to = machine.frames.take(4096).unwrap();
    let error = machine.tables.relocate(place, from, to).unwrap_err();
    assert!(matches!(error, RelocateError::Size(_)));
    machine.frames.give_back(error.into_frame());
    assert_eq!(tables_of(&machine), tables);
    machine.unmap(VIRT, PAGE).unwrap();
}

#[test]
fn a_table_whose_flush_fails_stays_in_use() {
    let machine = Machine::new();
    machine.mmu.start_cpus(3);
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    let tables = tables_of(&machine);
    let (place, from, bytes) = tables[2];
    machine.mmu.speculate();
    machine.mmu.silence(Some(1));
    let to = machine.frames.take(bytes).unwrap();
    let error = machine.tables.relocate(place, from, to).unwrap_err();
    assert!(matches!(error, RelocateError::NotFlushed(NotFlushed { cpu: 1 }, _)), "{error}");
    machine.frames.give_back(error.into_frame());
    machine.mmu.silence(None);
    assert_eq!(tables_of(&machine), tables);
    assert_eq!(machine.mmu.translate_through(VirtAddr::new(VIRT)).get(), 0);
    machine.unmap(VIRT, PAGE).unwrap();
}

#[test]
#[should_panic(expected = "freed before flush")]
fn a_table_that_moves_without_a_flush_leaves_a_stale_pointer() {
    let machine = Machine::new();
    machine.map(VIRT, 0, PAGE, PAGE).unwrap();
    let (place, from, bytes) = tables_of(&machine)[2];
    machine.mmu.speculate();
    machine.mmu.skip_flushes(true);
    let to = machine.frames.take(bytes).unwrap();
    let old = machine.tables.relocate(place, from, to).unwrap();
    machine.frames.give_back(old);
    machine.mmu.assert_coherent();
}
