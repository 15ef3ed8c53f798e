//! A mapper behind a lock, as in a kernel whose page tables need `&mut`.

// UNSAFETY: passes on the guarantees of the mapper inside.
#![expect(unsafe_code)]

use super::FaultPlan;
use super::std;
use super::std::boxed::Box;
use super::std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use crate::addr::{Address, AddressRange, Space};
use crate::{
    Gather, MapError, Mapper, Mapping, StrangeEntry, TableAt, TableFrames, Translation, UnmapError,
};
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A mapper whose every call holds one lock, from its start to its end. The lock is not re-entrant: a call from
/// inside another, by a callback or by the source of frames, panics where a kernel would deadlock.
pub struct LockedMapper<T> {
    inner: T,
    lock: Mutex<()>,
    /// The thread that holds the lock.
    holder: AtomicUsize,
    refusals: FaultPlan,
    on_map: OnceLock<Hook>,
}

/// A function of what has been mapped: its first address, and bytes.
type Hook = Box<dyn Fn(u64, u64) + Send + Sync>;

/// The lock, held.
struct Held<'l> {
    holder: &'l AtomicUsize,
    _lock: MutexGuard<'l, ()>,
}

impl<T> LockedMapper<T> {
    /// Puts `inner` behind a lock.
    pub const fn new(inner: T) -> Self {
        let (lock, holder) = (Mutex::new(()), AtomicUsize::new(0));
        Self { inner, lock, holder, refusals: FaultPlan::never(), on_map: OnceLock::new() }
    }

    /// Calls `hook` with the first address and the bytes of all that is mapped; only the first call counts.
    pub fn on_map(&self, hook: impl Fn(u64, u64) + Send + Sync + 'static) {
        self.on_map.get_or_init(|| Box::new(hook));
    }

    /// The mapper inside, without the lock.
    pub const fn inner(&self) -> &T {
        &self.inner
    }

    /// The calls of `map` and `unmap` that are refused, with an error that the mapper inside would never return.
    pub const fn refusals(&self) -> &FaultPlan {
        &self.refusals
    }

    fn hold(&self) -> Held<'_> {
        let me = this_thread();
        assert_ne!(
            self.holder.load(Ordering::Relaxed),
            me,
            "the mapper is called from inside itself"
        );
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.holder.store(me, Ordering::Relaxed);
        Held { holder: &self.holder, _lock: lock }
    }
}

/// A number that no other thread has while this one lives, and not 0.
fn this_thread() -> usize {
    std::thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| core::ptr::from_ref(here).addr())
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.holder.store(0, Ordering::Relaxed);
    }
}

impl<T: fmt::Debug> fmt::Debug for LockedMapper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedMapper").field("inner", &self.inner).finish_non_exhaustive()
    }
}

// SAFETY: every guarantee is the inner mapper's own.
unsafe impl<I: Space, T: Mapper<I>> Mapper<I> for LockedMapper<T> {
    type Tlb = T::Tlb;

    fn tlb(&self) -> &T::Tlb {
        self.inner.tlb()
    }

    fn map<S: TableFrames>(&self, mapping: &Mapping<I>, frames: &S) -> Result<(), MapError<I>> {
        if !self.refusals.allows() {
            return Err(MapError::AlreadyMapped { at: mapping.virt });
        }
        let _held = self.hold();
        self.inner.map(mapping, frames)?;
        self.on_map.get().into_iter().for_each(|hook| hook(mapping.virt.get(), mapping.len));
        Ok(())
    }

    fn unmap<S: TableFrames>(
        &self,
        range: AddressRange<I>,
        gather: &mut Gather<'_, T::Tlb, S, I>,
    ) -> Result<(), UnmapError<I>> {
        if !self.refusals.allows() {
            return Err(UnmapError::BeyondFormat { range });
        }
        let _held = self.hold();
        self.inner.unmap(range, gather)
    }

    fn translate(&self, at: Address<I>) -> Option<Translation<I>> {
        let _held = self.hold();
        self.inner.translate(at)
    }

    fn visit(&self, range: AddressRange<I>, each: &mut dyn FnMut(Translation<I>)) {
        let _held = self.hold();
        self.inner.visit(range, each);
    }

    fn tables_for(&self, range: AddressRange<I>, max_leaf: u64, each: &mut dyn FnMut(u64, u64)) {
        let _held = self.hold();
        self.inner.tables_for(range, max_leaf, each);
    }

    fn visit_tables(&self, each: &mut dyn FnMut(TableAt<I>)) {
        let _held = self.hold();
        self.inner.visit_tables(each);
    }

    fn examine(&self, each: &mut dyn FnMut(TableAt<I>) -> bool) -> Option<StrangeEntry<I>> {
        let _held = self.hold();
        self.inner.examine(each)
    }
}
