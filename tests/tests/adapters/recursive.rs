//! Tables that are reached by the CPU's own walk: a CPU in the handler of faults walks them.
//!
//! ```text
//!   an access by the recursive entry  --->  fault  --->  walk from the root, as a CPU does  --->  mmap of that page
//!   a flush of its address            --->  the page is unmapped; until then it stays, as in translation caches
//! ```

// UNSAFETY: handles faults, and maps memory at addresses that this module reserved.
#![expect(unsafe_code)]

use crate::arena::{Arena, ROOT};
use crate::mappers::{LARGE, Recorded, Rig, SMALL};
use hotmem::paging::testing::{RecordingTlb, TlbCalls, check_mapper};
use hotmem::paging::{NotFlushed, Tlb};
use hotmem::{PhysAddr, VirtRange};
use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use x86_64::structures::paging::{Page, PageTable, PageTableIndex, RecursivePageTable};

/// The root's entry that leads to the root: one of the lower half, where a process has its addresses.
const RECURSIVE: PageTableIndex = PageTableIndex::new(200);
/// What it translates.
const WINDOW: u64 = 200 << 39;
const WINDOW_BYTES: u64 = 1 << 39;
const PAGE: u64 = 4096;

/// The memory that the CPU walks: its address, bytes and file.
static BASE: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FILE: AtomicI32 = AtomicI32::new(-1);

/// The CPU, of which there is one: its addresses are the same for each test.
struct Cpu(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Cpu {
    fn new() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let held = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) = fault;
        // SAFETY: an action without flags and masks is all zeroes.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        // SAFETY: the handler has the type that the flag says.
        let set = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, null_mut()) };
        assert_eq!(set, 0, "a handler of faults");
        Self(held)
    }

    /// Tables over `arena`, whose root leads to itself. The CPU walks them from now on, and has cached nothing.
    fn tables(&self, arena: &Arena) -> RecursivePageTable<'static> {
        let entry = arena.at(PhysAddr::new(ROOT + 8 * u64::from(RECURSIVE))).cast::<u64>();
        // SAFETY: an entry of the root, which nothing else refers to yet.
        unsafe { entry.write(ROOT | 3) };
        BASE.store(arena.offset().as_u64(), Ordering::Relaxed);
        BYTES.store(arena.bytes(), Ordering::Relaxed);
        FILE.store(arena.file(), Ordering::Relaxed);
        forget(WINDOW, WINDOW_BYTES);
        let root = Page::from_page_table_indices(RECURSIVE, RECURSIVE, RECURSIVE, RECURSIVE);
        let at = with_exposed_provenance_mut::<PageTable>(root.start_address().as_u64() as usize);
        // SAFETY: the address translates to the root, which nothing else refers to.
        let root = unsafe { &mut *at };
        // SAFETY: the index is that of its entry which leads to itself.
        unsafe { RecursivePageTable::new_unchecked(root, RECURSIVE) }
    }
}

/// Maps the page of the window that was accessed. An access without a translation is repeated, and ends the test.
extern "C" fn fault(_signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the system passes the fault's description.
    let info = unsafe { &*info };
    // SAFETY: that of a fault has an address.
    let at = unsafe { info.si_addr() } as u64;
    let inside = at.wrapping_sub(WINDOW) < WINDOW_BYTES;
    if !(inside && walk(at).is_some_and(|frame| cache(at & !(PAGE - 1), frame))) {
        let text = b"an access to memory, or to a table, that the CPU cannot translate\n";
        // SAFETY: the text is as long as that, and a handler may write.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        // SAFETY: a call that takes no pointers, and that a handler may make.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    }
}

/// The frame that a walk finds, if all four entries lead to tables.
fn walk(at: u64) -> Option<u64> {
    let (base, bytes) = (BASE.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    [39, 30, 21, 12].into_iter().try_fold(ROOT, |table, shift| {
        let word =
            with_exposed_provenance::<u64>((base + table + 8 * (at >> shift & 511)) as usize);
        // SAFETY: an entry of a table in the arena, by the check below.
        let entry = unsafe { word.read_volatile() };
        let next = entry & 0x000f_ffff_ffff_f000;
        (entry & 1 << 7 == 0 && entry & 1 != 0 && next < bytes).then_some(next)
    })
}

/// Keeps the translation of a page to a frame. Returns whether the system did.
fn cache(page: u64, frame: u64) -> bool {
    let (at, file) = (with_exposed_provenance_mut(page as usize), FILE.load(Ordering::Relaxed));
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: a page of the window, which belongs to this module, to a frame of the arena.
    let mapped =
        unsafe { libc::mmap(at, PAGE as usize, access, flags, file, frame as libc::off_t) };
    mapped != libc::MAP_FAILED
}

/// Drops all translations of `bytes` from `at` on, which are in the window.
fn forget(at: u64, bytes: u64) {
    let place = with_exposed_provenance_mut(at as usize);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: addresses of the window, which belong to this module: the system gives none there unasked.
    let mapped = unsafe { libc::mmap(place, bytes as usize, libc::PROT_NONE, flags, -1, 0) };
    assert!(mapped != libc::MAP_FAILED, "addresses for the window");
}

/// The CPU's translation caches.
#[derive(Default)]
struct Cached(RecordingTlb);

// SAFETY: a flush drops what the CPU has cached of the ranges; nothing else is translated by the tables.
unsafe impl Tlb for Cached {
    fn publish(&self) {
        self.0.publish();
    }

    fn flush(&self, ranges: &[VirtRange]) -> Result<(), NotFlushed> {
        for range in ranges {
            let (start, end) = (range.start().get(), range.start().get() + (range.len() - 1));
            let (start, end) = (start.max(WINDOW), end.min(WINDOW + (WINDOW_BYTES - 1)));
            if start < end {
                forget(start, end - start + 1);
            }
        }
        self.0.flush(ranges)
    }
}

impl Recorded for Cached {
    fn calls(&self) -> TlbCalls {
        self.0.take()
    }
}

#[test]
fn a_recursive_page_table_passes_the_check() {
    let cpu = Cpu::new();
    for seed in 0..2 {
        for leaves in [SMALL, LARGE] {
            let rig = Rig::<_, Cached>::new(|arena| cpu.tables(arena), leaves);
            check_mapper(&rig, seed, 500);
        }
    }
}
