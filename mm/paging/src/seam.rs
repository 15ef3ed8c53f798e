//! The walker's interface to the machine: pointers to tables, a TLB, and frames for new tables.

// UNSAFETY: declares the unsafe traits by which the machine vouches for its pointers and its TLB.
#![expect(unsafe_code)]

use crate::addr::{AddressRange, PhysAddr, PhysRange, Space, VirtAddr, Virtual};

use core::ptr::NonNull;

/// The access of the walker, and of the memory manager, to physical memory.
///
/// # Safety
///
/// For every frame of mapped RAM, [`pointer`](Self::pointer) returns a pointer that is valid for reads and writes up
/// to the end of the frame, or of the page table that begins there, and aliases no Rust object except those that the
/// walker and the memory manager create from it.
pub unsafe trait PhysMem {
    /// The address of physical address 0 in the linear map. A loader may set it when the kernel starts.
    fn linear_base(&self) -> VirtAddr;

    /// A pointer for reads and writes of the byte at `at`. The default is its address in the linear map; a machine
    /// whose virtual addresses are not this program's overrides it.
    #[inline]
    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        pointer_to(self.linear_base().add(at.get()))
    }

    /// Copies `bytes` of the frame at `from` to the one at `to`, for owners of pages that move. A machine that copies whole
    /// pages faster than `memcpy` overrides the default.
    ///
    /// # Safety
    ///
    /// Both are mapped RAM, `bytes` are whole pages of 4 KiB and at most a frame, and no other code accesses either frame
    /// meanwhile.
    unsafe fn copy(&self, from: PhysAddr, to: PhysAddr, bytes: usize) {
        // SAFETY: the pointers are valid up to the end of their frames, which are not the same one, since no other code
        // accesses either of them.
        unsafe { self.pointer(from).copy_to_nonoverlapping(self.pointer(to), bytes) };
    }
}

/// Physical memory that can be read as bytes: data of a loader or firmware.
///
/// Parsers request every range before they read it and never more than one table, so an implementation may map
/// ranges on demand.
pub trait ReadPhys {
    /// The bytes of `range`, or `None` unless all of it can be read as data: mapped, and neither device registers
    /// nor memory that the reader writes at the same time.
    fn bytes(&self, range: PhysRange) -> Option<&[u8]>;
}

/// The pointer to the memory mapped at `at`.
#[inline]
#[must_use]
pub fn pointer_to<T>(at: VirtAddr) -> NonNull<T> {
    let pointer = core::ptr::with_exposed_provenance_mut(at.get() as usize);
    // An address that wrapped to 0 becomes a pointer into the first page, which faults as well.
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

/// The pointer to the memory mapped `offset` bytes into a window that begins at `base`, which is not 0 and a multiple of
/// a power of two that is no smaller than the window: the compiler knows then that the pointer is not null.
#[inline(always)]
#[must_use]
pub fn pointer_in<T>(base: VirtAddr, offset: u64) -> NonNull<T> {
    pointer_to(VirtAddr::new(base.get() | offset))
}

/// The translation caches of every CPU that uses one set of page tables, whose input addresses are of `I`.
///
/// Called in the middle of a change: no method sleeps, or calls the memory manager.
///
/// # Safety
///
/// Memory is freed to allocators, and removed from the machine, because of [`flush`](Self::flush): when it returns
/// `Ok`, no CPU may translate through an entry that was cleared before the call, for any address of the ranges.
pub unsafe trait Tlb<I: Space = Virtual> {
    /// Orders the entries stored so far before any table walk that follows, on all CPUs.
    ///
    /// Called after entries went from absent to present; no cached entry needs to be dropped then.
    fn publish(&self);

    /// Drops, on all CPUs, the cached entries for `ranges`: the leaf entries of their addresses, and the cached
    /// pointers to every table that spans a byte of them (paging-structure caches; Intel SDM vol. 3A 4.10.3, Arm ARM
    /// D8.16 "TLB maintenance").
    ///
    /// One call is one round: if requests to other CPUs are necessary, there is one, for all of the ranges. Stores
    /// that cleared entries are ordered before the drop.
    ///
    /// # Errors
    ///
    /// [`NotFlushed`] if a CPU does not acknowledge in time that it dropped its entries. A wait for other CPUs is
    /// bounded.
    fn flush(&self, ranges: &[AddressRange<I>]) -> Result<(), NotFlushed>;

    /// Called for each detached table, and for each unmapped piece of memmap that comes from system memory, after
    /// the flush and just before its frames are freed.
    ///
    /// Hardware has nothing to do. A checking machine checks that no translation still reaches them.
    fn retire(&self, frame: PhysAddr, bytes: u64) {
        let _ = (frame, bytes);
    }
}

/// RAM for one page table, of no other use: the owner of the value may write it, and must return it to its source.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost"]
pub struct TableFrame {
    at: PhysAddr,
    bytes: u64,
}

impl TableFrame {
    /// The `bytes` of RAM at `at`.
    ///
    /// # Safety
    ///
    /// They are aligned to `bytes`, a power of two. They have no other use for as long as this value exists, or the
    /// table that is made of it, and the [`PhysMem`] of its user reaches them as long.
    pub const unsafe fn new(at: PhysAddr, bytes: u64) -> Self {
        Self { at, bytes }
    }

    /// Its address.
    pub const fn at(&self) -> PhysAddr {
        self.at
    }

    /// Its size.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its address, for a caller that keeps it in another form: in an entry of a table above, or in a list of free
    /// frames.
    pub const fn into_raw(self) -> PhysAddr {
        let at = self.at;
        core::mem::forget(self);
        at
    }
}

/// A dropped frame stays unused for ever. That harms no other code, but it is an error: it fails tests.
impl Drop for TableFrame {
    fn drop(&mut self) {
        #[cfg(any(test, feature = "testing"))]
        crate::testing::fail_unless(false, "a frame for a page table was dropped");
    }
}

/// The place of a table in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePlace {
    /// Its level, counted from the root (0).
    pub level: usize,
    /// The first address that it translates.
    pub first: u64,
}

/// The source of frames for page tables, which they are also freed to.
///
/// Called in the middle of a change of the tables, with the locks of the caller held: no method changes the same
/// tables, or sleeps where that caller must not.
pub trait TableFrames {
    /// Takes `bytes` of RAM, aligned to `bytes` (a power of two, possibly less than a page).
    ///
    /// The content does not matter: the walker zeroes it.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is none.
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames>;

    /// As [`take`](Self::take), for the table at `place`: for a source that moves its tables later, and must find
    /// them in the tree.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is none.
    fn take_for(&self, bytes: u64, place: TablePlace) -> Result<TableFrame, OutOfFrames> {
        let _ = place;
        self.take(bytes)
    }

    /// Frees a frame that [`take`](Self::take) returned.
    ///
    /// Only called for a table that no walk can reach any more.
    fn give_back(&self, frame: TableFrame);

    /// Keeps a frame that [`take`](Self::take) returned from being used again: a flush failed, and a CPU may still
    /// be walking the table, which must stay unchanged.
    ///
    /// By default the frame is leaked.
    fn strand(&self, frame: TableFrame) {
        let _stays = frame.into_raw();
    }

    /// Whether the table at `frame`, which became empty, stays in the tree: it existed before the first mapping, or
    /// a later mapping must find it again.
    fn keeps(&self, frame: PhysAddr) -> bool {
        let _ = frame;
        false
    }
}

/// A source without frames, for changes that need no table: a gather that detaches none, leaves that are mapped again where
/// they were.
#[derive(Clone, Copy, Debug)]
pub struct NoFrames;

impl TableFrames for NoFrames {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        Err(OutOfFrames { bytes })
    }

    fn give_back(&self, frame: TableFrame) {
        self.strand(frame);
    }
}

crate::errors! {
    /// A CPU did not acknowledge in time that it dropped stale translations: it may still use them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NotFlushed {
        /// Its number, or the lowest of several.
        pub cpu: usize,
    } => "CPU {cpu} does not acknowledge the flush, and may still use stale translations";

    /// All frames for page tables are in use.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OutOfFrames {
        /// Bytes of the requested table.
        pub bytes: u64,
    } => "no frame left for a page table of {bytes} bytes";
}

/// Implements the trait for each `$reference` to a `$target` that implements it: memory, or a TLB.
macro_rules! refer {
    ($target:ident: $reference:ty) => {
        // SAFETY: every guarantee is the referent's own.
        unsafe impl<$target: PhysMem + ?Sized> PhysMem for $reference {
            fn linear_base(&self) -> VirtAddr {
                (**self).linear_base()
            }

            fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
                (**self).pointer(at)
            }
        }

        // SAFETY: every guarantee is the referent's own.
        unsafe impl<I: Space, $target: Tlb<I> + ?Sized> Tlb<I> for $reference {
            fn publish(&self) {
                (**self).publish();
            }

            fn flush(&self, ranges: &[AddressRange<I>]) -> Result<(), NotFlushed> {
                (**self).flush(ranges)
            }

            fn retire(&self, frame: PhysAddr, bytes: u64) {
                (**self).retire(frame, bytes);
            }
        }
    };
}

#[cfg(any(test, feature = "testing"))]
pub(crate) use refer;

refer!(T: &T);

impl<S: TableFrames + ?Sized> TableFrames for &S {
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames> {
        (**self).take(bytes)
    }

    fn take_for(&self, bytes: u64, place: TablePlace) -> Result<TableFrame, OutOfFrames> {
        (**self).take_for(bytes, place)
    }

    fn give_back(&self, frame: TableFrame) {
        (**self).give_back(frame);
    }

    fn strand(&self, frame: TableFrame) {
        (**self).strand(frame);
    }

    fn keeps(&self, frame: PhysAddr) -> bool {
        (**self).keeps(frame)
    }
}
