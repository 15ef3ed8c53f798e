//! The payload: a program for a guest, in real mode, that works on memory and reports to the host.
//!
//! ```text
//!   r14, r15  first byte of the memory, and its end     r18  words that were wrong
//!   r16       rounds to do, 0 without end               r19  checksum
//!   r17       rounds done                               r20  largest gap between two reads of the timebase
//!   r22       what a round mixes into each address      r21  the last read
//!   r24       mark of this guest in other registers     r25  its misdeed
//! ```
//!
//! A round begins with a new r22, and the word at an address is the address xor r22. So a word that is at a wrong
//! place, or from a round before, is wrong. The timebase is read once for 64 words.
//!
//! The mark stands in all vector registers and TAR, which the host switches itself. If one of them has changed at the
//! end of a round, that counts as a wrong word.

// UNSAFETY: a program in assembly, and a slice over it.
#![expect(unsafe_code)]

use crate::contract::{Misdeed, PAYLOAD_DONE, PAYLOAD_ROUND};
use core::arch::global_asm;

unsafe extern "C" {
    static hotmem_payload: u8;
    static hotmem_payload_end: u8;
}

/// The program.
pub(super) fn payload() -> &'static [u8] {
    let (start, end) = (&raw const hotmem_payload, &raw const hotmem_payload_end);
    // SAFETY: the assembly below puts the two symbols around code that is never written.
    unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

global_asm!(
    r#"
    /* Notes the gap since the last read of the timebase; changes r11 and r12. */
    .macro hotmem_payload_tick
    mftb 11
    subf 12, 21, 11
    mr 21, 11
    cmpld 12, 20
    ble 9f
    mr 20, 12
9:
    .endm

    /* Calls the host with a number, and what was found so far. */
    .macro hotmem_payload_call number
    lis 3, \number >> 16
    ori 3, 3, \number & 0xffff
    mr 4, 17
    mr 5, 18
    mr 6, 19
    mr 7, 20
    sc 1
    .endm

    .section .rodata.hotmem_payload, "a"
    .balign 16
hotmem_payload:
    mr 14, 3
    rldicr 4, 4, 0, 60
    add 15, 3, 4
    mr 16, 5
    mr 25, 6
    li 17, 0
    li 18, 0
    li 19, 0
    li 20, 0
    li 22, 0
    /* 2^64 divided by the golden ratio: the rounds differ in all bits. */
    lis 23, 0x9e37
    ori 23, 23, 0x79b9
    rldicr 23, 23, 32, 31
    oris 23, 23, 0x7f4a
    ori 23, 23, 0x7c15
    cmpdi 25, {search}
    bne 3f
    li 25, 0
    addi 9, 14, 64
2:  ld 11, 0(9)
    addi 9, 9, 8
    cmpdi 11, 0
    beq 1f
    addi 18, 18, 1
1:  cmpld 9, 15
    blt 2b
3:  mftb 21

    /* Floating point, vectors, VSX; then the mark. */
    mfmsr 0
    oris 0, 0, 0x0280
    ori 0, 0, 0x2000
    mtmsrd 0
    isync
    xor 24, 21, 23
    mtspr 815, 24
    .set vsr, 0
    .rept 64
    mtvsrdd vsr, 24, 24
    .set vsr, vsr + 1
    .endr

1:  add 22, 22, 23
    mr 9, 14
2:  cmpld 9, 15
    bge 4f
    xor 10, 22, 9
    std 10, 0(9)
    addi 9, 9, 8
    andi. 0, 9, 0x1f8
    bne 2b
    hotmem_payload_tick
    b 2b

4:  mr 9, 14
5:  cmpld 9, 15
    bge 7f
    xor 10, 22, 9
    ld 11, 0(9)
    rotldi 19, 19, 1
    add 19, 19, 11
    cmpld 10, 11
    beq 6f
    addi 18, 18, 1
6:  addi 9, 9, 8
    andi. 0, 9, 0x1f8
    bne 5b
    hotmem_payload_tick
    b 5b

7:  hotmem_payload_tick
    mfspr 10, 815
    xor 10, 10, 24
    .set vsr, 0
    .rept 64
    mfvsrd 11, vsr
    mfvsrld 12, vsr
    xor 11, 11, 24
    xor 12, 12, 24
    or 10, 10, 11
    or 10, 10, 12
    .set vsr, vsr + 1
    .endr
    cmpdi 10, 0
    beq 3f
    addi 18, 18, 1
3:  addi 17, 17, 1
    hotmem_payload_call {round}
    cmpdi 25, 0
    bne 10f
    cmpld 17, 16
    bne 1b
8:  hotmem_payload_call {done}
    b 8b

10: cmpdi 25, {store}
    beq 11f
    cmpdi 25, {firmware}
    beq 12f
    cmpdi 25, {emulator}
    beq 12f
    cmpdi 25, {call}
    beq 13f
    cmpdi 25, {jump}
    beq 14f
    /* H_CEDE, again before the decrementer ends the wait. */
15: lis 3, 0x7fff
    mtdec 3
    li 3, 0xe0
    sc 1
    b 15b
11: std 0, 0(15)
12: .long 0
13: li 3, 0xbad
    sc 1
    b 13b
14: mtctr 15
    bctr
hotmem_payload_end:
"#,
    round = const PAYLOAD_ROUND,
    done = const PAYLOAD_DONE,
    store = const Misdeed::Store as u64,
    firmware = const Misdeed::Firmware as u64,
    call = const Misdeed::Call as u64,
    jump = const Misdeed::Jump as u64,
    search = const Misdeed::Search as u64,
    emulator = const Misdeed::Emulator as u64,
);
