//! Set-up: what a command needs is used where it is there, fetched where that is possible, and
//! otherwise asked for with the exact commands to type.
//!
//! ```text
//!   present?             -> use it
//!   rustup may download? -> rustup target add          (Rust only)
//!   Debian and root?     -> apt-get update && install
//!   else                 -> print what to run, exit non-zero
//! ```
//! Looking for what is there costs a few milliseconds, so every command simply asks each time.

mod apt;
mod programs;
mod rust;

pub(crate) use programs::{Program, ensure};
pub(crate) use rust::{Toolchain, clippy, toolchain};
