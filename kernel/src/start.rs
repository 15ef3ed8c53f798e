//! The kernel's first function, and the order in which everything comes up.

use crate::{console, heap, logger, say, traps};
use hotmem_arch::current::cpu::{self, Exit};
use hotmem_boot::{BootInfo, HandoffError};

/// Runs on the early stack and the early page tables, with interrupts off.
pub fn main(handoff: Result<BootInfo, HandoffError>) -> ! {
    console::init();
    logger::init();
    heap::init();
    traps::init(None);
    match handoff {
        Ok(info) => run(&info),
        Err(error) => {
            say!("hotmem: the loader's hand-off is unusable: {error}");
            cpu::exit(Exit::Panic)
        }
    }
}

fn run(info: &BootInfo) -> ! {
    log::info!("{:?}", info.ram);
    panic!("end of the road")
}
