//! A POWER hypervisor: its device tree, and its run-time services.

// UNSAFETY: implements an interface whose callers make promises; the services here keep to their buffer.
#![expect(unsafe_code)]

use hotmem::{PhysAddr, PhysRange};
use hotmem_boot::tree;
use hotmem_hotplug::{HotplugSource, Latch, Outcome, Refusal};
use hotmem_papr::{Board, MemoryEvent, NoRtas, PaprSource, Services};

use crate::input::Input;

/// Events that are taken of one input.
const EVENTS: usize = 32;

/// Reads a tree, for boot and for hotplug.
pub(crate) fn tree(data: &[u8]) {
    let header = data.get(..tree::HEADER_BYTES as usize).unwrap_or(data);
    let Ok(bytes) = tree::total_bytes(header) else { return };
    let Some(bytes) = data.get(..bytes as usize) else { return };
    let image = PhysRange::new(PhysAddr::new(1 << 20), 1 << 20).unwrap_or_default();
    match tree::read(bytes, image) {
        Ok(machine) => assert!(!machine.ram.as_slice().is_empty(), "{machine:?}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(board) = board(bytes) {
        board.window().for_each(drop);
    }
}

fn board(tree: &[u8]) -> Option<Board> {
    Board::read(&tree::open(tree)?).ok()
}

/// Bytes of the buffer that a call writes.
const BUFFER: usize = 256;

/// Services whose results are the rest of the input.
struct Hostile<'d> {
    input: Input<'d>,
    buffer: Vec<u8>,
}

impl Services for Hostile<'_> {
    unsafe fn call(&mut self, _: u32, _: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        let kind = self.input.byte();
        if kind == 1 {
            return Err(NoRtas);
        }
        // Most statuses mean success, or nothing gets anywhere.
        rets.fill_with(|| self.input.half());
        if kind < 0xc0
            && let Some(status) = rets.first_mut()
        {
            *status = 0;
        }
        if !self.input.is_empty() {
            self.input.fill(&mut self.buffer[..BUFFER]);
        }
        Ok(())
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_address(&self) -> u32 {
        0x10_0000
    }
}

/// A tree, a log, and then what the services of that machine return.
pub(crate) fn events(data: &[u8]) {
    static LATCH: Latch = Latch::new();
    let mut input = Input(data);
    let board = board(input.piece());
    match MemoryEvent::read(input.piece()) {
        Ok(event) => assert!(!format!("{event:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let Some(board) = board else { return };
    let services = Hostile { input, buffer: vec![0; 4096] };
    let mut source = PaprSource::new(board, services, &LATCH);
    if let Some(line) = source.event_source() {
        let _ = source.enable(line);
    }
    source.arm(true);
    for index in 0..EVENTS {
        LATCH.raise(0, 1);
        let Some(event) = source.next_event() else { break };
        let replies = [Outcome::Inserted, Outcome::EjectRefused(Refusal::InUse), Outcome::Ejected];
        if source.can_eject(event.device).is_ok() && index % 2 == 0 {
            let _ = source.eject(event.device);
        }
        let _ = source.reply(event.device, replies[index % replies.len()]);
        let _ = (source.is_there(event.device), source.wants_power_off(), source.has_work());
    }
    let mut shown = String::new();
    let _ = source.write_firmware(true, &mut shown);
    let _ = source.write_firmware(false, &mut shown);
    assert!(!shown.is_empty());
    LATCH.take();
}
