//! The machine as byte code sees it, while a method runs.

use hotmem_aml::{Aml, Host, Io, NodeId};

use super::device::Devices;
use super::facs::GlobalLock;
use super::hardware::Hardware;
use super::source::AcpiSource;

/// Registers go to the hardware, notifications to the devices.
pub(super) struct Bridge<'a, H> {
    pub(super) hardware: &'a mut H,
    pub(super) devices: &'a mut Devices,
    pub(super) lock: Option<GlobalLock>,
}

impl<H: Hardware> AcpiSource<H> {
    /// The interpreter, and what byte code reaches.
    pub(super) fn interpreter(&mut self) -> (&mut Aml, Bridge<'_, H>) {
        let (hardware, devices) = (&mut self.hardware, &mut self.devices);
        (&mut self.aml, Bridge { hardware, devices, lock: self.lock })
    }
}

impl<H: Hardware> Host for Bridge<'_, H> {
    fn io(&mut self) -> &mut dyn Io {
        self.hardware
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.devices.notify(node, value);
    }

    fn take_global_lock(&mut self) -> bool {
        self.lock.is_none_or(|lock| lock.take(self.hardware))
    }

    fn release_global_lock(&mut self) {
        if let Some(lock) = self.lock {
            lock.release(self.hardware);
        }
    }
}
