//! A PC on the host, which the kernel starts on.

use std::sync::{Arc, Mutex};

use hotmem::{PhysAddr, PhysRange};
use hotmem_aml_fakes::Ost;
use hotmem_arch::host::Machine;
use hotmem_boot::{BootInfo, HandoffError};
use hotmem_kernel::start;

use crate::board::Board;
use crate::firmware::{Firmware, IO_APIC, REGISTERS, ROM, Rom};
use crate::pci;

/// The prompt of the monitor.
const PROMPT: &str = "hotmem> ";

pub(crate) const MIB: u64 = 1 << 20;
/// The RAM of boot.
pub(crate) const RAM: PhysRange = range(MIB, 63 * MIB);
/// Where memory may be plugged.
pub(crate) const WINDOW: PhysRange = range(4 << 30, 512 * MIB);

/// The range of `len` bytes at `start`.
pub(crate) const fn range(start: u64, len: u64) -> PhysRange {
    match PhysRange::new(PhysAddr::new(start), len) {
        Some(range) => range,
        None => panic!("the range ends past the address space"),
    }
}

/// A machine with its board, and firmware in its memory.
pub(crate) struct Pc {
    pub(crate) machine: Arc<Machine>,
    pub(crate) board: Arc<Mutex<Board>>,
    hand_off: Result<BootInfo, HandoffError>,
}

impl Pc {
    /// A machine that is turned off.
    pub(crate) fn new(firmware: &Firmware<'_>) -> Self {
        Self::with(firmware, &Rom::new(firmware))
    }

    /// The same, with another ROM.
    pub(crate) fn with(firmware: &Firmware<'_>, rom: &Rom) -> Self {
        let machine = Machine::new();
        [RAM, ROM].into_iter().for_each(|range| machine.plug(range));
        [IO_APIC, REGISTERS, pci::SPACE, pci::REGISTERS]
            .into_iter()
            .for_each(|range| machine.plug_registers(range));
        machine.write(ROM.start(), &rom.bytes);
        let board = Arc::new(Mutex::new(Board::new(firmware.reduced)));
        machine.attach(&board);
        Self { machine, board, hand_off: rom.hand_off() }
    }

    /// Starts the kernel.
    pub(crate) fn power_on(&self) {
        let hand_off = self.hand_off;
        self.machine.power_on(move || start::main(hand_off));
    }

    /// Starts the kernel, and waits until it is ready. Returns its output until then.
    #[track_caller]
    pub(crate) fn start(&self) -> String {
        self.power_on();
        self.machine.wait_for("hotmem: ready\n")
    }

    /// A machine that is on, with a kernel that is ready, and the kernel's output until then.
    pub(crate) fn ready(command_line: &str) -> (Self, String) {
        let pc = Self::new(&Firmware { command_line, ..Firmware::default() });
        let text = pc.start();
        (pc, text)
    }

    /// Runs `line` at the monitor. Returns the reply with its closing line; output of events may follow that one.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str) -> String {
        self.machine.type_in(&format!("{line}\n"));
        self.machine.wait_for(&format!("{line}\n"));
        let output = self.machine.wait_for(PROMPT);
        let mut closed = false;
        let is_reply = |text: &&str| {
            let is_before_the_end = !closed;
            closed |= *text == "ok\n" || text.starts_with("error: ");
            is_before_the_end
        };
        output.trim_end_matches(PROMPT).split_inclusive('\n').take_while(is_reply).collect()
    }

    /// Checks that every invariant holds, and that the CPU enforces the permissions in the tables.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let reply = self.ask("verify");
        assert!(reply.starts_with("ok"), "{reply}");
    }

    /// Plugs a DIMM into a slot, and notifies the kernel.
    pub(crate) fn plug(&self, slot: usize, dimm: PhysRange) {
        self.machine.plug(dimm);
        self.machine.act(&self.board, |board| {
            board.controller.plug(slot, dimm.start().get(), dimm.len(), 1);
            board.raise_memory_event();
        });
    }

    /// Requests the DIMM of a slot.
    pub(crate) fn unplug(&self, slot: usize) {
        self.machine.act(&self.board, |board| {
            board.controller.request_eject(slot);
            board.raise_memory_event();
        });
    }

    /// The next step that the kernel reports.
    #[track_caller]
    pub(crate) fn step(&self) -> String {
        self.machine.wait_for("hotmem: step ");
        self.machine.wait_for("\n")
    }

    /// Waits until the kernel has made as many reports to firmware as `expected` since the last call, and compares
    /// them: slot, event, status.
    #[track_caller]
    pub(crate) fn assert_reported(&self, expected: &[(u32, u32, u32)]) {
        let reported = self.machine.wait_for_device(&self.board, |board| {
            let reports = &mut board.controller.reports;
            (reports.len() >= expected.len()).then(|| core::mem::take(reports))
        });
        let reported: Vec<_> =
            reported.into_iter().map(|Ost { slot, event, status }| (slot, event, status)).collect();
        assert_eq!(reported, expected);
    }

    /// The slots that were ejected so far.
    pub(crate) fn ejected(&self) -> Vec<u32> {
        self.machine.act(&self.board, |board| board.controller.ejected.clone())
    }
}
