//! Reading the tree: every leaf, every table.

// UNSAFETY: reads tables by pointers that `TableAccess` vouches for.
#![expect(unsafe_code)]

use super::access::TableAccess;
use super::slot::{ENTRIES, LAST, Slot, TABLE_BYTES, span};
use crate::addr::{PhysAddr, VirtAddr, VirtRange};
use crate::{TableAt, Translation};

use ::x86_64::structures::paging::{PageTable, PageTableIndex, PhysFrame};

/// An item of a visit.
pub(super) enum Node {
    Table(TableAt),
    Leaf(Translation),
}

/// A table under visit.
struct Place<'t> {
    table: &'t PageTable,
    level: usize,
    /// The indices that lead to it, and the first address that it translates, before its sign is repeated.
    path: [PageTableIndex; LAST],
    low: u64,
}

/// Calls `each` with every table and leaf, and visits the tables below those for which it returns `true`.
pub(super) fn all<T: TableAccess>(tree: &T, root: PhysAddr, each: &mut dyn FnMut(Node) -> bool) {
    let path = [PageTableIndex::new(0); LAST];
    if each(table_at(root, 0, 0)) {
        let root = Place { table: tree.root(), level: 0, path, low: 0 };
        below(tree, &root, each);
    }
}

/// The table of `level` in `frame`, whose first entry translates `low`.
fn table_at(frame: PhysAddr, level: usize, low: u64) -> Node {
    let span = ENTRIES as u64 * span(level);
    Node::Table(TableAt { level, frame, bytes: TABLE_BYTES, virt: canonical(low), span })
}

fn below<T: TableAccess>(tree: &T, at: &Place<'_>, each: &mut dyn FnMut(Node) -> bool) {
    let (level, bytes) = (at.level, span(at.level));
    for number in 0..ENTRIES {
        let low = at.low + number as u64 * bytes;
        let index = PageTableIndex::new_truncate(number as u16);
        if level == 0 && tree.recursive_index() == Some(index) {
            continue;
        }
        match Slot::read(&at.table[index], level) {
            Slot::Empty | Slot::Other => {}
            Slot::Leaf(phys, attr) => {
                each(Node::Leaf(Translation { virt: canonical(low), phys, len: bytes, attr }));
            }
            Slot::Table(frame) => {
                let mut path = at.path;
                path[level] = index;
                down(tree, frame, path, low, level + 1, each);
            }
        }
    }
}

/// Visits the table of `level` in `frame`, if `each` wants it.
fn down<T: TableAccess>(
    tree: &T,
    frame: PhysFrame,
    path: [PageTableIndex; LAST],
    low: u64,
    level: usize,
    each: &mut dyn FnMut(Node) -> bool,
) {
    let at = PhysAddr::new(frame.start_address().as_u64());
    if !each(table_at(at, level, low)) {
        return;
    }
    let pointer = tree.table(frame, &path[..level]);
    // SAFETY: the entry leads to a table in that frame, which `each` has let be read, and `tree` is borrowed for as long
    // as this is used.
    let table = unsafe { pointer.as_ref() };
    below(tree, &Place { table, level, path, low }, each);
}

/// Whether `len` bytes at `virt` overlap `range`.
pub(super) fn overlaps(virt: VirtAddr, len: u64, range: VirtRange) -> bool {
    VirtRange::new(virt, len).is_some_and(|span| span.overlaps(range))
}

/// Repeats bit 47 upwards.
fn canonical(low: u64) -> VirtAddr {
    VirtAddr::new(::x86_64::VirtAddr::new_truncate(low).as_u64())
}
