//! Which CPUs are in a guest: flushes on architectures where a CPU drops its translations when it enters a guest.

use crate::id::MAX_VCPUS;
use crate::sync::{AtomicU64, AtomicUsize, MAX_TURNS, Ordering};
use hotmem::paging::NotFlushed;

/// Set in an address while no CPU may enter.
const CLOSED: u64 = 1;

/// The address of the root of a guest's tables, which a CPU reads after it has [entered](Residence::enter).
#[derive(Debug)]
pub(crate) struct RootAddress(AtomicU64);

impl RootAddress {
    /// A root at `at`, which is even.
    pub(crate) fn new(at: u64) -> Self {
        Self(AtomicU64::new(at))
    }

    /// The root, whether CPUs may enter or not.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & !CLOSED
    }

    /// The root for a CPU that has entered; `None` while it moves.
    pub(crate) fn enter(&self) -> Option<u64> {
        let at = self.0.load(Ordering::SeqCst);
        (at & CLOSED == 0).then_some(at)
    }

    /// From now on no CPU enters; one that is in the guest stays until it is [expelled](expel).
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// CPUs enter again, with the root at `at`.
    pub(crate) fn open(&self, at: u64) {
        self.0.store(at, Ordering::SeqCst);
    }
}

/// The visits to a guest of the CPU that runs one of its virtual CPUs.
#[derive(Debug, Default)]
pub(crate) struct Residence {
    /// Entries and exits so far: odd while a CPU is in the guest.
    passes: AtomicU64,
    /// The CPU that entered last.
    cpu: AtomicUsize,
}

impl Residence {
    /// CPU `cpu` enters the guest. Whoever cleared an entry before and sees no CPU in the guest knows that this CPU
    /// drops its translations of it.
    pub(crate) fn enter(&self, cpu: usize) {
        self.cpu.store(cpu, Ordering::Relaxed);
        self.passes.fetch_add(1, Ordering::SeqCst);
    }

    /// The CPU has left the guest.
    pub(crate) fn leave(&self) {
        self.passes.fetch_add(1, Ordering::SeqCst);
    }

    /// Has `kick` interrupt a CPU that is in the guest. Returns its number, and which visit it was.
    fn ask(&self, kick: impl Fn(usize)) -> Option<(usize, u64)> {
        // Orders the cleared entries before the look: partner of the exchange in `enter`.
        let seen = self.passes.fetch_add(0, Ordering::SeqCst);
        if seen.is_multiple_of(2) {
            return None;
        }
        let cpu = self.cpu.load(Ordering::Relaxed);
        kick(cpu);
        Some((cpu, seen))
    }

    /// Waits until the CPU has ended this visit.
    fn wait(&self, (cpu, seen): (usize, u64), relax: impl Fn()) -> Result<(), NotFlushed> {
        let has_left = (0..MAX_TURNS).any(|_| {
            let has_left = self.passes.load(Ordering::SeqCst) != seen;
            if !has_left {
                relax();
            }
            has_left
        });
        if has_left { Ok(()) } else { Err(NotFlushed { cpu }) }
    }
}

/// Waits until each CPU that is in the guest has left it once: all are interrupted by `kick` before the first wait, and
/// `relax` is called during the waits.
pub(crate) fn expel(
    residences: &[Residence],
    kick: impl Fn(usize),
    relax: impl Fn(),
) -> Result<(), NotFlushed> {
    let mut visits = [None; MAX_VCPUS];
    for (visit, residence) in visits.iter_mut().zip(residences) {
        *visit = residence.ask(&kick);
    }
    for (visit, residence) in visits.iter().zip(residences) {
        visit.map_or(Ok(()), |visit| residence.wait(visit, &relax))?;
    }
    Ok(())
}
