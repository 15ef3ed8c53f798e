//! Where every entry continues: the kernel's main function.

// UNSAFETY: declares and defines the one symbol by which entry code and kernel find each other.
#![expect(unsafe_code)]

use crate::info::{BootInfo, HandoffError};

unsafe extern "Rust" {
    /// The kernel's main function, defined by [`crate::entry!`].
    pub(crate) safe fn hotmem_kernel_main(info: Result<BootInfo, HandoffError>) -> !;
}

/// Names the function that runs first, of type `fn(Result<BootInfo, HandoffError>) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Where the entry code of the boot crate continues.
        #[unsafe(no_mangle)]
        extern "Rust" fn hotmem_kernel_main(
            info: ::core::result::Result<$crate::BootInfo, $crate::HandoffError>,
        ) -> ! {
            let main: fn(_) -> ! = $main;
            main(info)
        }
    };
}
