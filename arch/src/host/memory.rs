//! Memory that can be plugged, and an MMU that caches the entries it read.

// UNSAFETY: allocates the fake memory, and returns pointers into it.
#![expect(unsafe_code)]
#![expect(clippy::panic, reason = "where a machine would misbehave, the test fails")]

use super::Host;
use super::std::alloc::{Layout as Shape, alloc, dealloc, handle_alloc_error};
use super::std::collections::BTreeMap;
use super::std::vec::Vec;
use crate::contract::{Access, Architecture, GuestSpace, Guests, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_paging::addr::{GuestAddr, GuestRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
use hotmem_paging::{Attr, Entry, PteFormat};

type Format = <Host as Architecture>::Format;
type GuestFormat = <Host as Guests>::GuestFormat;

const PAGE: u64 = 1 << Host::PAGE_SHIFT;
/// The content of memory when it is plugged: garbage, as in a real DIMM.
const GARBAGE: u8 = 0xff;

/// One piece of memory, or a placeholder for registers, whose values are in the device only.
struct Piece {
    range: PhysRange,
    base: NonNull<u8>,
    registers: bool,
}

// SAFETY: the piece owns its allocation, which is not bound to a thread.
unsafe impl Send for Piece {}

impl Piece {
    fn shape(range: PhysRange) -> Shape {
        let shape = Shape::from_size_align(range.len() as usize, PAGE as usize);
        shape.unwrap_or_else(|_| panic!("{range} is too large to fake"))
    }

    fn new(range: PhysRange, registers: bool) -> Self {
        let whole = range.start().is_aligned(PAGE) && range.len().is_multiple_of(PAGE);
        assert!(whole && !range.is_empty(), "{range} is not whole pages");
        let shape = Self::shape(range);
        // SAFETY: the size is not 0.
        let base = unsafe { alloc(shape) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(shape) };
        // SAFETY: the allocation has that many bytes.
        unsafe { base.write_bytes(GARBAGE, shape.size()) };
        Self { range, base, registers }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated with this shape. A pointer into unplugged memory is as invalid as one into a DIMM that
        // was pulled.
        unsafe { dealloc(self.base.as_ptr(), Self::shape(self.range)) };
    }
}

/// A translation of a guest that the CPU has cached.
#[derive(Clone, Copy)]
struct Cached {
    target: PhysAddr,
    attr: Attr,
    /// Its leaf was marked as written: the CPU stores without another look at the tables.
    written: bool,
}

/// Memory, and the translations that the CPU caches.
#[derive(Default)]
pub(super) struct Memory {
    pieces: Vec<Piece>,
    /// The tables in use; before them, the early tables map memory in the linear map and in the device window.
    root: Option<PhysAddr>,
    /// Page -> target, as read at the first use after the last flush.
    cached: BTreeMap<u64, (PhysAddr, Attr)>,
    /// Tag and page of a guest -> target, as read at the first use after the last flush.
    guests: BTreeMap<(u16, u64), Cached>,
    keeps_guests: bool,
    /// The CPU was started.
    pub(super) in_use: bool,
}

impl Memory {
    pub(super) fn plug(&mut self, range: PhysRange, registers: bool) {
        let taken = self.pieces.iter().find(|piece| piece.range.overlaps(range));
        assert!(taken.is_none(), "{range} is plugged already");
        self.pieces.push(Piece::new(range, registers));
    }

    pub(super) fn unplug(&mut self, range: PhysRange) {
        let user = self.cached.iter().find(|(_, (page, _))| range.contains(*page));
        if let Some((at, _)) = user {
            panic!("{range} is unplugged, but the CPU translates {at:#x} to it");
        }
        let guest = self.guests.iter().find(|(_, known)| range.contains(known.target));
        if let Some(((tag, at), _)) = guest {
            panic!("{range} is unplugged, but the CPU translates {at:#x} of guest {tag} to it");
        }
        let before = self.pieces.len();
        self.pieces.retain(|piece| piece.range != range);
        assert!(self.pieces.len() < before, "{range} was not plugged as one piece");
    }

    /// The byte at `at`, if there is memory.
    pub(super) fn byte(&self, at: PhysAddr) -> Option<NonNull<u8>> {
        let piece = self.pieces.iter().find(|piece| piece.range.contains(at))?;
        let offset = at.offset_from(piece.range.start()) as usize;
        // SAFETY: the offset is less than the piece's bytes.
        Some(unsafe { piece.base.add(offset) })
    }

    /// Writes `bytes` at `at`.
    ///
    /// # Safety
    ///
    /// No Rust object is there, and no other thread accesses the bytes.
    ///
    /// # Panics
    ///
    /// If an address of `bytes` is not memory.
    pub(super) unsafe fn write(&self, at: PhysAddr, bytes: &[u8]) {
        for (offset, &byte) in (0..).zip(bytes) {
            let at = at.add(offset);
            let Some(pointer) = self.byte(at) else { panic!("no memory at {at}") };
            // SAFETY: the byte is memory of this machine; the rest by the contract of this function.
            unsafe { pointer.write_volatile(byte) };
        }
    }

    /// The address of the register behind `pointer`, a pointer that the CPU got from its tables.
    pub(super) fn register(&self, pointer: *const u8) -> Option<PhysAddr> {
        let pieces = self.pieces.iter().filter(|piece| piece.registers);
        let offset = |piece: &Piece| pointer.addr().wrapping_sub(piece.base.addr().get()) as u64;
        let mut found = pieces.map(|piece| (piece.range, offset(piece)));
        let (range, offset) = found.find(|(range, offset)| *offset < range.len())?;
        Some(range.start().add(offset))
    }

    /// Makes the tree at `root` the tables in use.
    pub(super) fn load_root(&mut self, root: PhysAddr) {
        self.root = Some(root);
        self.cached.clear();
    }

    /// The target of an access to `at`, and the accesses allowed there; caches the translation.
    pub(super) fn translate(&mut self, at: VirtAddr) -> Option<(PhysAddr, Attr)> {
        let page = at.get() & !(PAGE - 1);
        let truth = self.walk(VirtAddr::new(page));
        match (self.cached.get(&page), truth) {
            (Some(&known), truth) => {
                assert_eq!(Some(known), truth, "a stale translation of {at} is used");
            }
            (None, Some(fresh)) => {
                self.cached.insert(page, fresh);
            }
            (None, None) => {}
        }
        truth.map(|(phys, attr)| (phys.add(at.get() - page), attr))
    }

    /// Walks the tables for the page at `page`.
    fn walk(&self, page: VirtAddr) -> Option<(PhysAddr, Attr)> {
        let Some(root) = self.root else { return early(page) };
        self.walk_from::<Format>(root, page.get())
    }

    /// Walks the tree at `table` for the page at `page`.
    fn walk_from<F: PteFormat>(&self, table: PhysAddr, page: u64) -> Option<(PhysAddr, Attr)> {
        let (slot, level) = self.leaf::<F>(table, page)?;
        match F::decode(self.word(slot), level) {
            Entry::Leaf(phys, attr) => Some((phys.add(page & (F::LEVELS[level].span() - 1)), attr)),
            _ => None,
        }
    }

    /// The place of the leaf for the page at `page` in the tree at `table`, and its level.
    fn leaf<F: PteFormat>(&self, mut table: PhysAddr, page: u64) -> Option<(PhysAddr, usize)> {
        for (level, here) in F::LEVELS.iter().enumerate() {
            let slot = table.add(here.index(page) as u64 * 8);
            match F::decode(self.word(slot), level) {
                Entry::Absent => return None,
                Entry::Table(next) => table = next,
                Entry::Leaf(..) => return Some((slot, level)),
            }
        }
        None
    }

    /// Walks the tables of a guest for the page at `page`; marks the leaf if the guest stores.
    fn walk_guest(&self, space: &GuestSpace, page: u64, stores: bool) -> Option<Cached> {
        let (slot, level) = self.leaf::<GuestFormat>(space.root(), page)?;
        // SAFETY: an entry lies in one page, and pieces are whole pages; the kernel reads and writes entries as atomics,
        // too.
        let slot = unsafe { self.byte(slot)?.cast::<AtomicU64>().as_ref() };
        let mut word = slot.load(Ordering::Relaxed);
        let Entry::Leaf(phys, attr) = GuestFormat::decode(word, level) else { return None };
        if stores && attr.contains(Attr::WRITE) {
            word = slot.fetch_or(GuestFormat::WRITTEN, Ordering::Relaxed) | GuestFormat::WRITTEN;
        }
        let target = phys.add(page & (GuestFormat::LEVELS[level].span() - 1));
        let written = word & GuestFormat::WRITTEN == GuestFormat::WRITTEN;
        Some(Cached { target, attr, written })
    }

    /// The word at `at` of a guest, if its tables allow the access; caches the translation, and uses the one that it
    /// cached before.
    pub(super) fn guest_word(
        &mut self,
        space: &GuestSpace,
        at: GuestAddr,
        access: Access,
    ) -> Option<NonNull<u64>> {
        let page = at.get() & !(PAGE - 1);
        let stores = access == Access::Write;
        let known = self.guests.get(&(space.tag(), page)).copied();
        let known = match known.filter(|known| known.written || !stores) {
            Some(known) => known,
            None => {
                let fresh = self.walk_guest(space, page, stores)?;
                self.guests.insert((space.tag(), page), fresh);
                fresh
            }
        };
        let Cached { target, attr, .. } = known;
        let allowed = match access {
            Access::Read => true,
            Access::Write => attr.contains(Attr::WRITE),
            Access::Fetch => attr.contains(Attr::EXECUTE),
        };
        let target = target.add(at.get() - page);
        let word = self.byte(target);
        let word = word.unwrap_or_else(|| panic!("bus error: a guest accesses {target}"));
        allowed.then_some(word.cast())
    }

    pub(super) fn skip_guest_flushes(&mut self) {
        self.keeps_guests = true;
    }

    /// Drops the translations of `ranges` that are cached for guests of `space`.
    pub(super) fn flush_guest(&mut self, space: &GuestSpace, ranges: &[GuestRange]) {
        if self.keeps_guests {
            return;
        }
        let touched = |page| GuestRange::new(GuestAddr::new(page), PAGE).unwrap_or_default();
        self.guests.retain(|&(tag, page), _| {
            tag != space.tag() || !ranges.iter().any(|range| touched(page).overlaps(*range))
        });
    }

    fn word(&self, at: PhysAddr) -> u64 {
        let Some(word) = self.byte(at) else { panic!("bus error: a table at {at}") };
        // SAFETY: an entry lies in one page, and pieces are whole pages; only the CPU writes its tables.
        unsafe { word.cast::<u64>().read_volatile() }
    }

    /// A pointer to the byte at `at`.
    pub(super) fn pointer(&mut self, at: VirtAddr) -> NonNull<u8> {
        let Some((phys, _)) = self.translate(at) else { panic!("page fault at {at}") };
        self.byte(phys).unwrap_or_else(|| panic!("bus error: no memory at {phys}"))
    }

    /// A pointer to the bytes of `range`, if the range lies in one piece of memory.
    pub(super) fn bytes(&mut self, range: VirtRange) -> Option<NonNull<u8>> {
        let (start, _) = self.translate(range.start())?;
        for offset in (0..range.len()).step_by(PAGE as usize) {
            let (phys, _) = self.translate(range.start().add(offset))?;
            if phys != start.add(offset) {
                return None;
            }
        }
        let range = PhysRange::new(start, range.len())?;
        let whole = self.pieces.iter().any(|piece| piece.range.covers(range));
        self.byte(start).filter(|_| whole)
    }

    /// Drops the cached translations of `range`.
    pub(super) fn flush(&mut self, range: VirtRange) {
        let touched = |page| VirtRange::new(VirtAddr::new(page), PAGE);
        self.cached.retain(|&page, _| !touched(page).is_some_and(|page| page.overlaps(range)));
    }

    /// Fails if anything other than the linear map still translates to `range`, which is being freed.
    pub(super) fn retire(&self, range: PhysRange) {
        let linear = |phys: PhysAddr| Host::LINEAR_BASE.add(phys.get()).get();
        let user = self
            .cached
            .iter()
            .find(|&(&page, &(phys, _))| range.contains(phys) && page != linear(phys));
        if let Some((at, _)) = user {
            panic!("{range} is freed, but the CPU translates {at:#x} to it");
        }
    }
}

/// The early tables' entry for the page at `page`.
fn early(page: VirtAddr) -> Option<(PhysAddr, Attr)> {
    let bases = [Host::LINEAR_BASE, Host::DEVICE_BASE];
    let offsets = bases.map(|base| page.offset_from(base));
    let offset = offsets.into_iter().find(|&offset| offset < Host::PHYS_LIMIT.get())?;
    Some((PhysAddr::new(offset), Attr::WRITE))
}
