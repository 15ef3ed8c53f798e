//! The kernel image. On a host it is a stub: everything testable is in the library.
#![cfg_attr(bare, no_std)]
#![cfg_attr(bare, no_main)]

#[cfg(bare)]
hotmem_boot::entry!(hotmem_kernel::start::main);

#[cfg(not(bare))]
fn main() -> std::process::ExitCode {
    eprintln!("this is a host stub; `cargo xtask build` makes the kernel image");
    std::process::ExitCode::FAILURE
}
