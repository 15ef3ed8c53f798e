//! The list of capabilities, and the places of registers in it (virtio 1.2, 4.1.4).

use hotmem::PhysRange;

use super::bars::{BARS, Bar, bar};
use super::error::PciError;
use super::space::{ConfigSpace, Function, read8, read16};

const STATUS: u8 = 0x06;
const HAS_LIST: u16 = 1 << 4;
const LIST: u8 = 0x34;
/// The first byte where a capability can be.
const LEAST: u8 = 0x40;
/// Capabilities that fit into the configuration space.
const MOST: usize = 48;

const VENDOR: u8 = 0x09;
const MSI: u8 = 0x05;
const MSI_X: u8 = 0x11;

/// Registers of the function, as a capability describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) what: &'static str,
    pub(super) bar: u8,
    pub(super) offset: u32,
    pub(super) bytes: u32,
}

/// The capabilities that matter: the first of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) common: Option<Place>,
    pub(super) notify: Option<Place>,
    /// Bytes between the notification registers of two queues.
    pub(super) multiplier: u32,
    pub(super) device: Option<Place>,
    /// The register by which an interrupt of the line is acknowledged.
    pub(super) status: Option<Place>,
    /// Where the capability of MSI-X is, and of MSI.
    pub(super) message: Option<u8>,
    pub(super) old_message: Option<u8>,
}

impl Capabilities {
    /// Reads the list.
    pub(super) fn read(space: &impl ConfigSpace, function: Function) -> Self {
        let mut this = Self::default();
        if read16(space, function, STATUS) & HAS_LIST == 0 {
            return this;
        }
        let mut at = read8(space, function, LIST) & !3;
        for _ in 0..MOST {
            if at < LEAST {
                break;
            }
            match read8(space, function, at) {
                VENDOR => this.take(space, function, at),
                MSI_X => this.message = this.message.or(Some(at)),
                MSI => this.old_message = this.old_message.or(Some(at)),
                _ => {}
            }
            at = read8(space, function, at + 1) & !3;
        }
        this
    }

    /// The BARs with registers that the driver cannot do without, a bit for each.
    pub(super) fn needed(&self) -> u8 {
        let places = [self.common, self.notify, self.device];
        let bits = places.iter().flatten().filter_map(|place| 1_u8.checked_shl(place.bar.into()));
        bits.fold(0, |all, bit| all | bit)
    }

    /// Takes note of registers, unless the capability ends before it says where.
    fn take(&mut self, space: &impl ConfigSpace, function: Function, at: u8) {
        let len = read8(space, function, at + 2);
        let room = u16::from(at) + 16 <= 256;
        if len < 16 || !room {
            return;
        }
        let [bar, offset, bytes] = [4, 8, 12].map(|more| space.read(function, at + more));
        let place = |what| Some(Place { what, bar: bar as u8, offset, bytes });
        match read8(space, function, at + 3) {
            1 => self.common = self.common.or(place("the queue")),
            2 if self.notify.is_none() && len >= 20 && at <= 0xec => {
                self.notify = place("notifications");
                self.multiplier = space.read(function, at + 16);
            }
            3 => self.status = self.status.or(place("its interrupt line")),
            4 => self.device = self.device.or(place("its sizes")),
            _ => {}
        }
    }
}

impl Place {
    /// The addresses of the registers: `least` bytes of them at least, aligned to `align`.
    pub(super) fn range(
        &self,
        space: &impl ConfigSpace,
        function: Function,
        least: u32,
        align: u64,
    ) -> Result<PhysRange, PciError> {
        let Self { what, bar: index, offset, bytes } = *self;
        let whole = match bar(space, function, index, BARS) {
            Bar::Memory(range) => range,
            Bar::NotMemory | Bar::Unplaced(_) => {
                return Err(PciError::NoMemory(what, index));
            }
            Bar::None => return Err(PciError::NoBar(what, index)),
        };
        let outside = PciError::Outside { what, offset, bytes, bar: whole.len() };
        let end = u64::from(offset) + u64::from(bytes);
        if bytes < least || end > whole.len() || !u64::from(offset).is_multiple_of(align) {
            return Err(outside);
        }
        PhysRange::new(whole.start().add(offset.into()), bytes.into()).ok_or(outside)
    }
}
