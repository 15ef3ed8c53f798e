//! The CPUs on which virtualization is on.

use crate::platform::Platform;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem::{Machine, Mm};
use hotmem_arch::contract::{Guests, NoGuests};

/// The CPUs that can run guests: a bit for each.
#[derive(Debug, Default)]
pub(crate) struct Enabled(AtomicU64);

/// Proves that the CPU that has it can run guests.
pub(crate) struct EnabledHere(PhantomData<*const ()>);

impl Enabled {
    fn bit<M: Machine>(mm: &Mm<M>) -> u64 {
        1_u64.checked_shl(mm.machine().cpu() as u32).unwrap_or(0)
    }

    /// Turns virtualization on, on the CPU that runs this, for ever, unless it is on.
    pub(crate) fn enable<M: Machine, P: Platform>(
        &self,
        mm: &Mm<M>,
    ) -> Result<EnabledHere, NoGuests> {
        if self.0.load(Ordering::Acquire) & Self::bit(mm) == 0 {
            P::Guests::enable_guests()?;
            self.0.fetch_or(Self::bit(mm), Ordering::Release);
        }
        Ok(EnabledHere(PhantomData))
    }
}
