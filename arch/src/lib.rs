//! What differs from one instruction set to another.
//!
//! The pure bit code of every architecture compiles on every host, so that its tests run anywhere;
//! only what executes instructions is limited to its own.
#![no_std]

pub mod x86_64;
