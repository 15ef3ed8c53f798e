//! A UEFI program with the kernel image inside: it puts the image where it is linked, passes it what
//! UEFI knows of the machine, and leaves.
//!
//! ```text
//!   firmware --> main: image in place, start info, boot services end --> paging off --> kernel's entry
//! ```
//!
//! The kernel is the same as on a machine without firmware: which of the two started it, it sees from
//! the start info. On any other system this is a stub.
#![cfg_attr(target_os = "uefi", no_std)]
#![cfg_attr(target_os = "uefi", no_main)]

mod image;
#[cfg(target_os = "uefi")]
mod leave;
#[cfg(target_os = "uefi")]
mod load;

#[cfg(not(target_os = "uefi"))]
fn main() -> std::process::ExitCode {
    eprintln!("this is a host stub; `cargo xtask build --firmware uefi` makes the program");
    std::process::ExitCode::FAILURE
}
