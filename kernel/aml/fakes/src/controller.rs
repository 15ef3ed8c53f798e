//! A model of QEMU's memory hotplug controller (docs/specs/acpi_mem_hotplug.rst), to evaluate
//! hotplug methods against. Where its registers lie is the test's choice.

use hotmem_aml::{Host, HostError, Io, NodeId, Space, Width};

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
    /// It was plugged, and firmware has not cleared the bit yet.
    pub inserting: bool,
    /// Its eject was requested, and firmware has not cleared the bit yet.
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
    /// The device that is notified.
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
    /// Accesses from this address on, up to the next page, are refused.
    pub refuse: Option<u64>,
    layout: Layout,
    /// A register outside the controller, and what it reads as: a Generic Event Device's
    /// "what happened".
    pub doorbell: Option<(Space, u64, u64)>,
    /// Whether that register forgets what happened once it was read, as QEMU's does.
    pub forgets: bool,
    selected: u32,
    event: u32,
}

/// Where the controller's registers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The address space.
    pub space: Space,
    /// The first register.
    pub base: u64,
    /// Offsets of what is read: low and high half of address and of length, proximity domain.
    pub read: [u64; 5],
    /// Offsets of what is written: slot selector, event and status of `_OST`.
    pub write: [u64; 3],
    /// Offset of the flags.
    pub flags: u64,
    /// Bits of the flags: enabled, inserting, removing, eject.
    pub bits: [u32; 4],
}

impl Layout {
    /// QEMU's registers at an address.
    #[must_use]
    pub const fn qemu(space: Space, base: u64) -> Self {
        Self {
            space,
            base,
            read: [0x00, 0x04, 0x08, 0x0C, 0x10],
            write: [0x00, 0x04, 0x08],
            flags: 0x14,
            bits: [0, 1, 2, 3],
        }
    }
}

/// Bytes of registers, at most.
const REGISTERS: u64 = 0x40;

impl Controller {
    /// A controller with empty slots.
    #[must_use]
    pub fn new(layout: Layout, slots: usize) -> Self {
        Self {
            slots: vec![Slot::default(); slots],
            reports: Vec::new(),
            ejected: Vec::new(),
            notices: Vec::new(),
            accesses: Vec::new(),
            strays: Vec::new(),
            layout,
            doorbell: None,
            forgets: false,
            refuse: None,
            selected: 0,
            event: 0,
        }
    }

    /// Puts a DIMM into a slot, as `device_add` does. A request that firmware has not cleared stays: in QEMU it does.
    pub fn plug(&mut self, slot: usize, base: u64, len: u64, proximity: u32) {
        if let Some(slot) = self.slots.get_mut(slot) {
            let removing = slot.removing;
            *slot = Slot { enabled: true, base, len, proximity, inserting: true, removing };
        }
    }

    /// Asks for a DIMM to be ejected, as `device_del` does.
    pub fn request_eject(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.removing = true;
        }
    }

    /// Refuses the accesses that the test chose.
    fn check(&self, address: u64) -> Result<(), HostError> {
        match self.refuse {
            Some(from) if address.wrapping_sub(from) < 0x1000 => Err(HostError::Forbidden),
            _ => Ok(()),
        }
    }

    /// The offset of a register, if the controller has it.
    fn offset(&self, space: Space, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.layout.base).filter(|&at| at < REGISTERS)?;
        (space == self.layout.space).then_some(offset)
    }

    /// The slot that was selected last; one that does not exist reads as empty.
    fn slot(&mut self) -> Option<&mut Slot> {
        self.slots.get_mut(self.selected as usize)
    }

    /// What a register reads as.
    fn register(&mut self, offset: u64) -> u64 {
        let slot = self.slot().copied().unwrap_or_default();
        if offset == self.layout.flags {
            let [enabled, inserting, removing, _] = self.layout.bits;
            return u64::from(slot.enabled) << enabled
                | u64::from(slot.inserting) << inserting
                | u64::from(slot.removing) << removing;
        }
        let low_high = |value: u64| [value & 0xFFFF_FFFF, value >> 32];
        let ([base, base_high], [len, len_high]) = (low_high(slot.base), low_high(slot.len));
        let values = [base, base_high, len, len_high, u64::from(slot.proximity)];
        let found = self.layout.read.iter().zip(values).find(|&(&at, _)| at == offset);
        found.map_or(u64::MAX, |(_, value)| value)
    }

    /// Does what a write to a register does.
    fn set_register(&mut self, offset: u64, value: u64) {
        let [select, event, status] = self.layout.write;
        if offset == self.layout.flags {
            self.set_flags(value);
        } else if offset == select {
            self.selected = value as u32;
        } else if offset == event {
            self.event = value as u32;
        } else if offset == status {
            let (slot, event) = (self.selected, self.event);
            self.reports.push(Ost { slot, event, status: value as u32 });
        }
    }

    /// Flags: each bit that is written does one thing.
    fn set_flags(&mut self, value: u64) {
        let selected = self.selected;
        let [_, inserting, removing, eject] = self.layout.bits.map(|bit| value >> bit & 1 != 0);
        let Some(slot) = self.slot() else { return };
        slot.inserting &= !inserting;
        slot.removing &= !removing;
        if eject && slot.enabled {
            *slot = Slot { removing: slot.removing, ..Slot::default() };
            self.ejected.push(selected);
        }
    }
}

impl Io for Controller {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        self.check(address)?;
        if let Some((bell_space, at, value)) = &mut self.doorbell
            && (*bell_space, *at) == (space, address)
        {
            return Ok(if self.forgets { core::mem::take(value) } else { *value });
        }
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
        self.check(address)?;
        let Some(offset) = self.offset(space, address) else {
            self.strays.push((space, address));
            return Ok(());
        };
        self.accesses.push(Access { offset, width, written: Some(value) });
        self.set_register(offset, value);
        Ok(())
    }

    fn stall(&mut self, _microseconds: u64) {}

    fn sleep(&mut self, _milliseconds: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for Controller {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.notices.push(Notice { node, value });
    }
}
