//! Frames for page tables and section nodes: the boot reserve, then the allocator.
//!
//! So that adding memory needs no free memory, the frames that the machine's hot-pluggable window can ever need are
//! reserved at boot, in as few pieces of RAM as possible. A frame is freed to its origin: the reserve recognises its
//! own by their address. Tables of less than a page share frames: see `packed`.

// UNSAFETY: links the reserve's free frames through their first word, and vouches for frames that it allocates.
#![expect(unsafe_code)]

use crate::addr::{PhysAddr, PhysRange};
use crate::alloc::packed::Packed;
use crate::lock::{Mutex, RawLock};
use crate::machine::Machine;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

mod link {
    use crate::addr::PhysAddr;
    use crate::machine::PhysMem;

    /// Writes the link of a free frame of the reserve.
    ///
    /// Stored plus one, so that 0 stands for none: the reserve may begin at physical address 0.
    pub(super) fn set(memory: &impl PhysMem, frame: PhysAddr, link: Option<PhysAddr>) {
        let word = link.map_or(0, |link| link.get() + 1);
        // SAFETY: the frame is RAM of the reserve and free: no code refers to it, no table walk reaches it (it was
        // never a table, or was flushed before it was freed), and it is page-aligned.
        unsafe { memory.pointer(frame).cast::<u64>().write(word) };
    }

    /// Reads the link of a free frame of the reserve.
    pub(super) fn get(memory: &impl PhysMem, frame: PhysAddr) -> Option<PhysAddr> {
        // SAFETY: as in `set`, which wrote the word.
        let word = unsafe { memory.pointer(frame).cast::<u64>().read() };
        word.checked_sub(1).map(PhysAddr::new)
    }
}

/// Pieces of RAM in the reserve at most.
pub(crate) const RESERVE_PIECES: usize = 32;

/// The reserve's free frames: the frames of the first piece that were never used, and a stack of those that were
/// freed, or belong to another piece.
#[derive(Debug)]
pub(super) struct Reserve {
    /// The pieces, the largest first; the rest is empty.
    pieces: [PhysRange; RESERVE_PIECES],
    /// The start of the frames of the first piece that were never used.
    unused: PhysAddr,
    /// The frame that was freed last.
    returned: Option<PhysAddr>,
    free: u64,
}

/// Counts and the reserve.
#[derive(Debug)]
pub(crate) struct Frames<L: RawLock> {
    pub(super) reserve: Mutex<L, Reserve>,
    /// The start and bytes of the reserve's first piece, which is usually all of it: written once.
    first: [AtomicU64; 2],
    /// Frames that hold several tables.
    pub(super) packed: Mutex<L, Packed>,
    /// Pages of the allocator that operations hold: tables, nodes, and memmaps placed there.
    system_pages: AtomicU64,
    /// Pages that are stranded.
    stranded: AtomicU64,
    /// Whether a page that was taken for tables or nodes, or belongs to the reserve, turned out bad, or is stranded.
    pub(super) bad: AtomicBool,
}

impl<L: RawLock> Frames<L> {
    pub(crate) const fn new() -> Self {
        let unused = PhysRange::EMPTY.start();
        Self {
            reserve: Mutex::new(Reserve {
                pieces: [PhysRange::EMPTY; RESERVE_PIECES],
                unused,
                returned: None,
                free: 0,
            }),
            first: [const { AtomicU64::new(0) }; 2],
            packed: Mutex::new(Packed::new()),
            system_pages: AtomicU64::new(0),
            stranded: AtomicU64::new(0),
            bad: AtomicBool::new(false),
        }
    }

    /// Makes `pieces`, which are of no other use, the reserve; the first is the largest.
    pub(crate) fn set_reserve<M: Machine>(&self, machine: &M, pieces: [PhysRange; RESERVE_PIECES]) {
        let [first, others @ ..] = pieces;
        self.first[0].store(first.start().get(), Ordering::Relaxed);
        self.first[1].store(first.len(), Ordering::Relaxed);
        *self.reserve.lock() = Reserve {
            pieces,
            unused: first.start(),
            returned: None,
            free: first.len() / M::PAGE_BYTES,
        };
        for pfn in others.into_iter().rev().flat_map(|piece| M::pfns(piece).iter()) {
            self.reserve.lock().push(machine, M::address(pfn));
        }
    }

    /// Removes `frame` from the reserve if it is free there; returns whether it was.
    ///
    /// For the operation under way: only operations take frames and free them, so the list is searched without the
    /// lock.
    pub(super) fn withdraw<M: Machine>(&self, machine: &M, frame: PhysAddr) -> bool {
        let (mut before, mut found) = (None, false);
        self.visit_returned(machine, &mut |at| {
            found = at == frame;
            if !found {
                before = Some(at);
            }
            !found
        });
        self.reserve.lock().withdraw(machine, frame, found.then_some(before))
    }

    /// The reserve: its pieces, and the number of its free pages.
    pub(crate) fn reserve(&self) -> ([PhysRange; RESERVE_PIECES], u64) {
        let reserve = self.reserve.lock();
        (reserve.pieces, reserve.free)
    }

    /// Whether the frame that contains `at` belongs to the reserve.
    #[inline]
    pub(crate) fn reserves(&self, at: PhysAddr) -> bool {
        let [start, len] = [0, 1].map(|index: usize| self.first[index].load(Ordering::Relaxed));
        at.get().wrapping_sub(start) < len || self.reserves_elsewhere(at)
    }

    #[cold]
    fn reserves_elsewhere(&self, at: PhysAddr) -> bool {
        let [_, others @ ..] = self.reserve.lock().pieces;
        others.iter().any(|piece| piece.contains(at))
    }

    /// The frames of the reserve except those never used; and the latter.
    pub(crate) fn handed_out(&self) -> (impl Iterator<Item = PhysRange> + use<L>, PhysRange) {
        let Reserve { pieces: [first, others @ ..], unused, .. } = *self.reserve.lock();
        let used = PhysRange::new(first.start(), unused.offset_from(first.start()));
        let rest = PhysRange::new(unused, first.end().offset_from(unused));
        let others = others.into_iter().filter(|piece| !piece.is_empty());
        (used.into_iter().chain(others), rest.unwrap_or_default())
    }

    /// Calls `each` with the freed frames of the reserve, the last one first, until it returns `false`.
    pub(crate) fn visit_returned<M: Machine>(
        &self,
        machine: &M,
        each: &mut dyn FnMut(PhysAddr) -> bool,
    ) {
        let mut next = self.reserve.lock().returned;
        while let Some(frame) = next.filter(|&frame| each(frame)) {
            next = link::get(machine, frame);
        }
    }

    /// Whether a page that was taken for tables or nodes is bad.
    pub(crate) fn any_bad(&self) -> bool {
        self.bad.load(Ordering::Relaxed)
    }

    /// Tables and nodes in frames that they share.
    pub(crate) fn pieces(&self) -> u64 {
        self.packed.lock().pieces()
    }

    /// Pages of the allocator that operations hold.
    pub(crate) fn system_pages(&self) -> u64 {
        self.system_pages.load(Ordering::Relaxed)
    }

    /// Pages that are stranded.
    pub(crate) fn stranded(&self) -> u64 {
        self.stranded.load(Ordering::Relaxed)
    }

    pub(super) fn count_stranded(&self, pages: u64) {
        self.stranded.fetch_add(pages, Ordering::Relaxed);
    }

    pub(crate) fn count_system(&self, pages: u64) {
        self.system_pages.fetch_add(pages, Ordering::Relaxed);
    }

    pub(crate) fn uncount_system(&self, pages: u64) {
        self.system_pages.fetch_sub(pages, Ordering::Relaxed);
    }
}

impl Reserve {
    /// Takes a frame; a frame that was never used only if it is not bad.
    pub(super) fn pop<M: Machine>(
        &mut self,
        machine: &M,
        is_bad: impl Fn(PhysAddr) -> bool,
    ) -> Option<PhysAddr> {
        self.free = self.free.checked_sub(1)?;
        if let Some(frame) = self.returned {
            self.returned = link::get(machine, frame);
            return Some(frame);
        }
        loop {
            let frame = self.unused;
            self.unused = frame.add(M::PAGE_BYTES);
            if !is_bad(frame) {
                return Some(frame);
            }
        }
    }

    /// Removes `frame` if it is free; returns whether it was. `listed` is the frame that was freed after it, if it is
    /// among those that were freed.
    fn withdraw<M: Machine>(
        &mut self,
        machine: &M,
        frame: PhysAddr,
        listed: Option<Option<PhysAddr>>,
    ) -> bool {
        let [first, ..] = self.pieces;
        let unused = frame >= self.unused && first.contains(frame);
        if let Some(before) = listed {
            let next = link::get(machine, frame);
            match before {
                Some(before) => link::set(machine, before, next),
                None => self.returned = next,
            }
        }
        let free = unused || listed.is_some();
        self.free -= u64::from(free);
        free
    }

    pub(super) fn push<M: Machine>(&mut self, machine: &M, frame: PhysAddr) {
        link::set(machine, frame, self.returned);
        self.returned = Some(frame);
        self.free += 1;
    }
}
