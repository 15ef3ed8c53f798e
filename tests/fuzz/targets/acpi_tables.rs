//! The target `acpi_tables` for cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hotmem_fuzz::run("acpi_tables", input));
