//! The end: a message, a backtrace, what memory holds, and out.

use crate::{backtrace, console, last_dump, memory};
use core::fmt::{self, Write};
#[cfg(bare)]
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use hotmem_arch::current::cpu::{self, Exit};

/// Set by the first death: a second one while reporting it just leaves.
static DYING: AtomicBool = AtomicBool::new(false);

#[cfg(bare)]
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    die(format_args!("{info}"), None, cpu::frame_pointer())
}

/// Reports `reason` with a backtrace and the start of a dump, and leaves the machine with the panic exit.
///
/// `first` is the instruction that failed, where it is not the caller's.
pub(crate) fn die(reason: fmt::Arguments<'_>, first: Option<u64>, frame_pointer: u64) -> ! {
    cpu::disable_interrupts();
    if !DYING.swap(true, Ordering::Relaxed) {
        let mut out = console::last_words();
        let _ = writeln!(out, "\nhotmem: panic: {reason}");
        let _ = backtrace::write(&mut out, first, frame_pointer);
        if let Some(mm) = memory::manager() {
            let _ = last_dump::write(mm, &mut out);
        }
    }
    cpu::exit(Exit::Panic)
}
