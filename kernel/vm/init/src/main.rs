//! The first program of a Linux guest: computes on its memory for some rounds, reports each to the kernel's log, and
//! turns the machine off.
//!
//! ```text
//!   init MIB ROUNDS (0: without end): in each round write a word to each of so many MiB, read all of them back, and report
//! ```
//!
//! A word is computed from its place and the round, and the checksum is over all words that were read so far, as the
//! payload's. Of several CPUs it uses another one in each round, and counts only those that it was at. The program has no
//! library under it: its system calls are in `system.rs`. On the host it is a stub.
#![cfg_attr(bare, no_std)]
#![cfg_attr(bare, no_main)]

#[cfg(all(bare, target_arch = "aarch64"))]
#[path = "aarch64.rs"]
mod calls;
#[cfg(all(bare, target_arch = "x86_64"))]
#[path = "x86_64.rs"]
mod calls;
mod rounds;
#[cfg(bare)]
mod system;

#[cfg(not(bare))]
fn main() -> std::process::ExitCode {
    // What the program does with its memory, on a little of it.
    let mut memory = vec![0; 8];
    let last =
        (1..=2).fold(rounds::Found::default(), |found, round| found.round(&mut memory, round));
    eprintln!("this is a host stub; `cargo xtask qemu --guest linux` makes the program ({last:?})");
    std::process::ExitCode::FAILURE
}
