//! The virtual CPU of an architecture that runs no guests.

// UNSAFETY: implements a function with a safety contract.
#![expect(unsafe_code)]

use crate::contract::{GuestExit, GuestSpace, StateMemory, Vcpu};
use core::fmt;
use hotmem_paging::addr::GuestAddr;

/// It stops at once.
#[derive(Debug)]
pub struct NoVcpu(());

impl Vcpu for NoVcpu {
    const STATE_BYTES: u64 = 0;

    fn new(_state: StateMemory, _entry: GuestAddr, _arguments: [u64; 4]) -> Self {
        Self(())
    }

    unsafe fn run(&mut self, _space: &GuestSpace) -> GuestExit {
        GuestExit::Stopped("this architecture runs no guests", 0)
    }

    fn reply(&mut self, _value: u64) {}
}

impl fmt::Display for NoVcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no registers")
    }
}
