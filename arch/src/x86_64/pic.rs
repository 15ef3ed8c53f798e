//! The 8259 interrupt controllers of the PC, which this kernel does not use.

// UNSAFETY: writes their mask registers.
#![expect(unsafe_code)]

use super::port;

/// Mask registers (OCW1) of the two 8259s.
const MASKS: [u16; 2] = [0x21, 0xa1];

/// Masks every input of both controllers: interrupts arrive by the I/O APICs.
pub(super) fn mask_all() {
    for mask in MASKS {
        // SAFETY: masking an 8259's inputs only blocks interrupts that the kernel does not use.
        unsafe { port::write_u8(mask, 0xff) };
    }
}
