//! The payload: a guest that computes on its memory, without devices. [`Guests::payload`](crate::contract::Guests)
//! says what it does.

// UNSAFETY: assembly, and the bytes between two of its symbols.
#![expect(unsafe_code)]

use crate::contract::{Misdeed, PAYLOAD_ALONE, PAYLOAD_DONE, PAYLOAD_ROUND};
use core::arch::global_asm;

unsafe extern "C" {
    static hotmem_payload_begin: u8;
    static hotmem_payload_end: u8;
}

/// The program.
pub(super) fn bytes() -> &'static [u8] {
    let begin = &raw const hotmem_payload_begin;
    let bytes = (&raw const hotmem_payload_end).addr() - begin.addr();
    // SAFETY: the assembly below puts the program between the two symbols, in read-only data.
    unsafe { core::slice::from_raw_parts(begin, bytes) }
}

// Words are computed and read in runs of 64 (512 bytes) between two reads of the counter. Word = (address + round *
// C2) * C1: the next one is C1 * 8 more.
//
//   x19 memory   x20 its end   x21 rounds wanted   x22 round       x23 wrong words   x24 checksum
//   x25 gap      x26 counter   x27 8 * C1          x28 16 * C1     x9 at             x10 end of the run
//   x11, x12 expected words    x13, x14 read words          x29 misdeed     x18 end of all memory
//
// Other CPUs begin at 17, with the first byte of their share in x0; its size and the rounds are at 20.
global_asm!(
    r#"
    .section .rodata.hotmem_payload, "a"
    .balign 16
    .global hotmem_payload_begin
    .global hotmem_payload_end
hotmem_payload_begin:
    mov x19, x0
    add x20, x0, x1
    mov x18, x20
    mov x21, x2
    and x29, x3, #0xff
    mov x22, xzr
    mov x23, xzr
    mov x24, xzr
    mov x25, xzr
    cmp x29, #{search}
    b.ne 14f
    mov x29, xzr
    add x9, x19, #64
12: ldr x13, [x9], #8
    cmp x13, #0
    cinc x23, x23, ne
    cmp x9, x20
    b.lo 12b

    /* Start the other CPUs, x5 of them, with x6 bytes each: CPU_ON. */
14: lsr x5, x3, #8
    cbz x5, 13f
    add x6, x5, #1
    udiv x6, x1, x6
    and x6, x6, #~0xfff
    adr x7, 20f
    stp x6, x21, [x7]
    dsb ish
    msub x20, x5, x6, x20
    mov x3, x20
    mov x4, xzr
15: add x4, x4, #1
    movz w0, #0x0003
    movk w0, #0xc400, lsl #16
    mov x1, x4
    adr x2, 17f
    hvc #0
    cbnz x0, 16f
    add x3, x3, x6
    cmp x4, x5
    b.lo 15b
    b 13f
16: mov x1, x0
    ldr w0, 9f + 8
    hvc #0
    b 6f

17: mov x19, x0
    adr x7, 20f
    ldp x6, x21, [x7]
    add x20, x19, x6
    mov x22, xzr
    mov x23, xzr
    mov x24, xzr
    mov x25, xzr
    mov x29, xzr

13: isb
    mrs x26, cntvct_el0
    movz x15, #0x7f4a, lsl #48
    movk x15, #0x7c15, lsl #32
    movk x15, #0x9e37, lsl #16
    movk x15, #0x79b9
    lsl x27, x15, #3
    lsl x28, x15, #4

1:  /* A round: write. */
    add x22, x22, #1
    mov x16, #0x9e37
    movk x16, #0xd1b5, lsl #16
    mul x17, x22, x16
    mov x9, x19
    add x11, x19, x17
    mul x11, x11, x15
    add x12, x11, x27
2:  add x10, x9, #512
3:  stp x11, x12, [x9], #16
    add x11, x11, x28
    add x12, x12, x28
    cmp x9, x10
    b.lo 3b
    bl 8f
    cmp x9, x20
    b.lo 2b

    /* Read. */
    mov x9, x19
    add x11, x19, x17
    mul x11, x11, x15
    add x12, x11, x27
4:  add x10, x9, #512
5:  ldp x13, x14, [x9], #16
    cmp x13, x11
    cinc x23, x23, ne
    cmp x14, x12
    cinc x23, x23, ne
    ror x24, x24, #63
    add x24, x24, x13
    ror x24, x24, #63
    add x24, x24, x14
    add x11, x11, x28
    add x12, x12, x28
    cmp x9, x10
    b.lo 5b
    bl 8f
    cmp x9, x20
    b.lo 4b

    /* Report. */
    ldr w0, 9f
    bl 7f
    cbnz x29, 10f
    cmp x22, x21
    b.ne 1b
    ldr w0, 9f + 4
    bl 7f
6:  wfi
    b 6b

7:  mov x1, x22
    mov x2, x23
    mov x3, x24
    mov x4, x25
    hvc #0
    ret

8:  /* The counter, and the largest gap between two reads of it. */
    isb
    mrs x13, cntvct_el0
    sub x14, x13, x26
    mov x26, x13
    cmp x14, x25
    csel x25, x14, x25, hi
    ret

10: cmp x29, #{store}
    b.eq 11f
    cmp x29, #{firmware}
    b.eq 12f
    cmp x29, #{call}
    b.eq 13f
    cmp x29, #{emulator}
    b.eq 14f
    cmp x29, #{jump}
    b.ne 6b
    br x18
11: str xzr, [x18]
12: smc #0
13: mov w0, #0xbad
    hvc #0
    b 13b
    /* SYS_EXIT (Arm, Semihosting for AArch32 and AArch64, 5.4): the reason and the code are at x1. */
14: mov x0, #0x18
    mov x1, x19
    hlt #0xf000
    b 6b

    .balign 8
9:  .word {round}
    .word {done}
    .word {alone}
    .balign 8
20: .quad 0, 0
hotmem_payload_end:
"#,
    round = const PAYLOAD_ROUND,
    done = const PAYLOAD_DONE,
    alone = const PAYLOAD_ALONE,
    store = const Misdeed::Store as u64,
    firmware = const Misdeed::Firmware as u64,
    call = const Misdeed::Call as u64,
    jump = const Misdeed::Jump as u64,
    search = const Misdeed::Search as u64,
    emulator = const Misdeed::Emulator as u64,
);
