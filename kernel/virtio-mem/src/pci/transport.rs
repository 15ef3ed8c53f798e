//! The registers of a device on PCI (virtio 1.2, 4.1.4.3 and 4.1.4.4).

use core::fmt;

use hotmem::PhysRange;

use super::capabilities::Capabilities;
use super::error::PciError;
use super::message::{self, ENTRY, Message};
use super::space::{ConfigSpace, Function, Registers, read16, write_low};
use super::window::open_way;
use crate::transport::{Rings, Transport};

/// The common registers.
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIG_VECTOR: usize = 16;
const STATUS: usize = 20;
const GENERATION: usize = 21;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY: usize = 30;
const QUEUE_DESCRIPTORS: usize = 32;
const QUEUE_AVAILABLE: usize = 40;
const QUEUE_USED: usize = 48;
const COMMON_BYTES: u32 = 56;

/// The device's own registers: all that the driver reads.
const DEVICE_BYTES: u32 = 56;
/// The notification registers that are mapped at most.
const NOTIFY_BYTES: u64 = 0x1_0000;
const NO_VECTOR: u16 = 0xffff;

const COMMAND: u8 = 0x04;
/// The function decodes addresses of memory, and may access memory itself; it does not use its interrupt line.
const MEMORY: u16 = 1 << 1;
const MASTER: u16 = 1 << 2;
const NO_LINE: u16 = 1 << 10;

/// The registers of a device.
pub struct PciTransport<R> {
    common: R,
    notify: R,
    device: R,
    /// Bytes between the notification registers of two queues, and of all of them.
    multiplier: u32,
    notify_bytes: u64,
    /// Where in them the queue's is.
    notify_at: usize,
    interrupt: Interrupt<R>,
    /// Whether the device interrupts.
    interrupts: bool,
}

/// The ways by which the kernel can take the interrupts of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// The write that is an interrupt, if writes can be.
    pub message: Option<Message>,
    /// Whether its line ends at an interrupt controller.
    pub line: bool,
}

/// How a device interrupts.
enum Interrupt<R> {
    /// It does not.
    None,
    /// By its line, until this register is read.
    Line(R),
    /// By a message.
    Message,
}

impl<R: Registers> PciTransport<R> {
    /// Finds and maps the registers of `function`, which reports changes by a message, if it has such interrupts and the
    /// kernel takes them, or else by its line: the kernel has to connect it then ([`uses_line`](Self::uses_line)).
    ///
    /// `map` maps registers, unless the range is not what device registers can be in.
    ///
    /// # Errors
    ///
    /// [`PciError`]; the function is as it was.
    pub fn new(
        space: &impl ConfigSpace,
        function: Function,
        signals: Signals,
        mut map: impl FnMut(PhysRange) -> Option<R>,
    ) -> Result<Self, PciError> {
        let found = Capabilities::read(space, function);
        let missing = PciError::Missing;
        let common = found.common.ok_or(missing("the queue"))?;
        let notify = found.notify.ok_or(missing("notifications"))?;
        let device = found.device.ok_or(missing("its sizes"))?;
        let common = common.range(space, function, COMMON_BYTES, 4)?;
        let notify = notify.range(space, function, 2, 2)?;
        let device = device.range(space, function, DEVICE_BYTES, 4)?;
        // No more than what is used.
        let mut mapped = |range: PhysRange, most: u64| {
            let range = PhysRange::new(range.start(), range.len().min(most)).unwrap_or(range);
            map(range).ok_or(PciError::Map(range))
        };
        let notify_bytes = notify.len().min(NOTIFY_BYTES);
        let (common, device) =
            (mapped(common, COMMON_BYTES.into())?, mapped(device, DEVICE_BYTES.into())?);
        let notify = mapped(notify, notify_bytes)?;
        message::disable(space, function, &found);
        let command = read16(space, function, COMMAND);
        write_low(space, function, COMMAND, command & !NO_LINE | MEMORY | MASTER);
        open_way(space, function);
        let by_message = signals.message.zip(found.message).and_then(|(message, at)| {
            let table = message::table(space, function, at)?;
            let table = table.range(space, function, ENTRY, 4).ok()?;
            let table = mapped(table, ENTRY.into()).ok()?;
            message::enable(space, function, at, &table, message).ok()
        });
        let interrupt = if by_message.is_some() {
            Interrupt::Message
        } else {
            let status = found.status.filter(|_| signals.line);
            let status = status.and_then(|place| place.range(space, function, 1, 1).ok());
            let status = status.and_then(|range| mapped(range, 1).ok());
            status.map_or(Interrupt::None, Interrupt::Line)
        };
        let (multiplier, notify_at, interrupts) = (found.multiplier, 0, false);
        let this = Self {
            common,
            notify,
            device,
            multiplier,
            notify_bytes,
            notify_at,
            interrupt,
            interrupts,
        };
        if !this.uses_line() {
            silence_line(space, function);
        }
        Ok(this)
    }

    /// Whether it interrupts by its line.
    pub const fn uses_line(&self) -> bool {
        matches!(self.interrupt, Interrupt::Line(_))
    }

    /// Has it not interrupt by its line, which is not connected.
    pub fn give_up_line(&mut self, space: &impl ConfigSpace, function: Function) {
        self.interrupt = Interrupt::None;
        silence_line(space, function);
    }

    fn write64(&self, offset: usize, value: u64) {
        self.common.write32(offset, value as u32);
        self.common.write32(offset + 4, (value >> 32) as u32);
    }
}

impl<R: Registers> Transport for PciTransport<R> {
    fn status(&self) -> u8 {
        self.common.read8(STATUS)
    }

    fn set_status(&self, status: u8) {
        self.common.write8(STATUS, status);
    }

    fn offered(&self) -> u64 {
        let half = |select| {
            self.common.write32(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn accept(&self, features: u64) {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common.write32(DRIVER_FEATURE_SELECT, select);
            self.common.write32(DRIVER_FEATURE, half);
        }
    }

    fn generation(&self) -> u8 {
        self.common.read8(GENERATION)
    }

    fn config(&self, offset: u32) -> u32 {
        self.device.read32(offset as usize)
    }

    fn queue_room(&self, index: u16) -> u16 {
        self.common.write16(QUEUE_SELECT, index);
        self.common.read16(QUEUE_SIZE)
    }

    /// Also sets the vector of changes: a reset forgets it.
    fn set_queue(&mut self, index: u16, size: u16, rings: Rings) -> bool {
        let by_message = matches!(self.interrupt, Interrupt::Message);
        let vector = if by_message { 0 } else { NO_VECTOR };
        self.common.write16(CONFIG_VECTOR, vector);
        // A device without room for it says that it has none.
        let accepted = by_message && self.common.read16(CONFIG_VECTOR) == vector;
        self.interrupts = accepted || self.uses_line();
        self.common.write16(QUEUE_SELECT, index);
        self.common.write16(QUEUE_SIZE, size);
        self.common.write16(QUEUE_VECTOR, NO_VECTOR);
        self.write64(QUEUE_DESCRIPTORS, rings.descriptors.get());
        self.write64(QUEUE_AVAILABLE, rings.available.get());
        self.write64(QUEUE_USED, rings.used.get());
        let notify = u64::from(self.common.read16(QUEUE_NOTIFY)) * u64::from(self.multiplier);
        if notify + 2 > self.notify_bytes || !notify.is_multiple_of(2) {
            return false;
        }
        self.notify_at = notify as usize;
        self.common.write16(QUEUE_ENABLE, 1);
        true
    }

    fn notify(&self, index: u16) {
        self.notify.write16(self.notify_at, index);
    }

    fn interrupts(&self) -> bool {
        self.interrupts
    }

    fn silence(&self) {
        self.common.write16(CONFIG_VECTOR, NO_VECTOR);
        self.set_status(0);
        // A reset does not release the line of every device.
        self.acknowledge();
    }

    fn acknowledge(&self) {
        if let Interrupt::Line(status) = &self.interrupt {
            // The device releases its line.
            status.read8(0);
        }
    }
}

fn silence_line(space: &impl ConfigSpace, function: Function) {
    let command = read16(space, function, COMMAND);
    write_low(space, function, COMMAND, command | NO_LINE);
}

/// Has a function that is not used neither interrupt, by its line or by messages, nor access memory: other devices may have
/// the same line.
pub fn silence(space: &impl ConfigSpace, function: Function) {
    let command = read16(space, function, COMMAND);
    write_low(space, function, COMMAND, command & !MASTER | NO_LINE);
    message::disable(space, function, &Capabilities::read(space, function));
}

/// The number of the interrupt that the line of a function is connected to, by the word of firmware that connected it; on a
/// PC an ISA interrupt.
pub fn line_of(space: &impl ConfigSpace, function: Function) -> Option<u8> {
    const LINE: u8 = 0x3c;
    const PINS: core::ops::RangeInclusive<u8> = 1..=4;
    let [line, pin, ..] = space.read(function, LINE).to_le_bytes();
    (PINS.contains(&pin) && line != 0 && line != u8::MAX).then_some(line)
}

impl<R> fmt::Debug for PciTransport<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, interrupts) = (self.notify_at, self.interrupts);
        f.debug_struct("PciTransport")
            .field("notify", &at)
            .field("interrupts", &interrupts)
            .finish()
    }
}
