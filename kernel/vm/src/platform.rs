//! What guests need from the kernel, besides memory.

use core::fmt;
use hotmem_arch::contract::Guests;

/// The kernel that guests run on.
pub trait Platform: Sized + Send + Sync + fmt::Debug + 'static {
    /// The virtualization of its architecture.
    type Guests: Guests;

    /// The counter by which pauses are measured: that of the CPU that runs this.
    fn instructions() -> u64;

    /// The clock in which guests wait ([`Clock::timestamp`](hotmem_arch::contract::Clock::timestamp)).
    fn timestamp() -> u64;

    /// Disables interrupts on this CPU.
    fn disable_interrupts();

    /// Enables interrupts on this CPU: those that are pending are taken.
    fn enable_interrupts();

    /// Interrupts the CPU with this number, so that it leaves its guest.
    fn kick(cpu: usize);
}
