//! Memory by its number, for tests: operations that a kernel performs only through owned values, or by `unsafe`.

// UNSAFETY: vouches for fake RAM, which has no other use.
#![expect(unsafe_code)]

use super::{FakeMachine, Shape};
use crate::addr::{Order, Pfn};
use crate::alloc::buddy::is_users;
use crate::alloc::metas::PRIVATE;
use crate::machine::Machine;
use crate::{
    AddError, Added, BootError, BootMemory, EarlyFrames, FreeError, MhpFlags, Mm, NodeId,
    OutOfMemory, Pages, PhysRange, Placement,
};
use core::sync::atomic::Ordering;

impl<S: Shape> Mm<FakeMachine<S>> {
    /// The page tables.
    pub fn tables(&self) -> &<FakeMachine<S> as Machine>::Mapper {
        // SAFETY: the tables of the fake machine are for tests, which know what they break.
        unsafe { self.machine().mapper() }
    }

    /// Has the machine know the lock that keeps handlers out of a conversion.
    pub(super) fn name_the_lock_of_operations(&self) {
        // SAFETY: it is not unlocked by this.
        unsafe { self.allocator().memmap.lock_of_operations().raw() }.only_for_operations();
    }

    /// As [`Mm::boot`].
    ///
    /// # Errors
    ///
    /// [`BootError`].
    pub fn start(
        &self,
        memory: &BootMemory<'_>,
        early: &mut dyn EarlyFrames,
    ) -> Result<(), BootError> {
        // SAFETY: only the manager under test, and tests by its number, use fake RAM.
        unsafe { self.boot(memory, early) }
    }

    /// As [`Mm::add`].
    ///
    /// # Errors
    ///
    /// [`AddError`].
    pub fn hot_add(
        &self,
        range: PhysRange,
        node: NodeId,
        placement: Placement,
    ) -> Result<Added, AddError> {
        // SAFETY: as in `start`.
        unsafe { self.add(range, node, placement) }
    }

    /// As [`Mm::add_memory`].
    ///
    /// # Errors
    ///
    /// [`AddError`].
    pub fn hot_add_memory(
        &self,
        node: NodeId,
        range: PhysRange,
        flags: MhpFlags,
    ) -> Result<Added, AddError> {
        // SAFETY: as in `start`.
        unsafe { self.add_memory(node, range, flags) }
    }

    /// Allocates unmovable pages, and keeps only their number.
    ///
    /// # Errors
    ///
    /// As [`Mm::alloc`].
    pub fn take_pages(&self, order: Order) -> Result<Pfn, OutOfMemory> {
        self.alloc(order).map(Pages::into_raw)
    }

    /// Frees an extent of any user. A test has no memory behind its numbers that this could damage.
    ///
    /// # Errors
    ///
    /// [`FreeError`] if no extent of a user begins at `pfn`; nothing is changed then.
    pub fn free_pages(&self, pfn: Pfn) -> Result<(), FreeError> {
        self.allocator().free_user(pfn, is_users)
    }

    /// Changes the owner's word of an extent of any user.
    ///
    /// # Errors
    ///
    /// As [`Mm::private`].
    pub fn set_private(&self, pfn: Pfn, word: u64) -> Result<(), FreeError> {
        self.allocator().order_of(pfn, is_users)?;
        let look_up = self.allocator().memmap.read(pfn);
        let here = look_up.here().ok_or(FreeError::NotOnline(pfn))?;
        here.page().payload()[PRIVATE].store(word, Ordering::Release);
        Ok(())
    }
}
