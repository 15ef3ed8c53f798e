//! Which CPUs are in a guest: flushes on architectures where a CPU drops its translations when it enters a guest.

use crate::id::MAX_VCPUS;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use hotmem::paging::NotFlushed;

/// Poll limit of a wait for another CPU to leave its guest, which takes microseconds, on a busy host tenths of a
/// second.
const MAX_TURNS: u64 = 1 << 24;

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
        for _ in 0..MAX_TURNS {
            if self.passes.load(Ordering::SeqCst) != seen {
                return Ok(());
            }
            relax();
        }
        Err(NotFlushed { cpu })
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
