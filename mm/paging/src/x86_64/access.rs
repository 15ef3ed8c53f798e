//! The tables of the crate's mappers, which have no functions that read them or free single ones.

// UNSAFETY: declares and implements the trait by which a mapper vouches for pointers to its tables.
#![expect(unsafe_code)]

use ::x86_64::VirtAddr;
use ::x86_64::structures::paging::mapper::{
    MappedPageTable, OffsetPageTable, PageTableFrameMapping, RecursivePageTable,
};
use ::x86_64::structures::paging::{Mapper, PageTable, PageTableIndex, PhysFrame};
use ::x86_64::structures::paging::{Size1GiB, Size2MiB, Size4KiB};
use core::ptr::NonNull;

/// Four-level tables of the crate `x86_64`: its functions map, and those here give access to the tables.
///
/// # Safety
///
/// [`root`](Self::root) and [`root_mut`](Self::root_mut) are the root that the three `Mapper` implementations
/// change. [`table`](Self::table) returns a pointer to the table in that frame, valid for reads and writes for as
/// long as the table is in the tree and `self` is borrowed; [`new_table`](Self::new_table) one to a frame that is in
/// no tree. The `Mapper` implementations change only entries that lead to the page that they are given, and take
/// frames only for missing tables.
pub unsafe trait TableAccess:
    Mapper<Size4KiB> + Mapper<Size2MiB> + Mapper<Size1GiB>
{
    /// The root.
    fn root(&self) -> &PageTable;

    /// The root, to clear an entry of it.
    fn root_mut(&mut self) -> &mut PageTable;

    /// The table in `frame`, to which the entries at `path` lead, that of the root first: one to three of them.
    fn table(&self, frame: PhysFrame, path: &[PageTableIndex]) -> NonNull<PageTable>;

    /// The memory of a frame that is not a table yet; `None` if only its entry in the tree reaches it.
    fn new_table(&self, frame: PhysFrame) -> Option<NonNull<PageTable>>;

    /// The root's entry that leads to the root itself, if there is one: no memory is mapped by it.
    fn recursive_index(&self) -> Option<PageTableIndex> {
        None
    }
}

/// A pointer that is not null: one that is would fault as well.
fn not_null(pointer: *mut PageTable) -> NonNull<PageTable> {
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

// SAFETY: its creator vouched for the frame mapping, by which its own functions reach their tables, too.
unsafe impl<P: PageTableFrameMapping> TableAccess for MappedPageTable<'_, P> {
    fn root(&self) -> &PageTable {
        self.level_4_table()
    }

    fn root_mut(&mut self) -> &mut PageTable {
        self.level_4_table_mut()
    }

    fn table(&self, frame: PhysFrame, _path: &[PageTableIndex]) -> NonNull<PageTable> {
        not_null(self.page_table_frame_mapping().frame_to_pointer(frame))
    }

    fn new_table(&self, frame: PhysFrame) -> Option<NonNull<PageTable>> {
        Some(self.table(frame, &[]))
    }
}

// SAFETY: its creator vouched for the offset, by which its own functions reach their tables, too.
unsafe impl TableAccess for OffsetPageTable<'_> {
    fn root(&self) -> &PageTable {
        self.level_4_table()
    }

    fn root_mut(&mut self) -> &mut PageTable {
        self.level_4_table_mut()
    }

    fn table(&self, frame: PhysFrame, _path: &[PageTableIndex]) -> NonNull<PageTable> {
        not_null((self.phys_offset() + frame.start_address().as_u64()).as_mut_ptr())
    }

    fn new_table(&self, frame: PhysFrame) -> Option<NonNull<PageTable>> {
        Some(self.table(frame, &[]))
    }
}

// SAFETY: the root's address names the recursive entry, by the contract of `LockedTables::new`; an address with that
// entry in the place of the first indices is translated to the table itself (crate `x86_64`, `RecursivePageTable`).
unsafe impl TableAccess for RecursivePageTable<'_> {
    fn root(&self) -> &PageTable {
        self.level_4_table()
    }

    fn root_mut(&mut self) -> &mut PageTable {
        self.level_4_table_mut()
    }

    fn table(&self, _frame: PhysFrame, path: &[PageTableIndex]) -> NonNull<PageTable> {
        let recursive = u64::from(recursive(self));
        // As many rounds through the root as the path is shorter than four, then the path.
        let rounds = (path.len()..4).map(|_| recursive);
        let indices = rounds.chain(path.iter().map(|&index| u64::from(index)));
        let at = indices.fold(0, |at, index| at << 9 | index) << 12;
        not_null(VirtAddr::new_truncate(at).as_mut_ptr())
    }

    fn new_table(&self, _frame: PhysFrame) -> Option<NonNull<PageTable>> {
        None
    }

    fn recursive_index(&self) -> Option<PageTableIndex> {
        Some(recursive(self))
    }
}

fn recursive(tables: &RecursivePageTable<'_>) -> PageTableIndex {
    VirtAddr::from_ptr(tables.level_4_table()).p4_index()
}
