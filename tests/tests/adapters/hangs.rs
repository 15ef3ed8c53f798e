//! A mapper that never returns ends the test, and is named.

// UNSAFETY: a mapper that breaks the contract deliberately.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::arena::{Arena, MIB};
use crate::mappers::{SMALL, window};
use hotmem::lock::SpinLock;
use hotmem::paging::testing::{MapperRig, RecordingTlb, check_mapper};
use hotmem::paging::x86_64::LockedTables;
use hotmem::paging::{
    Gather, MapError, Mapper, Mapping, TableAt, TableFrames, Translation, UnmapError,
};
use hotmem::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use std::process::Command;
use std::time::Duration;
use x86_64::structures::paging::OffsetPageTable;

/// Tables behind a spin lock that `visit` takes twice.
struct Hangs {
    inner: LockedTables<OffsetPageTable<'static>, RecordingTlb, SpinLock>,
    arena: Arena,
}

// SAFETY: it breaks the contract: the check must detect this.
unsafe impl Mapper for Hangs {
    type Tlb = RecordingTlb;

    fn tlb(&self) -> &RecordingTlb {
        self.inner.tlb()
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping, frames: &S) -> Result<(), MapError> {
        self.inner.map(mapping, frames)
    }

    fn unmap<S: TableFrames>(
        &self,
        range: VirtRange,
        gather: &mut Gather<'_, RecordingTlb, S>,
    ) -> Result<(), UnmapError> {
        self.inner.unmap(range, gather)
    }

    fn translate(&self, at: VirtAddr) -> Option<Translation> {
        self.inner.translate(at)
    }

    fn visit(&self, range: VirtRange, each: &mut dyn FnMut(Translation)) {
        // The lock is held while the leaves are visited, and each is looked up again.
        self.inner.visit(range, &mut |leaf| each(self.inner.translate(leaf.virt).unwrap()));
    }

    fn tables_for(&self, range: VirtRange, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        self.inner.tables_for(range, max_leaf, each);
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt)) {
        self.inner.visit_tables(each);
    }
}

impl MapperRig for Hangs {
    type Mapper = Self;

    fn mapper(&self) -> &Self {
        self
    }

    fn leaves(&self) -> &[u64] {
        SMALL
    }

    fn window(&self) -> VirtRange {
        window()
    }

    fn phys_limit(&self) -> PhysAddr {
        PhysAddr::new(1 << 40)
    }

    fn table_ram(&self) -> PhysRange {
        self.arena.table_ram()
    }

    fn spoil(&self, frame: PhysAddr, bytes: u64) {
        self.arena.spoil(frame, bytes);
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }
}

#[test]
#[ignore = "hangs: the test below runs it in a process of its own"]
fn a_mapper_that_takes_its_lock_twice() {
    let arena = Arena::new(64 * MIB);
    let tables = arena.offset_table();
    // SAFETY: only this value uses the tables.
    let inner = unsafe { LockedTables::new(tables, arena.root(), RecordingTlb::default()) };
    check_mapper(&Hangs { inner, arena }, 1, 100);
}

#[test]
fn a_mapper_that_takes_its_lock_twice_ends_the_check_and_is_named() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hangs::a_mapper_that_takes_its_lock_twice"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(101), "{said}");
    assert!(said.contains("`visit` has not returned"), "{said}");
}
