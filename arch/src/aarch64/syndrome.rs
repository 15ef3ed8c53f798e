//! Decodes ESR_ELx, the cause of an exception (Arm ARM D17.2.37).

/// A data abort in the kernel.
pub const DATA_ABORT: u64 = 0x25;
/// An instruction abort in the kernel.
pub const INSTRUCTION_ABORT: u64 = 0x21;
/// An unknown reason, for example an instruction that the CPU does not have.
pub const UNKNOWN: u64 = 0x00;

/// The exception class.
pub const fn class(syndrome: u64) -> u64 {
    syndrome >> 26 & 0x3f
}

/// Whether the exception was an abort that left the address in FAR_ELx.
pub const fn has_address(syndrome: u64) -> bool {
    let abort = matches!(class(syndrome), 0x20 | 0x21 | 0x24 | 0x25);
    // FnV: the address is not valid. The bit has this meaning for external aborts only.
    let external = syndrome & 0x3f == 0x10;
    abort && !(external && syndrome & 1 << 10 != 0)
}

/// The name of the exception class (Arm ARM table D17-2).
pub const fn name(syndrome: u64) -> &'static str {
    match class(syndrome) {
        0x00 => "unknown reason",
        0x01 => "trapped WFI or WFE",
        0x07 => "trapped floating point",
        0x0e => "illegal execution state",
        0x15 => "SVC",
        0x16 => "HVC",
        0x17 => "SMC",
        0x18 => "trapped system register",
        0x20 | 0x21 => "instruction abort",
        0x22 => "PC alignment fault",
        0x24 | 0x25 => "data abort",
        0x26 => "SP alignment fault",
        0x2c => "floating-point exception",
        0x2f => "SError",
        0x30 | 0x31 => "breakpoint",
        0x32 | 0x33 => "software step",
        0x34 | 0x35 => "watchpoint",
        0x3c => "BRK instruction",
        _ => "unknown exception",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_fault_has_a_class_a_name_and_an_address() {
        // Data abort without a change of level, write, level 3 translation fault.
        let syndrome = 0x9600_0047;
        assert_eq!(class(syndrome), DATA_ABORT);
        assert_eq!(name(syndrome), "data abort");
        assert!(has_address(syndrome));
    }

    #[test]
    fn an_external_abort_may_have_no_address() {
        assert!(has_address(0x9600_0010));
        assert!(!has_address(0x9600_0410));
        assert!(!has_address(0xf200_0001));
    }
}
