//! Run-time abstraction services: firmware functions that a device tree names (LoPAR, chapter 7).
//!
//! A call is an array of 32-bit cells. Every architecture's `current::rtas` has an `Rtas`; where no
//! firmware of this kind exists it is [`absent`]'s.

/// Bytes of the memory that calls exchange larger things by, a work area of
/// `ibm,configure-connector` at least.
pub const BUFFER_BYTES: usize = 4096;

/// Arguments and results of a call, at the most.
pub const CELLS: usize = 16;

/// Firmware did not take the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRtas;

/// Architectures without such firmware.
pub mod absent {
    use super::NoRtas;

    /// Nobody has one.
    #[derive(Debug)]
    pub struct Rtas(core::convert::Infallible);

    impl Rtas {
        /// `None`: there is no such firmware.
        pub fn take() -> Option<Self> {
            None
        }

        /// Never called: nobody has one.
        ///
        /// # Errors
        ///
        /// [`NoRtas`]
        pub fn call(
            &mut self,
            _token: u32,
            _args: &[u32],
            _rets: &mut [u32],
        ) -> Result<(), NoRtas> {
            match self.0 {}
        }

        /// Never called: nobody has one.
        pub fn buffer(&mut self) -> &mut [u8] {
            match self.0 {}
        }

        /// Never called: nobody has one.
        pub fn buffer_address(&self) -> u32 {
            match self.0 {}
        }
    }
}
