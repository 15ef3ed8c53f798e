//! What the walker asks of the world: pointers to tables, a TLB, and frames for new tables.

// UNSAFETY: declares the unsafe traits by which the machine vouches for its pointers and its TLB.
#![expect(unsafe_code)]

use crate::addr::{AddressRange, PhysAddr, PhysRange, Space, VirtAddr, Virtual};

use core::fmt;
use core::ptr::NonNull;

/// How the walker, and the memory manager, reach physical memory.
///
/// # Safety
///
/// For every frame of mapped RAM, [`pointer`](Self::pointer) returns a pointer that is valid for
/// reads and writes up to the end of the frame, or of the page table that begins there, and aliases no Rust
/// object but those that the walker and the memory manager make of it.
pub unsafe trait PhysMem {
    /// Where physical address 0 is in the linear map. A loader may say so when the kernel starts.
    fn linear_base(&self) -> VirtAddr;

    /// Where the byte at `at` can be read and written. The default is its address in the linear map; a
    /// machine whose virtual addresses are not this program's has another.
    #[inline]
    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        pointer_to(self.linear_base().add(at.get()))
    }
}

/// Physical memory that can be read as bytes: what a loader or firmware left there.
///
/// Parsers ask for every range before they look at it and never for more than one table, so an implementation may
/// map what is asked for on demand.
pub trait ReadPhys {
    /// The bytes of `range`, or `None` unless all of it can be read as data: mapped, and neither device registers nor
    /// memory that the reader writes meanwhile.
    fn bytes(&self, range: PhysRange) -> Option<&[u8]>;
}

/// The pointer to what is mapped at `at`.
#[inline]
#[must_use]
pub fn pointer_to<T>(at: VirtAddr) -> NonNull<T> {
    let pointer = core::ptr::with_exposed_provenance_mut(at.get() as usize);
    // An address that wrapped round to 0 becomes a pointer into the first page, which faults as well.
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

/// The translation caches of every CPU that uses one set of page tables, whose input addresses are of `I`.
///
/// Called in the middle of a change: no method sleeps, or calls the memory manager.
///
/// # Safety
///
/// Memory is given back to allocators, and taken out of the machine, on the strength of
/// [`flush`](Self::flush): when it returns `Ok`, no CPU may translate through an entry that was cleared
/// before it was called, for any address of the ranges.
pub unsafe trait Tlb<I: Space = Virtual> {
    /// Orders the entries stored so far before any table walk that follows, on all CPUs.
    ///
    /// Called after entries went from absent to present; nothing cached needs to be dropped then.
    fn publish(&self);

    /// Drops, on all CPUs, what is cached for `ranges`: the leaf entries of their addresses, and the
    /// cached pointers to every table that spans a byte of them (paging-structure caches; Intel SDM
    /// vol. 3A 4.10.3, Arm ARM D8.16 "TLB maintenance").
    ///
    /// One call is one round: where other CPUs have to be asked, they are asked once, for all of the ranges.
    /// Stores that cleared entries are ordered before the drop.
    ///
    /// # Errors
    ///
    /// [`NotFlushed`] when a CPU does not say in time that it dropped its share. A wait for other CPUs is bounded.
    fn flush(&self, ranges: &[AddressRange<I>]) -> Result<(), NotFlushed>;

    /// Told of each detached table, and of each unmapped piece of memmap that comes from system
    /// memory, after the flush and just before its frames go back.
    ///
    /// Hardware has nothing to do. A checking machine looks whether anything still reaches them.
    fn retire(&self, frame: PhysAddr, bytes: u64) {
        let _ = (frame, bytes);
    }
}

/// RAM for one page table, which nothing else uses: who holds it may write it, and owes it to the source it came from.
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
    /// They are aligned to `bytes`, a power of two. Nothing else uses them for as long as this value is there, or the
    /// table that is made of it, and the [`PhysMem`] of who gets it reaches them as long.
    pub const unsafe fn new(at: PhysAddr, bytes: u64) -> Self {
        Self { at, bytes }
    }

    /// Where it is.
    pub const fn at(&self) -> PhysAddr {
        self.at
    }

    /// How large it is.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its address, for who remembers it otherwise: in an entry of a table above, or in a list of free frames.
    pub const fn into_raw(self) -> PhysAddr {
        let at = self.at;
        core::mem::forget(self);
        at
    }
}

/// A frame that is dropped stays unused for good. That is no harm to anybody else, but an error: tests fail by it.
impl Drop for TableFrame {
    fn drop(&mut self) {
        #[cfg(any(test, feature = "testing"))]
        crate::testing::fail_unless(false, "a frame for a page table was dropped");
    }
}

/// Where the frames of page tables come from, and where they go back to.
///
/// Called in the middle of a change of the tables, with the locks of who changes them held: no method changes
/// the same tables, or sleeps where that caller may not.
pub trait TableFrames {
    /// Takes `bytes` of RAM, aligned to `bytes` (a power of two, possibly less than a page).
    ///
    /// What it holds does not matter: the walker zeroes it.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] when there is none.
    fn take(&self, bytes: u64) -> Result<TableFrame, OutOfFrames>;

    /// Gives back what [`take`](Self::take) returned.
    ///
    /// Only called for a table that nothing can be walking any more.
    fn give_back(&self, frame: TableFrame);

    /// Keeps what [`take`](Self::take) returned from being used again: a flush failed, and a CPU may be walking the
    /// table still, which must stay as it is.
    ///
    /// By default the frame is forgotten.
    fn strand(&self, frame: TableFrame) {
        let _stays = frame.into_raw();
    }

    /// Whether the table at `frame`, which became empty, stays where it is: it was there before anything
    /// was mapped, or what was unmapped must find it again.
    fn keeps(&self, frame: PhysAddr) -> bool {
        let _ = frame;
        false
    }
}

/// A CPU did not say in time that it dropped stale translations: it may translate by them still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFlushed {
    /// Its number, or the lowest of several.
    pub cpu: usize,
}

impl fmt::Display for NotFlushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {} does not answer, and may still use translations that are gone", self.cpu)
    }
}

impl core::error::Error for NotFlushed {}

/// There is no frame left for a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames {
    /// Bytes of the table that was wanted.
    pub bytes: u64,
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no frame left for a page table of {} bytes", self.bytes)
    }
}

impl core::error::Error for OutOfFrames {}

/// Has each `$reference` to a `$target` be what that is: memory, or what caches translations.
macro_rules! refer {
    ($target:ident: $reference:ty) => {
        // SAFETY: every promise is the referent's own.
        unsafe impl<$target: PhysMem + ?Sized> PhysMem for $reference {
            fn linear_base(&self) -> VirtAddr {
                (**self).linear_base()
            }

            fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
                (**self).pointer(at)
            }
        }

        // SAFETY: every promise is the referent's own.
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
