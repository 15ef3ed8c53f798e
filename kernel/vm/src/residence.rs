//! Which CPU is in a guest: flushes on architectures where a CPU drops its translations when it enters a guest.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use hotmem::paging::NotFlushed;

/// Poll limit of a wait for another CPU to leave its guest, which takes microseconds, on a busy host tenths of a
/// second.
const MAX_TURNS: u64 = 1 << 24;

/// The visits of a CPU to a guest.
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

    /// Waits until a CPU that is in the guest has left it once: it is interrupted by `kick`, and `relax` is called
    /// during the wait.
    pub(crate) fn expel(
        &self,
        kick: impl FnOnce(usize),
        relax: impl Fn(),
    ) -> Result<(), NotFlushed> {
        // Orders the cleared entries before the look: partner of the exchange in `enter`.
        let seen = self.passes.fetch_add(0, Ordering::SeqCst);
        if seen.is_multiple_of(2) {
            return Ok(());
        }
        let cpu = self.cpu.load(Ordering::Relaxed);
        kick(cpu);
        for _ in 0..MAX_TURNS {
            if self.passes.load(Ordering::SeqCst) != seen {
                return Ok(());
            }
            relax();
        }
        Err(NotFlushed { cpu })
    }
}
