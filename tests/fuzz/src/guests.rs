//! What a guest does, and the files that it is started from.

use hotmem_arch::aarch64::board::system::IdRegisters;
use hotmem_arch::aarch64::board::{Board, acpi};
use hotmem_arch::aarch64::exits::{self, Cause};
use hotmem_arch::aarch64::linux::prepare;
use hotmem_arch::contract::{Devices as _, LinuxFiles};
use hotmem_arch::ppc64::nested::{self, NestedState};
use hotmem_paging::addr::{GuestAddr, GuestRange};
use hotmem_vm::{OwnFiles, archive, image};

use crate::input::Input;

/// Registers and causes of exits, one after the other.
pub(crate) fn exits(data: &[u8]) {
    let mut input = Input(data);
    let mut board = Board::new(2);
    let ids = IdRegisters::default();
    while !input.is_empty() {
        let mut x = [0; 31];
        x[..5].fill_with(|| input.word());
        let (vector, syndrome) = (u64::from(input.byte()), input.word());
        let cause = Cause { vector, syndrome, address: input.word(), page: input.word() };
        assert!(!format!("{:?}", exits::decode(cause, &x)).is_empty());
        let _ = board.exit(usize::from(input.byte() & 1), cause, &mut x, &ids);
        nested_exit(&mut input);
    }
}

fn nested_exit(input: &mut Input<'_>) {
    let mut state = NestedState::default();
    state.registers.gpr[3..8].fill_with(|| input.word());
    (state.registers.nip, state.registers.msr) = (input.word(), input.word());
    let hypervisor = &mut state.hypervisor;
    (hypervisor.hdsisr, hypervisor.asdr, hypervisor.hdar) =
        (input.word(), input.word(), input.word());
    assert!(!format!("{:?}{state}", nested::decode(input.word(), &state)).is_empty());
    state.prepare(1, 0);
}

/// An archive as a loader hands it over, and a kernel with its first file system and its command line.
pub(crate) fn files(data: &[u8]) {
    let mut input = Input(data);
    let _ = archive::find(input.0, "kernel");
    let (start, len) = (input.half(), input.half());
    let Some(ram) = GuestRange::new(GuestAddr::new(u64::from(start) << 12), u64::from(len) << 12)
    else {
        return;
    };
    let (kernel, initrd, command_line) = (input.piece(), input.piece(), input.piece());
    let mut put = |at: GuestAddr, bytes: &[u8]| {
        let range = GuestRange::new(at, bytes.len() as u64);
        assert!(range.is_some_and(|range| ram.covers(range)), "{at:?} of {ram:?}");
        Ok(())
    };
    if let Ok(start) = prepare(&LinuxFiles { kernel, initrd, command_line }, ram, 3, &mut put) {
        assert!(ram.contains(start.entry), "{start:?}");
    }
}

/// Number of aarch64 in an ELF file, and where the memory of its guests begins.
const ARM: u16 = 183;
const RAM: GuestAddr = GuestAddr::new(0x4000_0000);
/// Pages that the tables and the start info of its board take.
const BOARD: u64 = 32;

/// The size of a guest, the words of its command line, and an image of this kernel.
pub(crate) fn own(data: &[u8]) {
    let mut input = Input(data);
    let (pages, words) = (u64::from(input.half() & 0xffff) + BOARD, input.piece());
    let Some(ram) = GuestRange::new(RAM, pages << 12) else { return };
    let mut written = 0;
    let mut put = |at: GuestAddr, bytes: &[u8]| {
        let range = GuestRange::new(at, bytes.len() as u64);
        assert!(range.is_some_and(|range| ram.covers(range)), "{at:?} of {ram:?}");
        written += bytes.len() as u64;
        Ok(())
    };
    let files = OwnFiles { image: input.0, words };
    let placed = acpi::describe(ram, 2, &mut put)
        .and_then(|described| image::place(&files, ARM, &described, &mut put));
    assert!(written <= ram.len(), "{written} bytes to {ram:?}");
    if let Ok(start) = placed {
        assert!(ram.contains(start.entry), "{start:?}");
    }
}
