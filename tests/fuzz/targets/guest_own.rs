//! The target `guest_own` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hotmem_fuzz::run("guest_own", input));
