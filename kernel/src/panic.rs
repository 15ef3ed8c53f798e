//! The end of the kernel: a message, a backtrace, the contents of memory, and the exit.

use crate::cpus::stop::{self, Death};
use crate::{backtrace, console, last_dump, memory};
use core::fmt::{self, Write};
#[cfg(bare)]
use core::panic::PanicInfo;
use hotmem_arch::current::cpu::{self, Exit};

#[cfg(bare)]
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    die(format_args!("{info}"), None, cpu::frame_pointer())
}

/// Reports `reason` with a backtrace and the start of a dump, and leaves the machine with the panic exit. A second
/// panic while this CPU reports the first one only leaves the machine; a panic of another CPU stops that CPU.
///
/// `first` is the instruction that failed, if it is not in the caller.
pub(crate) fn die(reason: fmt::Arguments<'_>, first: Option<u64>, frame_pointer: u64) -> ! {
    cpu::disable_interrupts();
    if stop::die() == Death::First {
        stop::stop_others();
        let mut out = console::last_words();
        let _ = writeln!(out, "\nhotmem: panic: {reason}");
        let _ = backtrace::write(&mut out, first, frame_pointer);
        if let Some(mm) = memory::manager() {
            let _ = last_dump::write(mm, &mut out);
        }
    }
    cpu::exit(Exit::Panic)
}
