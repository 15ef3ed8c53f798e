//! This architecture runs no guests yet.

use super::{Ppc64, pte};
use crate::common::no_guests::NoVcpu;
use crate::contract::GuestSpace;
use crate::contract::{Guests, Layout, NoGuests, StateMemory};
use hotmem_paging::addr::{GuestAddr, GuestRange};

impl Guests for Ppc64 {
    type GuestFormat = pte::Radix<{ Self::PAGE_SHIFT }>;
    type Vcpu = NoVcpu;

    const GUEST_RAM: GuestAddr = GuestAddr::new(0);
    const GUEST_LIMIT: GuestAddr = GuestAddr::new(0);
    const CPU_STATE_BYTES: u64 = 0;
    const GUEST_FLUSH_REACHES_ALL: bool = true;

    fn enable_guests(_state: StateMemory) -> Result<(), NoGuests> {
        Err(NoGuests("a driver of virtualization for ppc64"))
    }

    fn publish_guest_entries() {}

    fn drop_guest_translations(_space: &GuestSpace, _ranges: &[GuestRange]) {}

    fn payload() -> &'static [u8] {
        &[]
    }
}
