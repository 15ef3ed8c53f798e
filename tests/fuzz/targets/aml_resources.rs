//! The target `aml_resources` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hotmem_fuzz::run("aml_resources", input));
