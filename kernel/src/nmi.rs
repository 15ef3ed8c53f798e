//! Non-maskable interrupts that an operator sends: the main loop logs where they found each CPU. With `nmi=panic` on the
//! command line the first one ends the kernel with a report, which shows what a kernel does that hangs.

use crate::backtrace;
use crate::cpus::table;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether an NMI ends the kernel.
static PANICS: AtomicBool = AtomicBool::new(false);
/// Whether a CPU noted one that is not logged yet.
static NOTED: AtomicBool = AtomicBool::new(false);

/// Sets whether an NMI ends the kernel.
pub(crate) fn set_panics(panics: bool) {
    PANICS.store(panics, Ordering::Relaxed);
}

/// Called in an NMI, which may have interrupted any code: notes that this CPU was at `instruction`. Returns whether the
/// kernel continues.
pub(crate) fn note(instruction: u64) -> bool {
    if PANICS.load(Ordering::Relaxed) {
        return false;
    }
    table::own().nmi.note(instruction);
    // Release: partner of the Acquire in `report`.
    NOTED.store(true, Ordering::Release);
    true
}

/// Logs the NMIs that came since the last call. Called by the main loop.
pub(crate) fn report() {
    // A load first: this runs in each turn of the main loop.
    if !NOTED.load(Ordering::Relaxed) || !NOTED.swap(false, Ordering::Acquire) {
        return;
    }
    for entry in table::all() {
        if let Some((count, at)) = entry.nmi.take() {
            log::warn!(
                "NMI: CPU {} was at {} and continues ({count})",
                entry.number(),
                backtrace::Place(at)
            );
        }
    }
}
