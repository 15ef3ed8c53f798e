//! The parts of the kernel that run on the host as well.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod acpi;
