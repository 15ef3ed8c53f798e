//! What an architecture gives.
//!
//! The type of each architecture implements these traits, and [`current`](crate::current) is the one that this
//! build is for.

// UNSAFETY: declares functions whose callers promise something.
#![expect(unsafe_code)]

/// Accesses that may fault.
///
/// Each of them is a function whose *first* instruction is the access, so that the trap code knows one that
/// faulted by its address, and resumes it at a second function, which returns 0. The stack and the return
/// address are then as they were at the call. A fetch that faulted is known by its registers: the first
/// argument is where it was, the second [`FETCHING`](Self::FETCHING).
pub trait Probe {
    /// What the second argument of [`execute`](Self::execute) is.
    const FETCHING: u64 = 0x6665_7463_6869_6e67;

    /// Loads from `address` into `*value`, and returns 1.
    ///
    /// # Safety
    ///
    /// Reading the address has no side effect, and `value` can be written.
    unsafe extern "C" fn load(address: u64, value: *mut u64) -> u64;

    /// Stores `value` to `address`, and returns 1.
    ///
    /// # Safety
    ///
    /// If the address is writable, the value may be there.
    unsafe extern "C" fn store(address: u64, value: u64) -> u64;

    /// Continues at `address`.
    ///
    /// # Safety
    ///
    /// `address` translates to [`executed`](Self::executed), or faults.
    unsafe extern "C" fn execute(address: u64, fetching: u64) -> u64;

    /// What [`execute`](Self::execute) is sent to: returns 1.
    extern "C" fn executed() -> u64;
}
