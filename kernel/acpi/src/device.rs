//! Memory devices of the namespace and what is around them, and what is pending for each.
//!
//! `Notify` runs in the middle of an event method that may hold a mutex, so it only sets bits here.
//! There is a place for every device and setting a bit twice is setting it once: no number of
//! notifications overflows anything.

use alloc::vec::Vec;
use core::ops::Range;

use hotmem::PhysRange;
use hotmem_aml::NodeId;
use hotmem_hotplug::Ranges;

use super::lists::push;
use super::parent::Parents;
use super::pending::{EJECT_REQUEST, Pending, Wanted};

/// The identifier of a memory device (ACPI 6.5, 9.11).
pub(super) const MEMORY_DEVICE: &str = "PNP0C80";

/// The identifier of a power button (ACPI 6.5, 4.8.2.2.1.2).
pub(super) const POWER_BUTTON: &str = "PNP0C0C";
/// Its `Notify` value when it is pressed.
const PRESSED: u64 = 0x80;

/// The `Notify` value of the device around all NVDIMMs when what `_FIT` returns has changed (ACPI 6.5, 9.20.7.2).
const FIT_CHANGED: u64 = 0x80;

/// The NVDIMMs of a machine.
#[derive(Debug, Default)]
pub(super) struct Nvdimms {
    /// The device around them, if they are used.
    pub(super) root: Option<NodeId>,
    /// Firmware has said that there are others now.
    pub(super) changed: bool,
}

/// `Notify` values of every device (ACPI 6.5, table 5.161).
const BUS_CHECK: u64 = 0;
const DEVICE_CHECK: u64 = 1;
const EJECT: u64 = EJECT_REQUEST as u64;

/// A memory device.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryDevice {
    pub(super) node: NodeId,
    pub(super) pending: Pending,
    /// The notification under way that the next `_OST` replies to; `None` after a scan.
    pub(super) reply_to: Option<u32>,
    /// The driver got an event with its memory, and has not given that up since.
    pub(super) announced: bool,
    /// The memory that it had when it was described last, whether that was taken or not.
    pub(super) memory: Ranges,
}

/// All memory devices, in the order of the tables, and the devices around them.
#[derive(Debug, Default)]
pub(super) struct Devices {
    list: Vec<MemoryDevice>,
    pub(super) parents: Parents,
    /// Devices that are power buttons.
    buttons: Vec<NodeId>,
    /// A power button was pressed.
    pressed: bool,
    pub(super) nvdimms: Nvdimms,
    /// Where the search for the next pending device starts, so that none waits forever.
    cursor: usize,
    /// A device that has no memory device below it was notified: look at every device.
    rescan: bool,
    /// The clock of the event whose methods are running.
    now: Option<u64>,
    /// How many notifications brought something that was not pending yet.
    noted: u64,
}

impl Devices {
    /// Takes note of a device. Only while setting up; `false` if the heap is full.
    pub(super) fn push(&mut self, node: NodeId) -> bool {
        let (pending, memory) = (Pending::default(), Ranges::default());
        let device = MemoryDevice { node, pending, reply_to: None, announced: false, memory };
        self.list.len() < usize::from(u16::MAX) && push(&mut self.list, device).is_ok()
    }

    /// Takes note of a power button. Only while setting up; `false` if the heap is full.
    pub(super) fn push_button(&mut self, node: NodeId) -> bool {
        push(&mut self.buttons, node).is_ok()
    }

    /// Notes that a power button was pressed.
    pub(super) fn press(&mut self) {
        if !core::mem::replace(&mut self.pressed, true) {
            log::info!("acpi: the power button was pressed");
        }
    }

    /// Whether a power button was pressed.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// A device that names memory of a range as its own.
    pub(super) fn with_memory_in(&self, range: PhysRange) -> Option<NodeId> {
        let has = |device: &&MemoryDevice| {
            device.memory.as_slice().iter().any(|piece| piece.overlaps(range))
        };
        self.list.iter().find(has).map(|device| device.node)
    }

    pub(super) fn get_mut(&mut self, index: u16) -> Option<&mut MemoryDevice> {
        self.list.get_mut(usize::from(index))
    }

    pub(super) fn get(&self, index: u16) -> Option<&MemoryDevice> {
        self.list.get(usize::from(index))
    }

    /// Sets the clock for notifications from now on.
    pub(super) fn begin(&mut self, since: Option<u64>) {
        self.now = since;
    }

    /// Notes a notification.
    pub(super) fn notify(&mut self, node: NodeId, value: u64) {
        let now = self.now;
        let wanted = match value {
            BUS_CHECK | DEVICE_CHECK => Wanted::Check(value as u32),
            EJECT => Wanted::Eject,
            PRESSED if self.buttons.contains(&node) => return self.press(),
            FIT_CHANGED if self.nvdimms.root == Some(node) => {
                self.noted += u64::from(!core::mem::replace(&mut self.nvdimms.changed, true));
                return;
            }
            value => return log::debug!("acpi: notification {value:#x} ignored"),
        };
        if let Some(device) = self.list.iter_mut().find(|device| device.node == node) {
            self.noted += u64::from(device.pending.note(wanted, now));
        } else if let Some(parent) = self.parents.of_node(node) {
            self.noted += u64::from(parent.pending.note(wanted, now));
        } else if wanted != Wanted::Eject {
            // A device check requests a scan of everything below the parent.
            self.noted += u64::from(!self.rescan);
            self.rescan = true;
        } else {
            log::debug!("acpi: an eject of something without memory is ignored");
        }
    }

    /// How many notifications brought something that was not pending yet.
    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    /// A device is gone: drops the pending request to eject it. What was announced since stays pending.
    pub(super) fn gone(&mut self, index: u16) {
        if let Some(device) = self.get_mut(index) {
            device.pending.gone();
        }
    }

    /// Requests a scan of every device.
    pub(super) fn scan(&mut self) {
        for device in &mut self.list {
            device.pending.note(Wanted::Scan, None);
        }
    }

    /// Requests a scan of a device.
    pub(super) fn scan_one(&mut self, index: u16) {
        if let Some(device) = self.get_mut(index) {
            device.pending.note(Wanted::Scan, None);
        }
    }

    /// Looks at every device if a notification asked for it.
    pub(super) fn rescan(&mut self) {
        if core::mem::take(&mut self.rescan) {
            self.scan();
        }
    }

    /// Whether anything is pending.
    pub(super) fn any_pending(&self) -> bool {
        self.list.iter().any(|device| device.pending.is_any()) || self.parents.any_pending()
    }

    /// Takes the next announcement or scan that is pending, of no device in `busy` and not of `except`. The
    /// turn of [`take`](Self::take) stays where it is.
    pub(super) fn take_insert(
        &mut self,
        except: Option<u16>,
        busy: &Range<u16>,
    ) -> Option<(u16, Wanted, Option<u64>)> {
        let (index, device) = (0..).zip(&mut self.list).find(|(index, device)| {
            device.pending.has_insert() && Some(*index) != except && !busy.contains(index)
        })?;
        let (wanted, since) = device.take()?;
        Some((index, wanted, since))
    }

    /// Takes the next thing that is pending. Devices in `busy` are passed over.
    pub(super) fn take(&mut self, busy: &Range<u16>) -> Option<(u16, Wanted, Option<u64>)> {
        let count = self.list.len();
        let order = (self.cursor..count).chain(0..self.cursor.min(count));
        for index in order {
            let device = self.list.get_mut(index)?;
            if busy.contains(&(index as u16)) {
                continue;
            }
            if let Some((wanted, since)) = device.take() {
                // The same device again if more is pending for it, else the one behind it.
                self.cursor = if device.pending.is_any() { index } else { index + 1 };
                return Some((index as u16, wanted, since));
            }
        }
        None
    }
}

impl MemoryDevice {
    fn take(&mut self) -> Option<(Wanted, Option<u64>)> {
        let taken = self.pending.take()?;
        self.reply_to = taken.0.notification();
        Some(taken)
    }
}
