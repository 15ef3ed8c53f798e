//! The invariants of guests.
//!
//! 8. Each used extent of the guests' owner has exactly one leaf, at the guest and the frame that its word names, and
//!    each leaf is such an extent. So no frame is in two guests. While an extent is moved in parts, its target has none;
//!    after the move, what it was.
//! 9. A leaf shows memory of the guests' owner only; each table is an extent of the tables' owner, at the guest and
//!    the place that its word names, and each such extent is a table.
//! 10. Memory of a guest is moving only while a batch of moves is under way.
//! 11. The bytes that are counted for each block are those that the leaves show there, and those of the tables.

use crate::Shared;
use crate::frames;
use crate::held::Held;
use crate::id::VmId;
use crate::platform::Platform;
use crate::status::State;
use crate::vms::Vms;
use crate::word::PageWord;
use core::fmt;
use hotmem::paging::{Guest, Mapper, TableAt, TablePlace};
use hotmem::{Content, MoverId, Owner, Pfn, PhysAddr, StateWord};

/// An invariant does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// 8: a page of a guest is not the extent that its place demands.
    Leaf {
        /// The guest's number.
        vm: u16,
        /// The guest's frame.
        frame: u64,
        /// The page.
        pfn: Pfn,
    },
    /// 8: pages of the guests' owner, and pages in the tables of all guests.
    Pages {
        /// Allocated.
        used: u64,
        /// In tables.
        mapped: u64,
    },
    /// 9: a leaf shows memory of another owner.
    Foreign {
        /// The guest's number.
        vm: u16,
        /// The page.
        pfn: Pfn,
    },
    /// 9: a table is not the extent that its place demands.
    Table {
        /// The guest's number.
        vm: u16,
        /// Its page.
        pfn: Pfn,
    },
    /// 9: pages of the tables' owner, and pages of tables.
    Tables {
        /// Allocated.
        used: u64,
        /// In use as tables.
        linked: u64,
    },
    /// 10: memory is marked as moving.
    Moving {
        /// The guest's number.
        vm: u16,
    },
    /// 11: other bytes of a block are counted than those that a guest has there.
    Held {
        /// The guest's number.
        vm: u16,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf { vm, frame, pfn } => {
                write!(
                    f,
                    "invariant 8: frame {frame:#x} of guest {vm} is {pfn}, which is another's"
                )
            }
            Self::Pages { used, mapped } => {
                write!(f, "invariant 8: guests have {used} pages, and {mapped} are in their tables")
            }
            Self::Foreign { vm, pfn } => {
                write!(f, "invariant 9: guest {vm} can access {pfn}, which is no guest's memory")
            }
            Self::Table { vm, pfn } => {
                write!(f, "invariant 9: {pfn} is not the table of guest {vm} that it is used as")
            }
            Self::Tables { used, linked } => write!(
                f,
                "invariant 9: tables of guests have {used} pages, and {linked} are in use"
            ),
            Self::Moving { vm } => {
                write!(f, "invariant 10: memory of guest {vm} is moving, but no move is under way")
            }
            Self::Held { vm } => {
                write!(f, "invariant 11: guest {vm} has other bytes in a block than are counted")
            }
        }
    }
}

impl core::error::Error for Violation {}

impl<M: Shared, P: Platform> Vms<M, P> {
    /// Checks invariants 8 to 11 over all guests. No operation of the manager may be under way; an offline may be between
    /// two steps.
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn verify(&self) -> Result<(), Violation> {
        let (mut mapped, mut linked) = (self.host.pages_between(), 0);
        for id in VmId::all().filter(|id| self.state(*id) != State::Absent) {
            let moving = self.host.with_space(id.number(), |space| !space.moving().is_empty());
            if moving == Some(true) {
                return Err(Violation::Moving { vm: id.number() });
            }
            mapped += self.verify_leaves(id)?;
            linked += self.verify_tables(id)?;
        }
        let (used, tables) = (self.used(self.pages.id()), self.used(self.tables.id()));
        if used != mapped {
            return Err(Violation::Pages { used, mapped });
        }
        if tables != linked {
            return Err(Violation::Tables { used: tables, linked });
        }
        VmId::all().try_for_each(|id| self.verify_held(id))
    }

    /// Checks what is counted for each block.
    fn verify_held(&self, id: VmId) -> Result<(), Violation> {
        let (mut pages, mut tables) = (Held::default(), Held::default());
        self.visit_extents(id, &mut |_, phys, bytes| pages.add(self.mm().block_at(phys), bytes));
        self.visit_tables(id, &mut |table| {
            tables.add(self.mm().block_at(table.frame), table.bytes);
        });
        let counted = self.host.with_space(id.number(), |space| {
            space.pages_held == pages && space.tables_held == tables
        });
        if counted == Some(false) { Err(Violation::Held { vm: id.number() }) } else { Ok(()) }
    }

    /// Pages of an owner.
    fn used(&self, owner: MoverId) -> u64 {
        let mut pages = 0;
        self.mm().dump(&mut |run| {
            if run.content == Content::Used(Owner::Movable(owner)) {
                pages += run.pfns.pages();
            }
        });
        pages
    }

    /// Whether an extent of `owner` begins at `pfn`.
    fn is_of(&self, pfn: Pfn, owner: MoverId) -> bool {
        self.mm().state(pfn).and_then(StateWord::owner) == Some(Owner::Movable(owner))
    }

    /// Checks the leaves of a guest. Returns their pages.
    fn verify_leaves(&self, id: VmId) -> Result<u64, Violation> {
        let (mut result, mut mapped, vm) = (Ok(()), 0, id.number());
        self.visit_extents(id, &mut |frame, phys, bytes| {
            let pfn = M::pfn(phys);
            mapped += bytes / M::PAGE_BYTES;
            let checked = if !self.is_of(pfn, self.pages.id()) {
                Err(Violation::Foreign { vm, pfn })
            } else if self.mm().private(pfn) != Ok(PageWord { vm, frame }.encode()) {
                Err(Violation::Leaf { vm, frame, pfn })
            } else {
                Ok(())
            };
            result = result.and(checked);
        });
        result.map(|()| mapped)
    }

    /// Checks the tables of a guest. Returns their pages.
    fn verify_tables(&self, id: VmId) -> Result<u64, Violation> {
        let (mut result, mut linked, vm) = (Ok(()), 0, id.number());
        self.visit_tables(id, &mut |table| {
            let pfn = M::pfn(table.frame);
            linked += table.bytes.div_ceil(M::PAGE_BYTES);
            let place = TablePlace { level: table.level, first: table.virt.get() };
            let word = frames::word::<P>(id, place).encode();
            if !self.is_of(pfn, self.tables.id()) || self.mm().private(pfn) != Ok(word) {
                result = result.and(Err(Violation::Table { vm, pfn }));
            }
        });
        result.map(|()| linked)
    }

    /// Calls `each` with every extent that is mapped: the guest's frame, the address, the bytes. The lock is taken
    /// for one at a time.
    pub(crate) fn visit_extents(&self, id: VmId, each: &mut dyn FnMut(u64, PhysAddr, u64)) {
        let shape = self.host.with_space(id.number(), |space| (space.ram, space.order));
        let Some((ram, order)) = shape else { return };
        let unit = order.pages() * M::PAGE_BYTES;
        for offset in (0..ram.len()).step_by(unit as usize) {
            let at = ram.start().add(offset);
            let leaf = self.host.with_space(id.number(), |space| space.tables.translate(at));
            if let Some(leaf) = leaf.flatten() {
                each(at.get() / M::PAGE_BYTES, leaf.target(at), unit);
            }
        }
    }

    /// Calls `each` with every table of a guest. `each` must not take the guest's lock.
    pub(crate) fn visit_tables(&self, id: VmId, each: &mut dyn FnMut(TableAt<Guest>)) {
        let mut tables = alloc::vec::Vec::new();
        self.host.with_space(id.number(), |space| {
            space.tables.visit_tables(&mut |table| tables.push(table));
        });
        tables.into_iter().for_each(each);
    }
}
