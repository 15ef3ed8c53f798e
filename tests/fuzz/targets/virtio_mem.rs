//! The target `virtio_mem` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hotmem_fuzz::run("virtio_mem", input));
