//! A machine for event tests: a hotplug controller, event registers and an interrupt line.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

use hotmem::testing::FaultPlan;
use hotmem::{PhysAddr, PhysRange};
use hotmem_aml::{HostError, Io, Space, Width};
use hotmem_aml_fakes::{Controller, Layout};

use crate::Hardware;
use hotmem_hotplug::{Latch, Line};

/// Where the fixed registers are, in I/O ports: as [`firmware::fadt`](super::firmware::fadt) says.
const SMI_COMMAND: u64 = 0xB2;
const PM1_STATUS: u64 = 0x600;
const PM1_ENABLE: u64 = 0x602;
const PM1_CONTROL: u64 = 0x604;
const GPE_STATUS: u64 = 0x620;
const GPE_ENABLE: u64 = 0x628;
const GPE_END: u64 = 0x630;
/// A block device: the status of its first eight events.
const BLOCK_STATUS: u64 = 0x700;

/// The machine's state.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) controller: Controller,
    layout: Layout,
    pub(super) gpe_status: u64,
    pub(super) gpe_enable: u64,
    pub(super) block_status: u64,
    pub(super) block_enable: u64,
    /// Where a block device enables its first eight events; as `handlers.asl` says.
    pub(super) block_enable_at: u64,
    pub(super) pm1_status: u64,
    pub(super) pm1_enable: u64,
    /// `SCI_EN`, and whether writing to the command port sets it.
    pub(super) acpi_enabled: bool,
    pub(super) handles_smi: bool,
    pub(super) smi_writes: Vec<u64>,
    /// Ejecting a device fails.
    pub(super) stuck: bool,
    /// A DIMM that comes as soon as a slot is ejected: its slot, address and length.
    pub(super) refill: Option<(usize, u64, u64)>,
    /// A general-purpose event that happens at the controller's next access.
    pub(super) surprise: Option<u8>,
    /// The power button is pressed when a general-purpose event is looked at next.
    pub(super) press: bool,
    /// The lock that firmware shares: where it is, and the word; and what was written to it.
    pub(super) lock_word: Option<(PhysAddr, u32)>,
    pub(super) lock_words: Vec<u32>,
    /// What was written to the fixed control register.
    pub(super) controls: Vec<u64>,
    /// The handler has masked the line.
    pub(super) masked: bool,
    pub(super) unmasked: Vec<u32>,
    pub(super) stalled: u64,
    /// Words of persistent memory that are not zero, and those that cannot be read.
    pub(super) contents: Vec<PhysAddr>,
    pub(super) unreadable: Vec<PhysAddr>,
    /// The access of byte code to the controller that fails, once.
    pub(super) fails: FaultPlan,
}

/// The machine, as the kernel and the test share it.
#[derive(Clone, Debug)]
pub(super) struct Wire(pub(super) Rc<RefCell<Board>>);

impl Wire {
    pub(super) fn new(layout: Layout, slots: usize) -> Self {
        Self(Rc::new(RefCell::new(Board {
            controller: Controller::new(layout, slots),
            layout,
            gpe_status: 0,
            gpe_enable: 0,
            block_status: 0,
            block_enable: 0,
            block_enable_at: 0x701,
            pm1_status: 0,
            pm1_enable: 0,
            acpi_enabled: false,
            handles_smi: true,
            smi_writes: Vec::new(),
            stuck: false,
            refill: None,
            surprise: None,
            press: false,
            lock_word: None,
            lock_words: Vec::new(),
            controls: Vec::new(),
            masked: false,
            unmasked: Vec::new(),
            stalled: 0,
            contents: Vec::new(),
            unreadable: Vec::new(),
            fails: FaultPlan::never(),
        })))
    }

    /// What the interrupt handler does, if the system control interrupt is active.
    pub(super) fn interrupt(&self, latch: &Latch, now: u64) -> bool {
        let mut board = self.0.borrow_mut();
        let gpe = board.gpe_status & board.gpe_enable != 0;
        let fixed = board.pm1_status & board.pm1_enable != 0;
        let fires = (gpe || fixed) && board.acpi_enabled && !board.masked;
        if fires {
            board.masked = true;
            latch.raise(0, now);
        }
        fires
    }
}

impl Board {
    /// Makes room to record what will happen.
    pub(super) fn reserve(&mut self, count: usize) {
        self.controller.accesses.reserve(count);
        self.controller.reports.reserve(1024);
        self.controller.ejected.reserve(1024);
        self.controller.strays.reserve(1024);
        self.unmasked.reserve(1024);
    }

    /// Counts an access of byte code.
    fn access(&self) -> Result<(), HostError> {
        if self.fails.allows() { Ok(()) } else { Err(HostError::Unsupported) }
    }

    /// One of the fixed registers' bytes.
    fn fixed(&mut self, port: u64) -> Option<(&mut u64, u64, bool)> {
        match port {
            PM1_STATUS..PM1_ENABLE => Some((&mut self.pm1_status, port - PM1_STATUS, true)),
            PM1_ENABLE..PM1_CONTROL => Some((&mut self.pm1_enable, port - PM1_ENABLE, false)),
            GPE_STATUS..GPE_ENABLE => Some((&mut self.gpe_status, port - GPE_STATUS, true)),
            GPE_ENABLE..GPE_END => Some((&mut self.gpe_enable, port - GPE_ENABLE, false)),
            BLOCK_STATUS => Some((&mut self.block_status, 0, true)),
            port if port == self.block_enable_at => Some((&mut self.block_enable, 0, false)),
            _ => None,
        }
    }
}

fn mask(width: Width) -> u64 {
    if width == Width::Byte { 0xFF } else { 0xFFFF }
}

/// The fixed registers are words, those of general-purpose events bytes: QEMU drops a byte that is written
/// to the upper half of a fixed one.
fn check_width(port: u64, width: Width) {
    let fixed = (PM1_STATUS..PM1_CONTROL).contains(&port);
    assert_eq!(width, if fixed { Width::Word } else { Width::Byte }, "{port:#x}");
    assert!(!fixed || port.is_multiple_of(2), "{port:#x}");
}

impl Io for Wire {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        let mut board = self.0.borrow_mut();
        if space == Space::SystemIo {
            if address == PM1_CONTROL {
                return Ok(board.acpi_enabled.into());
            }
            if (GPE_STATUS..GPE_ENABLE).contains(&address) && core::mem::take(&mut board.press) {
                board.pm1_status |= 0x100;
            }
            if let Some((register, byte, _)) = board.fixed(address) {
                check_width(address, width);
                return Ok(*register >> (byte * 8) & mask(width));
            }
        }
        board.access()?;
        if let Some(event) = board.surprise.take() {
            board.gpe_status |= 1 << event;
        }
        board.controller.read(space, address, width)
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        let mut board = self.0.borrow_mut();
        if space == Space::SystemIo {
            if address == SMI_COMMAND {
                board.smi_writes.push(value);
                board.acpi_enabled |= board.handles_smi;
                return Ok(());
            }
            if address == PM1_CONTROL {
                board.controls.push(value);
                return Ok(());
            }
            if let Some((register, byte, clears)) = board.fixed(address) {
                check_width(address, width);
                let bits = (value & mask(width)) << (byte * 8);
                let kept = *register & !(mask(width) << (byte * 8));
                *register = if clears { *register & !bits } else { kept | bits };
                return Ok(());
            }
        }
        board.access()?;
        let eject = 1 << board.layout.bits[3];
        let ejects = address == board.layout.base + board.layout.flags && value & eject != 0;
        if board.stuck && ejects {
            return Err(HostError::Forbidden);
        }
        board.controller.write(space, address, width, value)?;
        if let Some((slot, base, len)) = board.refill.take_if(|_| ejects) {
            board.controller.plug(slot, base, len, 0);
            board.gpe_status |= 1 << 0x1B;
        }
        Ok(())
    }

    fn stall(&mut self, microseconds: u64) {
        self.0.borrow_mut().stalled += microseconds;
    }

    fn sleep(&mut self, _milliseconds: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Hardware for Wire {
    fn compare_exchange(&mut self, at: PhysAddr, old: u32, new: u32) -> Result<u32, HostError> {
        let mut board = self.0.borrow_mut();
        let word = board.lock_word.filter(|word| word.0 == at).ok_or(HostError::Forbidden)?.1;
        if word == old {
            board.lock_word = Some((at, new));
            board.lock_words.push(new);
        }
        Ok(word)
    }

    fn first_used(&mut self, range: PhysRange) -> Result<Option<PhysAddr>, HostError> {
        let board = self.0.borrow();
        if board.unreadable.iter().any(|at| range.contains(*at)) {
            return Err(HostError::Unsupported);
        }
        Ok(board.contents.iter().copied().find(|at| range.contains(*at)))
    }

    fn unmask(&mut self, line: &Line) {
        let mut board = self.0.borrow_mut();
        board.masked = false;
        board.unmasked.push(line.gsi);
    }
}
