//! Invariant 4 for extents in use: their owners, and what the manager notes of them.

use super::counts::Counts;
use super::violation::{Violation, expect, hold};
use crate::addr::{Order, Pfn};
use crate::alloc::cache::HomeTag;
use crate::alloc::metas::note_of;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{Block, BlockState};
use crate::memmap::page::Owner;

impl<M: Machine> Counts<'_, M> {
    /// An extent in use has an owner that the manager knows; that of a user names its zone, by which it will be freed.
    pub(super) fn check_used(
        &self,
        pfn: Pfn,
        order: Order,
        owner: Owner,
        block: &Block,
    ) -> Result<(), Violation> {
        let page = self.memmap.page(pfn);
        hold(4, "an extent in use is held by no CPU", pfn, !page.is_held())?;
        hold(4, "the owner of an extent has registered", pfn, self.allocator.owners.knows(owner))?;
        let BlockState::Online(kind) = block.state else { return Ok(()) };
        match owner {
            Owner::Poison => hold(4, "a block with a bad page is marked", pfn, block.poisoned),
            Owner::Offline => hold(
                4,
                "only a part of an added block is offline while it is online",
                pfn,
                !block.boot,
            ),
            Owner::Movable(_) | Owner::Kernel | Owner::Named(_) => {
                let (tag, covered) = note_of(page);
                let home = HomeTag::new(block.node, kind).get();
                expect(4, "an extent names its zone", pfn, home, tag)?;
                let whole = covered == 1 || covered == order.pages();
                hold(4, "the first or each page of an extent has metadata", pfn, whole)
            }
            Owner::Table | Owner::Memmap => {
                let system = kind == ZoneKind::System;
                hold(5, "a page of tables or descriptors is in system memory", pfn, system)
            }
            _ => Ok(()),
        }
    }
}
