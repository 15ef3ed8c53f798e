//! The devices that the virtual CPUs of a guest share.

use crate::Shared;
use crate::platform::Platform;
use core::fmt;
use hotmem::lock::lock_api::Mutex;
use hotmem_arch::contract::{Devices, Guests, Locked, Vcpu};

/// The devices of a platform.
type PlatformDevices<P> = <<<P as Platform>::Guests as Guests>::Vcpu as Vcpu>::Devices;

/// The devices of a guest, behind their lock. No other lock is taken while that is held; that of the console may be held
/// when it is taken.
pub(crate) struct GuestDevices<M: hotmem::Machine, P: Platform>(Mutex<M::Lock, PlatformDevices<P>>);

impl<M: Shared, P: Platform> GuestDevices<M, P> {
    /// Those of a guest with so many virtual CPUs.
    pub(crate) fn new(vcpus: usize) -> Self {
        Self(Mutex::new(PlatformDevices::<P>::new(vcpus)))
    }
}

impl<M: hotmem::Machine, P: Platform> Locked<PlatformDevices<P>> for GuestDevices<M, P> {
    fn with<R>(&self, f: impl FnOnce(&mut PlatformDevices<P>) -> R) -> R {
        f(&mut self.0.lock())
    }
}

impl<M: hotmem::Machine, P: Platform> fmt::Debug for GuestDevices<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestDevices(..)")
    }
}
