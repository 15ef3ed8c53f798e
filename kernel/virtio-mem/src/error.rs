//! What can go wrong with memory of the devices.

use hotmem_hotplug::DeviceId;

use super::fault::Fault;
use super::pieces::MOST_DEVICES;

hotmem::errors! {
    /// What can go wrong with a piece.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum VirtioMemError {
        /// The device has a fault.
        Fault(fault: Fault) => "{fault}",
        /// The device requests the memory again.
        Withdrawn => "the device requests its memory again",
        /// The memory was to be spared, and has become short meanwhile.
        Needed => "memory has become short",
        /// No piece has this number.
        Unknown(device: DeviceId) => "{device} is not known",
        /// There are [`MOST_DEVICES`] already.
        TooMany => "more than {MOST_DEVICES} devices",
    }
}
