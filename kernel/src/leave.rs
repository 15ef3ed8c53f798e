//! The way out of the machine.

use crate::say;
use hotmem_arch::current::cpu::{self, Exit};

/// Leaves the machine with `code`, which is also the console's last line: firmware that turns a machine off takes no code.
pub(crate) fn with(code: u8) -> ! {
    say!("hotmem: exit {code}");
    cpu::exit(Exit::Code(code))
}
