//! The names by which the kernel knows the image it runs in.

pub use crate::x86_64::image;
