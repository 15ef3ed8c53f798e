//! From the host's registers to a guest's and back.
//!
//! H_ENTER_NESTED exchanges the registers of [`NestedState`]. All others that a guest can change are switched here,
//! around the call: floating point and vectors, which Rust code uses at any time, and the special registers below. So
//! a guest leaves nothing behind in the host, or in the next guest.
//!
//! | number | register |
//! |---|---|
//! | 17, 815, 256 | DSCR, TAR, VRSAVE |
//! | 29, 61, 157 | AMR, IAMR, UAMOR: storage keys |
//! | 153, 159 | FSCR, PSPB: facilities of problem state |
//! | 804, 805, 806 | EBBHR, EBBRR, BESCR: event-based branches |
//! | 784 to 792, 796 to 798, 795 | performance monitor; its control register last |

// UNSAFETY: assembly that replaces the CPU's registers.
#![expect(unsafe_code)]

use super::nested::NestedState;
use core::arch::global_asm;
use core::mem::offset_of;

/// Special registers that are switched here.
const SPRS: usize = 24;

/// The registers that H_ENTER_NESTED does not exchange.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct Rest {
    vsr: [[u64; 2]; 64],
    vscr: [u64; 2],
    fpscr: u64,
    sprs: [u64; SPRS],
}

/// All registers of a guest's CPU, and those of the host while the guest runs.
#[derive(Debug)]
#[repr(C)]
pub(super) struct State {
    pub(super) nested: NestedState,
    guest: Rest,
    host: Rest,
}

unsafe extern "C" {
    fn hotmem_enter_guest(state: *mut State, hypervisor: u64, own: u64) -> u64;
}

/// Runs the guest of `state`, which is at the physical address `at`; returns the result of H_ENTER_NESTED.
///
/// # Safety
///
/// Interrupts are off. The second-stage tables of the state's partition map only memory that the guest may access.
pub(super) unsafe fn enter(state: &mut State, at: u64) -> u64 {
    let hypervisor = at + offset_of!(State, nested.hypervisor) as u64;
    let own = at + offset_of!(State, nested.registers) as u64;
    // SAFETY: the pointer is to the state, which the caller lends as a whole: the assembly writes to its halves, and the
    // hypervisor to its structures only, by their addresses. What the guest can reach is the caller's concern. All of
    // the host's registers are as before.
    unsafe { hotmem_enter_guest(state, hypervisor, own) }
}

global_asm!(
    r#"
    .macro hotmem_switch_sprs what
    .set place, 1048
    .irp spr, 17,815,256,29,61,157,153,159,804,805,806,784,785,786,787,788,789,790,791,792,796,797,798,795
    \what \spr
    .set place, place + 8
    .endr
    .endm

    .macro hotmem_switch_save_spr spr
    mfspr 7, \spr
    std 7, place(8)
    .endm

    .macro hotmem_switch_load_spr spr
    ld 7, place(8)
    mtspr \spr, 7
    .endm

    /* Saves to the structure at r8; changes r7, v0 and f0. */
    .macro hotmem_switch_save
    mr 7, 8
    .set vsr, 0
    .rept 64
    stxvd2x vsr, 0, 7
    addi 7, 7, 16
    .set vsr, vsr + 1
    .endr
    mfvscr 0
    stvx 0, 0, 7
    mffs 0
    stfd 0, 1040(8)
    hotmem_switch_sprs hotmem_switch_save_spr
    .endm

    /* Loads from the structure at r8; changes r7. */
    .macro hotmem_switch_load
    hotmem_switch_sprs hotmem_switch_load_spr
    lfd 0, 1040(8)
    mtfsf 255, 0, 1, 0
    addi 7, 8, 1024
    lvx 0, 0, 7
    mtvscr 0
    mr 7, 8
    .set vsr, 0
    .rept 64
    lxvd2x vsr, 0, 7
    addi 7, 7, 16
    .set vsr, vsr + 1
    .endr
    .endm

    .section .text.hotmem_enter_guest, "ax"
    .balign 16
    .global hotmem_enter_guest
hotmem_enter_guest:
    mflr 0
    std 0, 16(1)
    std 30, -16(1)
    std 31, -8(1)
    stdu 1, -64(1)
    addi 30, 3, {guest}
    addi 31, 3, {host}
    mr 8, 31
    hotmem_switch_save
    mr 8, 30
    hotmem_switch_load
    /* H_ENTER_NESTED */
    li 3, 0
    ori 3, 3, 0xf804
    sc 1
    /* msgclrp r7: a message that the guest sent to its own thread would interrupt the host. */
    lis 7, 0x2800
    .long 0x7c00395c
    mr 8, 30
    hotmem_switch_save
    mr 8, 31
    hotmem_switch_load
    addi 1, 1, 64
    ld 31, -8(1)
    ld 30, -16(1)
    ld 0, 16(1)
    mtlr 0
    blr
"#,
    guest = const offset_of!(State, guest),
    host = const offset_of!(State, host),
);

const _: () = assert!(offset_of!(Rest, vscr) == 1024);
const _: () = assert!(offset_of!(Rest, fpscr) == 1040);
const _: () = assert!(offset_of!(Rest, sprs) == 1048);
