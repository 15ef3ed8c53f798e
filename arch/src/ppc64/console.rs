//! The hypervisor's virtual terminal (LoPAR 16.6.1).

// UNSAFETY: hypercalls.
#![expect(unsafe_code)]

use super::hcall::{H_BUSY, H_GET_TERM_CHAR, H_PUT_TERM_CHAR, H_SUCCESS, H_VIO_SIGNAL, hcall};
use crate::contract;
use crate::machine_info::MachineInfo;
use core::cell::Cell;
use hotmem_paging::addr::PhysRange;

/// Terminal 0: the first one that the machine has (QEMU, `hw/char/spapr_vty.c`). Used until a device tree was read,
/// and if the tree names no terminal.
const FIRST: u64 = 0;
/// Tries before a byte is dropped: a terminal that is stuck must not hang the kernel.
const MAX_POLLS: u32 = 1 << 24;

/// The terminal that is the console.
fn terminal() -> u64 {
    MachineInfo::noted().terminal.map_or(FIRST, u64::from)
}

/// The terminal, and the bytes received from it that were not read yet.
#[derive(Debug)]
pub struct Port {
    /// Up to sixteen bytes, the first one in the highest eight bits, as the hypervisor returns them.
    input: Cell<(u128, u32)>,
}

impl contract::Port for Port {
    const ISA_IRQ: Option<u8> = None;

    fn registers() -> Option<PhysRange> {
        None
    }

    unsafe fn open() -> Self {
        Self { input: Cell::new((0, 0)) }
    }

    fn send(&mut self, byte: u8) {
        let word = u64::from(byte) << 56;
        for _ in 0..MAX_POLLS {
            // SAFETY: the call sends one byte, the highest of the word.
            let result = unsafe { hcall(H_PUT_TERM_CHAR, [terminal(), 1, word, 0]) };
            if result.status != H_BUSY {
                return;
            }
        }
    }

    fn has_input(&self) -> bool {
        if self.input.get().1 == 0 {
            // SAFETY: the call returns its results in registers.
            let result = unsafe { hcall(H_GET_TERM_CHAR, [terminal(), 0, 0, 0]) };
            let [count, high, low] = result.results;
            if result.status == H_SUCCESS {
                let bytes = u128::from(high) << 64 | u128::from(low);
                self.input.set((bytes, count.min(16) as u32));
            }
        }
        self.input.get().1 != 0
    }

    fn receive(&mut self) -> Option<u8> {
        if !self.has_input() {
            return None;
        }
        let (bytes, count) = self.input.get();
        self.input.set((bytes << 8, count - 1));
        Some((bytes >> 120) as u8)
    }

    fn interrupt_on_receive(&mut self) {
        // SAFETY: the call only enables the interrupt of a virtual device.
        unsafe { hcall(H_VIO_SIGNAL, [terminal(), 1, 0, 0]) };
    }
}
