//! What the driver needs of the machine: the registers of a device, a clock, and interrupt lines.

use hotmem::PhysAddr;

/// The registers of a virtio device, whatever bus it is on.
///
/// Registers that do not exist read as all ones, and writes to them have no effect: the driver then finds out.
pub trait Transport {
    /// The device status (virtio 1.2, 2.1).
    fn status(&self) -> u8;

    /// Writes the device status; 0 resets the device.
    fn set_status(&self, status: u8);

    /// The features that the device offers.
    fn offered(&self) -> u64;

    /// Writes the features that the driver accepts.
    fn accept(&self, features: u64);

    /// Changes whenever the device changes its configuration.
    fn generation(&self) -> u8;

    /// The 32 bits at `offset` of the device's own configuration.
    fn config(&self, offset: u32) -> u32;

    /// The most entries that queue `index` can have; 0 if the device lacks it.
    fn queue_room(&self, index: u16) -> u16;

    /// Gives queue `index` its memory, of `size` entries, and enables it. Returns whether the device can be notified of
    /// requests there.
    fn set_queue(&mut self, index: u16, size: u16, rings: Rings) -> bool;

    /// Notifies the device that queue `index` has a request.
    fn notify(&self, index: u16);

    /// Whether an interrupt reports changes of the configuration. Otherwise it is looked at whenever the kernel is awake.
    fn interrupts(&self) -> bool;

    /// Acknowledges an interrupt, so that the device releases its line. It may be another device's.
    fn acknowledge(&self) {}

    /// Resets a device that was given up, and does not wait for the end of that: it neither interrupts nor accesses memory
    /// any more, as far as it does what it should. What it has plugged stays (virtio 1.2, 5.15.4.2).
    fn silence(&self) {
        self.set_status(0);
    }
}

/// The memory of a queue, as the device addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// The descriptors.
    pub descriptors: PhysAddr,
    /// The driver's ring.
    pub available: PhysAddr,
    /// The device's ring.
    pub used: PhysAddr,
}

/// A clock, for the bounds of waits, and the lines of interrupts.
pub trait Board {
    /// Ticks since some time in the past.
    fn ticks(&self) -> u64;

    /// Ticks of a second; a guess is good enough.
    fn per_second(&self) -> u64;

    /// Unmasks the lines by which devices interrupt: each device has acknowledged its interrupt. Nothing for messages, and
    /// for lines that are not masked. Not called any more once all devices were given up.
    fn unmask(&self) {}
}

/// A counter, and its ticks in a second, on a machine whose lines are not masked, or are not used.
impl Board for (fn() -> u64, u64) {
    fn ticks(&self) -> u64 {
        self.0()
    }

    fn per_second(&self) -> u64 {
        self.1
    }
}
