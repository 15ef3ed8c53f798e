//! The I/O port space.

// UNSAFETY: port instructions access devices without the compiler's knowledge.
#![expect(unsafe_code)]

use ::x86_64::instructions::port::Port;

macro_rules! access {
    ($read:ident, $write:ident, $word:ty) => {
        /// Reads a port.
        ///
        /// # Safety
        ///
        /// The read may have side effects: they must not break what other code relies on.
        pub(super) unsafe fn $read(port: u16) -> $word {
            let mut port = Port::<$word>::new(port);
            // SAFETY: by this function's contract the side effects are allowed.
            unsafe { port.read() }
        }

        /// Writes a port.
        ///
        /// # Safety
        ///
        /// What the device does with the value, to memory included, must not break what other code relies on.
        pub(super) unsafe fn $write(port: u16, value: $word) {
            let mut port = Port::<$word>::new(port);
            // SAFETY: by this function's contract the side effects are allowed.
            unsafe { port.write(value) }
        }
    };
}

access!(read_u8, write_u8, u8);
access!(read_u16, write_u16, u16);
access!(read_u32, write_u32, u32);
