//! A model of QEMU's memory hotplug controller (docs/specs/acpi_mem_hotplug.rst), to evaluate
//! hotplug methods against. Where its registers lie is the test's choice.

use hotmem_aml::{Host, HostError, NodeId, Space, Width};

/// A memory slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slot {
    /// There is a DIMM in it.
    pub enabled: bool,
    /// Its first address.
    pub base: u64,
    /// Its bytes.
    pub len: u64,
    /// Its proximity domain.
    pub proximity: u32,
    /// It was plugged and nobody said "seen" yet.
    pub inserting: bool,
    /// It was asked to be ejected and nobody said "seen" yet.
    pub removing: bool,
}

/// A report by `_OST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ost {
    /// The slot.
    pub slot: u32,
    /// What happened.
    pub event: u32,
    /// How it ended.
    pub status: u32,
}

/// A `Notify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Who is notified.
    pub node: NodeId,
    /// Of what.
    pub value: u64,
}

/// A register access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Bytes from the controller's first register.
    pub offset: u64,
    /// How many bytes.
    pub width: Width,
    /// What was written; `None` for a read.
    pub written: Option<u64>,
}

/// The controller, and around it a machine that has nothing else.
#[derive(Debug)]
pub struct Controller {
    /// The slots.
    pub slots: Vec<Slot>,
    /// What `_OST` reported.
    pub reports: Vec<Ost>,
    /// Slots that were ejected.
    pub ejected: Vec<u32>,
    /// What was notified.
    pub notices: Vec<Notice>,
    /// Accesses to the controller's registers.
    pub accesses: Vec<Access>,
    /// Accesses to anything else. Reads there give zero.
    pub strays: Vec<(Space, u64)>,
    space: Space,
    base: u64,
    selected: u32,
    event: u32,
}

/// Bytes of registers.
const REGISTERS: u64 = 0x18;

/// The register of flags.
const FLAGS: u64 = 0x14;

impl Controller {
    /// A controller with empty slots, its registers at `base`.
    #[must_use]
    pub fn new(space: Space, base: u64, slots: usize) -> Self {
        Self {
            slots: vec![Slot::default(); slots],
            reports: Vec::new(),
            ejected: Vec::new(),
            notices: Vec::new(),
            accesses: Vec::new(),
            strays: Vec::new(),
            space,
            base,
            selected: 0,
            event: 0,
        }
    }

    /// Puts a DIMM into a slot, as `device_add` does.
    pub fn plug(&mut self, slot: usize, base: u64, len: u64, proximity: u32) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Slot { enabled: true, base, len, proximity, inserting: true, removing: false };
        }
    }

    /// Asks for a DIMM to be ejected, as `device_del` does.
    pub fn request_eject(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.removing = true;
        }
    }

    /// The offset of a register, if the controller has it.
    fn offset(&self, space: Space, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.base).filter(|&offset| offset < REGISTERS)?;
        (space == self.space).then_some(offset)
    }

    /// The slot that was selected last; one that does not exist reads as empty.
    fn slot(&mut self) -> Option<&mut Slot> {
        self.slots.get_mut(self.selected as usize)
    }

    /// What a register reads as.
    fn register(&mut self, offset: u64) -> u64 {
        let slot = self.slot().copied().unwrap_or_default();
        match offset {
            0x00 => slot.base & 0xFFFF_FFFF,
            0x04 => slot.base >> 32,
            0x08 => slot.len & 0xFFFF_FFFF,
            0x0C => slot.len >> 32,
            0x10 => u64::from(slot.proximity),
            FLAGS => {
                u64::from(slot.enabled)
                    | u64::from(slot.inserting) << 1
                    | u64::from(slot.removing) << 2
            }
            _ => u64::MAX,
        }
    }

    /// Does what a write to a register does.
    fn set_register(&mut self, offset: u64, value: u64) {
        match offset {
            0x00 => self.selected = value as u32,
            0x04 => self.event = value as u32,
            0x08 => {
                let (slot, event) = (self.selected, self.event);
                self.reports.push(Ost { slot, event, status: value as u32 });
            }
            FLAGS => self.set_flags(value),
            _ => {}
        }
    }

    /// Flags: each bit that is written does one thing.
    fn set_flags(&mut self, value: u64) {
        let selected = self.selected;
        let Some(slot) = self.slot() else { return };
        if value & 1 << 1 != 0 {
            slot.inserting = false;
        }
        if value & 1 << 2 != 0 {
            slot.removing = false;
        }
        if value & 1 << 3 != 0 && slot.enabled {
            *slot = Slot::default();
            self.ejected.push(selected);
        }
    }
}

impl Host for Controller {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        let Some(offset) = self.offset(space, address) else {
            self.strays.push((space, address));
            return Ok(0);
        };
        self.accesses.push(Access { offset, width, written: None });
        Ok(self.register(offset))
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        let Some(offset) = self.offset(space, address) else {
            self.strays.push((space, address));
            return Ok(());
        };
        self.accesses.push(Access { offset, width, written: Some(value) });
        self.set_register(offset, value);
        Ok(())
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.notices.push(Notice { node, value });
    }

    fn stall(&mut self, _microseconds: u64) {}

    fn sleep(&mut self, _milliseconds: u64) {}
}
