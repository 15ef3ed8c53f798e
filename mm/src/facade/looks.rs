//! What the manager's users call to look at memory.

use crate::machine::Machine;
use crate::observe::View;
use crate::*;

impl<M: Machine> Mm<M> {
    /// Tells `each` every run of pages that a crash dump takes, ascending.
    ///
    /// `each` may do anything. Exact while nobody allocates, frees or operates; what changes between two
    /// runs is told as it was or as it is. Waits while an operation changes something.
    pub fn dump(&self, each: &mut dyn FnMut(DumpRun)) {
        self.view().dump(each)
    }

    /// As [`dump`](Self::dump), and never waits: for a kernel that is dying, maybe inside an operation or
    /// with locks of the manager's held, and for handlers of exceptions.
    ///
    /// What an operation or the allocator was changing may be told as it was, as it is, or not at all.
    ///
    /// # Errors
    ///
    /// [`DescriptorsMove`], after a part of the dump or at once: a [`convert`](Self::convert) is at the
    /// descriptors, which cannot be read meanwhile.
    pub fn try_dump(&self, each: &mut dyn FnMut(DumpRun)) -> Result<(), DescriptorsMove> {
        self.view().try_dump(each)
    }

    /// Whether `range` could be removed if its blocks were offline: for who is about to take them offline for that.
    /// [`explain_remove`](Self::explain_remove) says whether they could be, too.
    ///
    /// # Errors
    ///
    /// [`RemoveError`], as a removal of the offline blocks would give it now.
    pub fn check_remove(&self, range: PhysRange) -> Result<(), RemoveError> {
        self.view().check_remove(range)
    }

    /// Whether `range` could be removed, its online blocks offline first.
    ///
    /// Waits while an operation changes something. Looks at each extent of the range, and asks the owners
    /// of movable ones; what changes between two of those is judged as it was or as it is.
    pub fn explain_remove(&self, range: PhysRange) -> Removability {
        self.view().explain_remove(range)
    }

    /// Whether a block could be taken offline, judged as by [`explain_remove`](Self::explain_remove).
    pub fn explain_offline(&self, id: BlockId) -> Removability {
        self.view().explain_offline(id)
    }

    /// Tells `each` the facts of the present state, always in the same order.
    ///
    /// `each` may do anything. The facts fit together if nobody allocates, frees or operates meanwhile.
    /// Waits while an operation changes something.
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

    /// What `pfn` is, if its section is there.
    pub fn page_info(&self, pfn: Pfn) -> Option<PageInfo> {
        self.view().page_info(pfn)
    }

    /// What `pfn` is, as [`page_info`](Self::page_info) says it, and nothing else: for who asks often.
    pub fn state(&self, pfn: Pfn) -> Option<PageState> {
        self.view().state(pfn)
    }

    /// Whether there is memory at `pfn`, online or not: a section has it, and it is no hole.
    pub fn is_ram(&self, pfn: Pfn) -> bool {
        self.view().is_ram(pfn)
    }

    /// Checks the invariants over all memory, as far as they are the manager's.
    ///
    /// Waits while an operation changes something. Meant for when nobody allocates or frees, and not for
    /// listeners and owners of pages that an operation calls: what changes meanwhile can look like a
    /// violation.
    ///
    /// # Errors
    ///
    /// The first [`Violation`].
    pub fn verify(&self) -> Result<(), Violation> {
        self.view().verify()
    }

    /// As [`verify`](Self::verify), and checks what the page tables translate besides: that nothing is
    /// writable and executable, that memory is mapped once, that no leaf spans two blocks.
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
