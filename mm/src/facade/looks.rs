//! The manager's functions that look at memory.

use crate::machine::Machine;
use crate::observe::View;
use crate::*;

impl<M: Machine> Mm<M> {
    /// Calls `each` with every run of pages that a crash dump saves, ascending.
    ///
    /// `each` may do anything. Exact while no CPU allocates, frees or operates; a change between two runs is
    /// reported in its old or its new state. Waits while an operation changes memory.
    pub fn dump(&self, each: &mut dyn FnMut(DumpRun)) {
        self.view().dump(each)
    }

    /// As [`dump`](Self::dump), but never waits: for a kernel that panics, maybe inside an operation or with locks
    /// of the manager held, and for handlers of exceptions.
    ///
    /// Memory that an operation or the allocator was changing may be reported in its old or its new state, or not at
    /// all.
    ///
    /// # Errors
    ///
    /// [`DescriptorsMove`], after a part of the dump or at once: a [`convert`](Self::convert) is moving the
    /// descriptors, which cannot be read then.
    pub fn try_dump(&self, each: &mut dyn FnMut(DumpRun)) -> Result<(), DescriptorsMove> {
        self.view().try_dump(each)
    }

    /// Whether `range` could be removed if its blocks were offline, for a caller that is about to take them offline.
    /// [`explain_remove`](Self::explain_remove) also predicts whether they can go offline.
    ///
    /// # Errors
    ///
    /// [`RemoveError`], as a removal of the offline blocks would return now.
    pub fn check_remove(&self, range: PhysRange) -> Result<(), RemoveError> {
        self.view().check_remove(range)
    }

    /// Whether `range` could be removed, after its online blocks go offline.
    ///
    /// Waits while an operation changes memory. Examines each extent of the range, and calls the owners of movable
    /// ones; a change between two of them counts in its old or its new state.
    pub fn explain_remove(&self, range: PhysRange) -> Removability {
        self.view().explain_remove(range)
    }

    /// Whether `ranges` could be removed together, as [`explain_remove`](Self::explain_remove) predicts it of one range,
    /// for a caller that serves others meanwhile: a call examines up to `extents`, and returns nothing while there are
    /// more. `ranges` are the same at each call with an `estimate`.
    ///
    /// What has to migrate must fit into memory outside of all ranges. What is allocated or freed between two calls
    /// counts in its old or its new state.
    pub fn estimate_remove(
        &self,
        estimate: &mut Estimate,
        ranges: &[PhysRange],
        extents: u64,
    ) -> Option<Removability> {
        self.view().estimate_remove(estimate, ranges, extents)
    }

    /// Whether what `range` has of its first block could go offline, predicted as by
    /// [`explain_remove`](Self::explain_remove), if it had been added apart from the rest of the block: whether it is worth
    /// to [split](Self::split_at) the block there.
    pub fn explain_part(&self, range: PhysRange) -> Removability {
        self.view().explain_part(range)
    }

    /// Whether a block could go offline, predicted as by [`explain_remove`](Self::explain_remove).
    pub fn explain_offline(&self, id: BlockId) -> Removability {
        self.view().explain_offline(id)
    }

    /// What the pages of a block are in use for; nothing if it is offline or missing.
    ///
    /// Waits while an operation changes memory. Examines each extent of the block, and calls the owners of movable
    /// ones; a change between two of them counts in its old or its new state.
    pub fn shares(&self, id: BlockId) -> Shares {
        self.view().shares(id)
    }

    /// Calls `each` with the facts of the present state, always in the same order.
    ///
    /// `each` may do anything. The facts are consistent if no CPU allocates, frees or operates at the same time; pages that
    /// idle CPUs clear ahead change none. No page enters a cache until the last fact: each free goes to its zone.
    /// Waits while an operation changes memory.
    pub fn snapshot(&self, each: &mut dyn FnMut(Fact)) {
        self.view().snapshot(each)
    }

    /// Counts over all memory.
    pub fn stats(&self) -> Stats {
        self.view().stats()
    }

    /// Every zone that has memory, by node.
    pub fn zones(&self) -> impl Iterator<Item = ZoneInfo> + '_ {
        self.view().zones()
    }

    /// The state of `pfn`, if its section is present.
    pub fn page_info(&self, pfn: Pfn) -> Option<PageInfo> {
        self.view().page_info(pfn)
    }

    /// The state of `pfn` alone, as in [`page_info`](Self::page_info): for frequent callers, which decode what they need of
    /// the result.
    pub fn state(&self, pfn: Pfn) -> Option<StateWord> {
        self.view().state(pfn)
    }

    /// Whether there is memory at `pfn`, online or not: its section has it, and it is not a hole.
    pub fn is_ram(&self, pfn: Pfn) -> bool {
        self.view().is_ram(pfn)
    }

    /// Checks the invariants of the manager over all memory.
    ///
    /// Memory may be damaged: each link is checked before it is followed, and each walk has a bound. What a load would
    /// fault at, only the machine knows: see [`Machine::can_load`].
    ///
    /// Waits while an operation changes memory. To be called while no CPU allocates or frees, and not by listeners
    /// and owners of pages that an operation calls: a change at the same time can look like a violation.
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn verify(&self) -> Result<(), Violation> {
        self.view().verify()
    }

    /// As [`verify`](Self::verify), and also checks the translations of the page tables: that no leaf is writable
    /// and executable, that memory is mapped once, that no leaf spans two blocks.
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn verify_machine(&self) -> Result<(), Violation> {
        self.view().verify_machine()
    }

    pub(crate) const fn view(&self) -> View<'_, M> {
        View::new(self.allocator())
    }
}
