//! The interface of the operations to page tables, and its types.

// UNSAFETY: declares the unsafe trait by which page tables vouch for their translations.
#![expect(unsafe_code)]

use super::{Attr, Gather, NotFlushed, OutOfFrames, TableFrames, Tlb};
use crate::addr::{Address, AddressRange, PhysAddr, Space, Virtual};

/// A set of page tables, as the operations use it; its input addresses are of `I`.
///
/// [`Tables`](super::Tables) implements it for any [`PteFormat`](super::PteFormat); a kernel with
/// page tables of its own implements it directly, and checks it on the host with
/// `hotmem_paging::testing::check_mapper` (feature `testing`). For the page tables of the crate `x86_64` there is one:
/// `hotmem_paging::x86_64::LockedTables` (feature `x86_64`).
///
/// The caller serialises calls that change the tables, and excludes look-ups while tables are freed (the manager's
/// operations and looks exclude each other).
///
/// The manager holds locks that other CPUs spin on: no method sleeps, or calls the manager.
///
/// # Behind a lock
///
/// A mapper may hold a lock for the whole of each call but [`tlb`](Self::tlb), and the lock need not be re-entrant:
/// no argument of a call (`each`, the frames, the gather) calls the mapper again. But these arguments may take locks
/// of the manager, and the manager may call the mapper while it holds some. So other code that takes that lock must
/// not call the manager while it holds it, not even to allocate.
///
/// # Several root tables
///
/// The manager changes the tables below one root. Entries of that root change with memory, unless the machine gives
/// their size (`Machine::root_entry_bytes` of `hotmem`): then those of the manager's windows are made at boot, and a
/// mapper that keeps the tables which [`Gather::keeps`] names never changes them again, so that other roots can hold
/// copies.
///
/// # Safety
///
/// Memory is allocated, and removed from the machine, because of these methods: after a `map` that returned `Ok` the
/// CPU translates exactly as requested; `unmap` leaves no translation in the range, and reports each that it cleared
/// to the gather; `translate` and `visit` return what the CPU's table walk finds.
pub unsafe trait Mapper<I: Space = Virtual> {
    /// The translation caches over these tables.
    type Tlb: Tlb<I>;

    /// The translation caches over these tables.
    fn tlb(&self) -> &Self::Tlb;

    /// Maps a range that has no translation yet, with the largest leaves that fit, and smaller ones where an empty
    /// table exists already: memory that was unmapped and kept its tables ([`Gather::keeping_tables`]) can be mapped
    /// again without a frame, whatever leaves it had.
    ///
    /// On success the translations are published: the CPU may use them at once. A range with an existing mapping is
    /// refused, even if the translation is the same: the caller that undoes a mapping must know that it made all of
    /// it. An empty range is `Ok`.
    ///
    /// # Errors
    ///
    /// Any [`MapError`]; the tree, and the frames in use for tables, are then unchanged, except as documented at
    /// [`MapError::NotFlushed`].
    fn map<S: TableFrames>(&self, mapping: &Mapping<I>, frames: &S) -> Result<(), MapError<I>>;

    /// Clears every translation in `range`, the last one first, and detaches the tables that become empty, unless
    /// the gather keeps them ([`Gather::keeps`]). No other table below the root is ever empty.
    ///
    /// The last first, because descriptors may lie in the memory that is unmapped, and those of its first page
    /// describe the rest: an unmapping that stops halfway must still find them.
    ///
    /// Addresses without a translation are skipped. The memory behind `range` is only free once [`Gather::flush`]
    /// has run.
    ///
    /// # Errors
    ///
    /// [`UnmapError`], with nothing changed.
    fn unmap<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, Self::Tlb, S, I>,
    ) -> Result<(), UnmapError<I>>;

    /// The leaf that translates `at`, if any.
    fn translate(&self, at: Address<I>) -> Option<Translation<I>>;

    /// Calls `each` with every leaf that translates a byte of `range`, in the order of the tables.
    ///
    /// `each` must not call the mapper.
    fn visit(&self, range: AddressRange<I>, each: &mut dyn FnMut(Translation<I>));

    /// Calls `each` with the highest number of tables below the root that mapping all of `range`, with leaves of at
    /// most `max_leaf` bytes, can need: bytes of a table, and the number of such tables. A caller that reserves as
    /// many never fails for lack of one.
    fn tables_for(&self, range: AddressRange<I>, max_leaf: u64, each: &mut dyn FnMut(u64, u64));

    /// Calls `each` with every table of the tree, the root first, a table before the ones below it.
    ///
    /// `each` must not call the mapper.
    fn visit_tables(&self, each: &mut dyn FnMut(TableAt<I>));

    /// As [`visit_tables`](Self::visit_tables), for tables that may be damaged: a table is read only if `each` returns
    /// `true` for it, and `each` may do so for a table that is a part of another. Returns the first word that the
    /// mapper never stores in a table. So a caller that has let all tables be read knows that any other call can.
    ///
    /// The default reads every table, and knows no such word.
    fn examine(&self, each: &mut dyn FnMut(TableAt<I>) -> bool) -> Option<StrangeEntry<I>> {
        self.visit_tables(&mut |table| _ = each(table));
        None
    }
}

/// A mapping request: translate `len` bytes at `virt` to `phys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<I: Space = Virtual> {
    /// First input address.
    pub virt: Address<I>,
    /// First physical address.
    pub phys: PhysAddr,
    /// Bytes.
    pub len: u64,
    /// The allowed accesses.
    pub attr: Attr,
    /// Bytes of the largest leaf to use; base pages are always allowed.
    ///
    /// A range that will be unmapped in pieces must not be mapped with leaves larger than a piece: a live leaf is
    /// never split.
    pub max_leaf: u64,
}

/// A leaf as found in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Translation<I: Space = Virtual> {
    /// First input address of the leaf.
    pub virt: Address<I>,
    /// First physical address of the leaf.
    pub phys: PhysAddr,
    /// Bytes of the leaf.
    pub len: u64,
    /// The allowed accesses.
    pub attr: Attr,
}

impl<I: Space> Translation<I> {
    /// The addresses it translates.
    pub fn range(&self) -> AddressRange<I> {
        AddressRange::new(self.virt, self.len).unwrap_or_default()
    }

    /// The target of `at`, an address in the leaf.
    pub fn target(&self, at: Address<I>) -> PhysAddr {
        self.phys.add(at.offset_from(self.virt))
    }
}

/// A table as found in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableAt<I: Space = Virtual> {
    /// Its level, counted from the root (0).
    pub level: usize,
    /// Its address.
    pub frame: PhysAddr,
    /// Its bytes.
    pub bytes: u64,
    /// The first input address it translates.
    pub virt: Address<I>,
    /// Bytes of address space it translates (for a root that serves both ends of a sign-extended
    /// space: of both together).
    pub span: u64,
}

/// A word in a table that the mapper never stores there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrangeEntry<I: Space = Virtual> {
    /// The first input address that it would translate.
    pub virt: Address<I>,
    /// Where it is.
    pub at: PhysAddr,
    /// The word.
    pub word: u64,
}

crate::errors! {
    /// The reason why a range was not mapped.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum MapError<I: Space = Virtual> {
        /// The addresses or the length are not multiples of the base page.
        Misaligned {
            /// First requested input address.
            virt: Address<I>,
            /// First requested physical address.
            phys: PhysAddr,
            /// Requested bytes.
            len: u64,
        } => "{len:#x} bytes at {virt} to {phys} are not whole pages",
        /// A part of the range is mapped already.
        AlreadyMapped {
            /// The start of the first leaf whose slot is in use.
            at: Address<I>,
        } => "{at} is mapped already",
        /// The format has no entry for some address of the range.
        BeyondFormat {
            /// First requested input address.
            virt: Address<I>,
            /// First requested physical address.
            phys: PhysAddr,
            /// Requested bytes.
            len: u64,
        } => "the page tables cannot express {len:#x} bytes at {virt} to {phys}",
        /// A table was needed and there was no frame for it.
        OutOfFrames(out: OutOfFrames) => "{out}",
        /// Mapping failed half-way and was undone, but a CPU did not drop translations that it may have cached: the
        /// memory must not be used for anything else, and the tables that were made are stranded.
        NotFlushed(cpu: NotFlushed) => "{cpu}",
    }

    /// The reason why a range was not unmapped, or why the memory behind it is not free.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum UnmapError<I: Space = Virtual> {
        /// An end of the range lies inside a leaf, and live leaves are never split.
        CutsLeaf {
            /// The first input address of that leaf.
            at: Address<I>,
            /// Its bytes.
            len: u64,
        } => "the range ends inside the leaf of {len:#x} bytes at {at}",
        /// The format cannot name some address of the range.
        BeyondFormat {
            /// The requested range.
            range: AddressRange<I>,
        } => "the page tables cannot express {range}",
        /// The range has no translation any more, but a CPU did not drop its cached ones ([`Gather::conclude`]).
        NotFlushed(cpu: NotFlushed) => "{cpu}",
    }
}

impl<I: Space> From<OutOfFrames> for MapError<I> {
    fn from(out: OutOfFrames) -> Self {
        Self::OutOfFrames(out)
    }
}

impl<T: Tlb<I>, S: TableFrames, I: Space> Gather<'_, T, S, I> {
    /// As [`flush`](Self::flush), after an unmapping with this result.
    ///
    /// # Errors
    ///
    /// The unmapping's, or [`UnmapError::NotFlushed`].
    #[inline]
    pub fn conclude(self, unmapped: Result<(), UnmapError<I>>) -> Result<(), UnmapError<I>> {
        let flushed = self.flush().map_err(UnmapError::NotFlushed);
        unmapped.and(flushed)
    }
}
