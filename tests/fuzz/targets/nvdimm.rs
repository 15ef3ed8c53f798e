//! The target `nvdimm` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hotmem_fuzz::run("nvdimm", input));
