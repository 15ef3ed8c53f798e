//! A software MMU: walks the tables as hardware does, and caches what it read until a flush, for each CPU.

// UNSAFETY: returns the tables of the fake machine, and reads them.
#![expect(unsafe_code)]

use super::FakeRam;
use super::cpu::{MAX_CPUS, cpu};
use super::std;
use super::std::boxed::Box;
use super::std::collections::HashMap;
use super::std::hash::{BuildHasherDefault, Hasher};
use super::std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use crate::addr::{Address, PhysAddr, PhysRange, Space, VirtAddr, VirtRange};
use crate::{Attr, Entry, PteFormat, Tables};

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

mod flat;
mod tlb;
mod used;
mod walk;

/// RAM behind an MMU for tables of format `F`, whose caches never drop entries on their own.
///
/// Like a real MMU it caches leaves (page by page) and, separately, pointers to tables, and translates by what it
/// cached. Unlike a real one it compares the entries that it uses with the tables, and panics when they differ. Each
/// CPU that was [started](Self::start_cpus) has caches of its own; a thread is the CPU that
/// [`on_cpu`](super::on_cpu) sets.
pub struct SoftMmu<F: PteFormat> {
    ram: FakeRam,
    root: PhysAddr,
    /// The address of physical address 0, if the walker's own accesses go through the MMU.
    linear: OnceLock<VirtAddr>,
    caches: [Mutex<Caches>; MAX_CPUS],
    /// CPUs that run.
    cpus: AtomicUsize,
    /// Another number whenever caches drop entries: what threads [used] before is to be cached again then.
    epoch: AtomicU64,
    /// A CPU that does not acknowledge, and one that is left out, plus one; or 0.
    silent: AtomicUsize,
    missed: AtomicUsize,
    flushes: AtomicU64,
    on_flush: Hook,
    before_flush: FlushCheck,
    on_access: Hook,
    skips_flushes: AtomicBool,
    yields: AtomicBool,
    claimed: AtomicBool,
    flat: Option<flat::Flat>,
    format: PhantomData<fn() -> F>,
}

/// A function of a test for a certain kind of event.
type Hook = OnceLock<Box<dyn Fn() + Send + Sync>>;

/// A function of the machine that checks the ranges of a flush.
type FlushCheck = OnceLock<Box<dyn Fn(&mut dyn Iterator<Item = VirtRange>) + Send + Sync>>;

/// A map by addresses, which every access of a suite looks up.
type Map<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// Mixes addresses: they differ in a few bits in the middle, and suites do not choose them to collide.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The low bits of the product of an aligned address are zero.
        self.0 ^ self.0 >> 32
    }
}

#[derive(Default)]
struct Caches {
    /// Address of a page -> its target.
    pages: Map<u64, (PhysAddr, Attr)>,
    /// Level and first address -> the table that translates from there.
    tables: Map<(usize, u64), PhysAddr>,
}

impl<F: PteFormat> SoftMmu<F> {
    const PAGE: u64 = F::LEVELS[F::LEVELS.len() - 1].span();

    /// A machine whose root table is at `root`.
    pub fn new(ram: FakeRam, root: PhysAddr) -> Arc<Self> {
        Self::with(ram, root, None)
    }

    fn with(ram: FakeRam, root: PhysAddr, flat: Option<flat::Flat>) -> Arc<Self> {
        Arc::new(Self {
            flat,
            ram,
            root,
            linear: OnceLock::new(),
            caches: Default::default(),
            cpus: AtomicUsize::new(1),
            epoch: AtomicU64::new(used::next_epoch()),
            silent: AtomicUsize::new(0),
            missed: AtomicUsize::new(0),
            flushes: AtomicU64::new(0),
            on_flush: Hook::new(),
            before_flush: FlushCheck::new(),
            on_access: Hook::new(),
            skips_flushes: AtomicBool::default(),
            yields: AtomicBool::default(),
            claimed: AtomicBool::default(),
            format: PhantomData,
        })
    }

    /// The tables that the MMU walks. They have one owner, so this can be called once.
    ///
    /// # Panics
    ///
    /// When called again.
    pub fn tables<I: Space>(self: &Arc<Self>) -> Tables<F, Arc<Self>, Arc<Self>, I> {
        assert!(!self.claimed.swap(true, Ordering::SeqCst), "the tables have an owner");
        // SAFETY: `claimed` makes this the only owner; the root lies in plugged RAM or the first access panics; the
        // RAM's pointers are valid for 64 KiB-aligned chunks, the largest table. These tables map and unmap nothing
        // on the host.
        unsafe { Tables::new(self.root, Arc::clone(self), Arc::clone(self)) }
    }

    /// The RAM.
    pub fn ram(&self) -> &FakeRam {
        &self.ram
    }

    /// Makes every [`PhysMem::pointer`](crate::PhysMem::pointer) go through the linear map at `base`, as in a real
    /// kernel: from now on, using RAM that is not mapped there panics.
    pub fn use_linear_map(&self, base: VirtAddr) {
        self.linear.get_or_init(|| base);
    }

    /// Has CPUs 0 to `count` run; initially only CPU 0 does, and any other from its first access on.
    ///
    /// # Panics
    ///
    /// If the machine has fewer.
    pub fn start_cpus(&self, count: usize) {
        assert!((1..=MAX_CPUS).contains(&count), "{count} CPUs");
        self.cpus.store(count, Ordering::SeqCst);
        self.begin_epoch();
    }

    /// Makes `cpu`, or none, a CPU that acknowledges no flush: each flush fails and names it, and it keeps its
    /// cached entries. A CPU that acknowledges again has dropped all of them before.
    pub fn silence(&self, cpu: Option<usize>) {
        let before = self.silent.swap(cpu.map_or(0, |cpu| cpu + 1), Ordering::SeqCst);
        if let Some(cpu) = before.checked_sub(1) {
            *locked(&self.caches[cpu]) = Caches::default();
        }
        self.begin_epoch();
    }

    /// Makes every flush leave out `cpu`, or none, without an error.
    pub fn miss(&self, cpu: Option<usize>) {
        self.missed.store(cpu.map_or(0, |cpu| cpu + 1), Ordering::SeqCst);
    }

    /// Calls `waits` in each flush, as one that waits for other CPUs; only the first call counts.
    pub fn on_flush(&self, waits: impl Fn() + Send + Sync + 'static) {
        self.on_flush.get_or_init(|| Box::new(waits));
    }

    /// Calls `check` at the start of each flush with its ranges, which panics if it may not be made there; only the first
    /// call counts.
    pub fn before_flush(
        &self,
        check: impl Fn(&mut dyn Iterator<Item = VirtRange>) + Send + Sync + 'static,
    ) {
        self.before_flush.get_or_init(|| Box::new(check));
    }

    /// Makes every flush do nothing, to test whether that is detected.
    pub fn skip_flushes(&self, skip: bool) {
        self.skips_flushes.store(skip, Ordering::SeqCst);
    }

    /// Makes every access to memory yield to another thread, on its way to the pointer: threads then meet between
    /// any two accesses, however few they make.
    pub fn yield_often(&self, yields: bool) {
        self.yields.store(yields, Ordering::SeqCst);
    }

    /// Calls `meets` before every access to memory, since another CPU may do anything there; only the first call
    /// counts. It is also called for accesses of `meets` itself.
    pub fn on_access(&self, meets: impl Fn() + Send + Sync + 'static) {
        self.on_access.get_or_init(|| Box::new(meets));
    }

    fn give_way(&self) {
        self.on_access.get().into_iter().for_each(|meets| meets());
        if self.yields.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }

    /// The number of flushes, including skipped ones.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// The target of an access to `at`; caches the entries used.
    ///
    /// # Panics
    ///
    /// On a page fault, and if the caches disagree with the tables.
    pub fn translate_through<I: Space>(&self, at: Address<I>) -> PhysAddr {
        self.access(at).0
    }

    /// The target of an access to `at` and the allowed accesses, if it does not fault; caches the entries used.
    ///
    /// # Panics
    ///
    /// If the caches disagree with the tables.
    pub fn walk_to<I: Space>(&self, at: Address<I>) -> Option<(PhysAddr, Attr)> {
        self.walk(at.get()).leaf?;
        Some(self.access(at))
    }

    /// The RAM that an access to `at` reaches, by tables that lie in RAM. The caches do not matter, and stay.
    pub fn target(&self, at: VirtAddr) -> Option<PhysAddr> {
        let mut frame = self.root;
        for (level, here) in F::LEVELS.iter().enumerate() {
            let slot = frame.add(8 * here.index(at.get()) as u64);
            if !slot.is_aligned(8) || !self.ram.is_plugged(slot) {
                return None;
            }
            match F::decode(self.word(slot).load(Ordering::SeqCst), level) {
                Entry::Absent => return None,
                Entry::Table(next) => frame = next,
                Entry::Leaf(phys, _) => {
                    let target = phys.add(at.get() & (here.span() - 1));
                    return self.ram.is_plugged(target).then_some(target);
                }
            }
        }
        None
    }

    /// Makes every CPU drop all cached entries, as a CPU may at any time.
    pub fn forget(&self) {
        for mut caches in self.running() {
            *caches = Caches::default();
        }
        self.begin_epoch();
    }

    /// A pointer to the RAM that an access to `at` reaches; valid up to the end of the page.
    ///
    /// # Panics
    ///
    /// As [`translate_through`](Self::translate_through), and if there is no RAM.
    pub fn pointer_through(&self, at: VirtAddr) -> NonNull<u8> {
        self.give_way();
        self.ram.pointer(self.access(at).0)
    }

    /// Loads the 8 bytes at `at`.
    ///
    /// # Panics
    ///
    /// As [`translate_through`](Self::translate_through).
    pub fn load(&self, at: VirtAddr) -> u64 {
        self.word(self.access(at).0).load(self.order())
    }

    /// Stores the 8 bytes at `at`.
    ///
    /// # Panics
    ///
    /// As [`translate_through`](Self::translate_through), and if stores are not allowed.
    pub fn store(&self, at: VirtAddr, value: u64) {
        let (target, attr) = self.access(at);
        assert!(attr.contains(Attr::WRITE), "store to read-only {at}");
        self.word(target).store(value, self.order());
    }

    /// The 8 bytes of RAM at `at`, without the MMU, as the CPU loads them.
    pub fn peek(&self, at: PhysAddr) -> u64 {
        self.word(at).load(self.order())
    }

    /// Writes the 8 bytes of RAM at `at`, without the MMU, as a device does.
    pub fn poke(&self, at: PhysAddr, value: u64) {
        self.word(at).store(value, self.order());
    }

    /// Fills the 8 bytes of RAM at `at` with `byte`, without the MMU.
    pub(super) fn fill_word(&self, at: PhysAddr, byte: u8) {
        self.word(at).store(u64::from_ne_bytes([byte; 8]), self.order());
    }

    /// Zeroes `bytes` of RAM at `at`, without the MMU.
    pub fn clear(&self, at: PhysAddr, bytes: u64) {
        for offset in (0..bytes).step_by(8) {
            self.fill_word(at.add(offset), 0);
        }
    }

    /// Has each CPU cache every translation and every table pointer, as a CPU that speculates may.
    ///
    /// Of each leaf the first page, the last and one in between are cached. After this, a missing flush is detected
    /// even without an access.
    pub fn speculate(&self) {
        for mut caches in self.running() {
            self.speculate_below(&mut caches, self.root, 0, 0);
        }
    }

    /// Checks that the cached entries of every CPU agree with the tables.
    ///
    /// # Panics
    ///
    /// If a stale entry remains.
    pub fn assert_coherent(&self) {
        for caches in self.running() {
            for (&at, &page) in &caches.pages {
                let truth = self.walk(at).page(at, Self::PAGE);
                assert_eq!(truth, Some(page), "stale TLB entry for {at:#x}");
            }
            for (&(level, base), &frame) in &caches.tables {
                let truth = self.walk(base).tables[level];
                assert_eq!(truth, Some(frame), "stale pointer to the table for {base:#x}");
            }
        }
    }

    /// Unplugs RAM.
    ///
    /// # Panics
    ///
    /// If it is not whole plugged ranges, or an entry still translates to it or walks through it.
    pub fn unplug(&self, range: PhysRange) {
        for caches in self.running() {
            for (at, (target, _)) in &caches.pages {
                assert!(
                    !range.contains(*target),
                    "{range} unplugged, but {at:#x} is still mapped there by a TLB entry"
                );
            }
            for frame in caches.tables.values() {
                assert!(!range.contains(*frame), "{range} unplugged with the table {frame}");
            }
        }
        self.ram.unplug(range);
    }

    /// The caches of the CPU that this thread runs as.
    fn own(&self) -> MutexGuard<'_, Caches> {
        let cpu = cpu();
        // Each access comes here, and a store of a word that all CPUs load is dear.
        if self.cpus.load(Ordering::SeqCst) <= cpu {
            self.cpus.fetch_max(cpu + 1, Ordering::SeqCst);
        }
        locked(&self.caches[cpu])
    }

    /// The caches of each CPU that runs, one at a time; a flat machine has none.
    fn running(&self) -> impl Iterator<Item = MutexGuard<'_, Caches>> {
        let cpus = if self.flat.is_some() { 0 } else { self.cpus.load(Ordering::SeqCst) };
        self.caches[..cpus].iter().map(locked)
    }

    fn word(&self, at: PhysAddr) -> &AtomicU64 {
        assert!(at.is_aligned(8), "unaligned access to {at}");
        let word = self.ram.pointer(at).cast::<AtomicU64>();
        // SAFETY: plugged RAM, aligned, and every access to memory that tests and tables share is atomic.
        unsafe { word.as_ref() }
    }

    fn access<I: Space>(&self, at: Address<I>) -> (PhysAddr, Attr) {
        if let Some(flat) = &self.flat {
            return self.access_flat(flat, at.get());
        }
        if let Some(used) = self.used(at.get()) {
            return used;
        }
        let epoch = self.epoch();
        let reached = self.access_locked(&mut self.own(), at);
        self.note_used(at.get(), reached, epoch);
        reached
    }

    fn access_locked<I: Space>(&self, caches: &mut Caches, at: Address<I>) -> (PhysAddr, Attr) {
        let walk = self.walk(at.get());
        let truth = walk.page(at.get(), Self::PAGE);
        let key = at.get() & !(Self::PAGE - 1);
        if let Some(&cached) = caches.pages.get(&key) {
            assert_eq!(Some(cached), truth, "stale TLB entry used at {at}");
            return (cached.0.add(at.get() - key), cached.1);
        }

        for level in 1..F::LEVELS.len() {
            let base = walk::first(&F::LEVELS[level - 1], at.get());
            let cached = caches.tables.get(&(level, base)).copied();
            assert!(
                cached.is_none() || cached == walk.tables[level],
                "stale pointer to a table of level {level} used at {at}"
            );
            if let Some(frame) = walk.tables[level] {
                caches.tables.insert((level, base), frame);
            }
        }
        let Some((page, attr)) = truth else {
            panic!("page fault at {at}");
        };
        caches.pages.insert(key, (page, attr));
        (page.add(at.get() - key), attr)
    }

    fn speculate_below(&self, caches: &mut Caches, frame: PhysAddr, level: usize, base: u64) {
        let here = F::LEVELS[level];
        for index in 0..here.entries() as u64 {
            let low = base + index * here.span();
            let virt = F::canonical(low);
            match self.entry(frame, level, low) {
                Entry::Absent => {}
                Entry::Table(next) => {
                    caches.tables.insert((level + 1, virt), next);
                    self.speculate_below(caches, next, level + 1, low);
                }
                Entry::Leaf(phys, attr) => {
                    let last = here.span() - Self::PAGE;
                    for offset in [0, (last / 2) & !(Self::PAGE - 1), last] {
                        caches.pages.insert(virt + offset, (phys.add(offset), attr));
                    }
                }
            }
        }
    }
}

fn locked(caches: &Mutex<Caches>) -> MutexGuard<'_, Caches> {
    caches.lock().unwrap_or_else(PoisonError::into_inner)
}
