//! UEFI's memory map: which of its memory the kernel may use once boot services have ended.

/// Types (UEFI 2.10, table 7.10): loader and boot services, code and data, and memory that is free.
const LOADER_CODE: u32 = 1;
const LOADER_DATA: u32 = 2;
const BOOT_SERVICES_CODE: u32 = 3;
const BOOT_SERVICES_DATA: u32 = 4;
const CONVENTIONAL: u32 = 7;

/// Attributes (UEFI 2.10, 7.2.3): can be cached as RAM is; meant for one purpose; used by runtime
/// services. (Those for protection, as read-only, say what can be set, not what is.)
const WRITE_BACK: u64 = 1 << 3;
const SPECIFIC_PURPOSE: u64 = 1 << 18;
const RUNTIME: u64 = 1 << 63;

/// Whether memory of this type, with these attributes, is the kernel's to use. All else is reserved,
/// unaccepted and persistent memory and types that are not known included.
pub const fn is_free(kind: u32, attributes: u64) -> bool {
    let released = matches!(
        kind,
        LOADER_CODE | LOADER_DATA | BOOT_SERVICES_CODE | BOOT_SERVICES_DATA | CONVENTIONAL
    );
    released && attributes & (WRITE_BACK | SPECIFIC_PURPOSE | RUNTIME) == WRITE_BACK
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What usual RAM has: every way of caching.
    const RAM: u64 = 0xf;

    #[test]
    fn only_memory_that_boot_services_leave_is_free() {
        for kind in (0..=20).chain([0x7000_0000, 0x8000_0000, u32::MAX]) {
            assert_eq!(is_free(kind, RAM), [1, 2, 3, 4, 7].contains(&kind), "type {kind:#x}");
        }
    }

    #[test]
    fn attributes_that_keep_memory_from_being_plain_ram_reserve_it() {
        for attributes in [0, RAM & !8, RAM | SPECIFIC_PURPOSE, RAM | RUNTIME] {
            assert!(!is_free(CONVENTIONAL, attributes), "{attributes:#x}");
        }
        assert!(is_free(CONVENTIONAL, RAM | 1 << 17), "it could be made read-only");
    }
}
