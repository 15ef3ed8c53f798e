//! Firmware functions that a device tree names.

// UNSAFETY: declares a function with a safety contract.
#![expect(unsafe_code)]

use core::convert::Infallible;

/// Firmware did not accept the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRtas;

/// The functions of firmware that a device tree names (run-time abstraction services; LoPAR, chapter 7). There is at
/// most one value, since calls exchange data through one memory area.
pub trait Rtas: Sized {
    /// The functions, for the first caller; `None` for later ones, and where firmware lacks them.
    fn take() -> Option<Self>;

    /// Calls the function `token` with 32-bit cells, and fills in its results; the first result is a status.
    ///
    /// # Safety
    ///
    /// With these cells the function writes to no memory but the [buffer](Self::buffer), and ends no guarantee that the
    /// kernel relies on: it keeps memory in use, and devices away from it.
    ///
    /// # Errors
    ///
    /// [`NoRtas`] if there are too many cells, or firmware refused.
    unsafe fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas>;

    /// The memory at [`buffer_address`](Self::buffer_address).
    fn buffer(&mut self) -> &mut [u8];

    /// The physical address of the buffer, in the form that calls take.
    fn buffer_address(&self) -> u32;
}

/// For an architecture without such firmware.
impl Rtas for Infallible {
    fn take() -> Option<Self> {
        None
    }

    unsafe fn call(&mut self, _token: u32, _args: &[u32], _rets: &mut [u32]) -> Result<(), NoRtas> {
        match *self {}
    }

    fn buffer(&mut self) -> &mut [u8] {
        match *self {}
    }

    fn buffer_address(&self) -> u32 {
        match *self {}
    }
}
