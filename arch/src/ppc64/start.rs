//! Starts another CPU by RTAS (LoPAR 7.3.6, `start-cpu`): from big-endian instructions without translation to the
//! kernel's own tables, which the hypervisor knows already.

// UNSAFETY: entry assembly.
#![expect(unsafe_code)]

use super::{Ppc64, rtas};
use crate::area::Launch;
use crate::contract::Cpu;
use crate::machine_info::MachineInfo;
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

unsafe extern "C" {
    static hotmem_started: u8;
}

/// Starts the CPU with this server number; returns whether firmware accepted.
///
/// # Safety
///
/// The launch is for this CPU alone, and no other call of this function is under way.
pub(super) unsafe fn start(server: u32, launch: &'static Launch) -> bool {
    let Some(token) = MachineInfo::noted().start_cpu else { return false };
    // Stored here, since a CPU cannot read its number from the interrupt presentation.
    launch.area.server.store(server.into(), Ordering::Relaxed);
    // The image is loaded below 4 GiB, and so is the launch, a static.
    let entry = rtas::physical(&raw const hotmem_started) as u32;
    // SAFETY: one call at a time, by the contract of this function; the entry code below expects a launch.
    unsafe { rtas::start_cpu(token, server, entry, rtas::physical(launch) as u32) }
}

/// Runs on the CPU's own stack, with translation.
extern "C" fn arrived(launch: &'static Launch) -> ! {
    Ppc64::enter(launch.area);
    Ppc64::set_up();
    (launch.main)()
}

const _: () = assert!(Ppc64::KERNEL_BASE.get() == 0xc00f_0000_0000_0000);

global_asm!(
    r#"
    /* An instruction for a big-endian CPU. */
    .macro hotmem_big word
    .long ((\word & 0xff) << 24) | ((\word & 0xff00) << 8) | ((\word >> 8) & 0xff00) | ((\word >> 24) & 0xff)
    .endm

    .section .text.hotmem_started, "ax"
    .balign 16
    .global hotmem_started
hotmem_started:
    hotmem_big 0x7c8000a6 /* mfmsr r4 */
    hotmem_big 0x68840001 /* xori r4, r4, 1: little-endian */
    hotmem_big 0x429f0005 /* bcl 20, 31, the next one: LR = where that is */
    hotmem_big 0x7ca802a6 /* mflr r5 */
    hotmem_big 0x38a50014 /* addi r5, r5, 20: behind rfid */
    hotmem_big 0x7cba03a6 /* mtsrr0 r5 */
    hotmem_big 0x7c9b03a6 /* mtsrr1 r4 */
    hotmem_big 0x4c000024 /* rfid */

    /* Quadrant 0 is translated for process 1, which has no tables. */
    li 4, 1
    mtspr 48, 4
    isync
    /* The launch is at r3; where it and this code are with translation. */
    lis 7, -16369
    rldicr 7, 7, 32, 31
    ld 1, {top}(3)
    addi 1, 1, -64
    add 3, 3, 7
    bcl 20, 31, 1f
1:  mflr 5
    addi 5, 5, 2f - 1b
    add 5, 5, 7
    mtspr 26, 5
    /* MSR: 64 bits, vectors, VSX, floating point, machine checks, translation, RI, little-endian. */
    li 4, 1
    rldicr 4, 4, 63, 0
    oris 4, 4, 0x0280
    ori 4, 4, 0x3033
    mtspr 27, 4
    rfid
    /* The frame of a first caller. */
2:  li 0, 0
    std 0, 0(1)
    std 0, 16(1)
    lis 2, .TOC.@highest
    ori 2, 2, .TOC.@higher
    rldicr 2, 2, 32, 31
    oris 2, 2, .TOC.@high
    ori 2, 2, .TOC.@l
    lis 12, {arrived}@highest
    ori 12, 12, {arrived}@higher
    rldicr 12, 12, 32, 31
    oris 12, 12, {arrived}@high
    ori 12, 12, {arrived}@l
    mtctr 12
    bctrl
3:  b 3b
"#,
    top = const offset_of!(Launch, top),
    arrived = sym arrived,
);
