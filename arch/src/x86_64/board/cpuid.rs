//! What CPUID says to a guest: the host's CPU, without what the host does not switch or emulate.
//!
//! Features are let through one by one, so that a CPU of the future does not show one that has state of its own.

/// Registers EAX, EBX, ECX, EDX of a leaf.
pub(crate) type Leaf = [u32; 4];

const FEATURES: u32 = 1;
const POWER: u32 = 6;
const MORE_FEATURES: u32 = 7;
const TOPOLOGY: u32 = 0xb;
/// The last basic leaf that is shown.
const LAST: u32 = 0xd;
const HYPERVISOR: u32 = 0x4000_0000;
/// The last leaf of hypervisors: the rate of the counter in kHz. No features.
const TIMING: u32 = HYPERVISOR + 0x10;
const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_FEATURES: u32 = EXTENDED + 1;
const BRAND: u32 = EXTENDED + 2;
const CACHES: u32 = EXTENDED + 6;
const TIMESTAMP: u32 = EXTENDED + 7;
const SIZES: u32 = EXTENDED + 8;

/// Leaf 1, ECX: SSE3, PCLMULQDQ, SSSE3, CX16, SSE4.1 and 4.2, MOVBE, POPCNT, AES, RDRAND.
const ALLOWED_1_ECX: u32 =
    1 | 1 << 1 | 1 << 9 | 1 << 13 | 3 << 19 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
/// Emulated: x2APIC and the timer's deadline; and that this is a guest.
const ADDED_1_ECX: u32 = 1 << 21 | 1 << 24 | 1 << 31;
/// Leaf 1, EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, CX8, SEP, PGE, CMOV, PAT, PSE36, CLFSH, MMX, FXSR, SSE, SSE2. Not MCE,
/// MCA, MTRR.
const ALLOWED_1_EDX: u32 =
    0x7f | 1 << 8 | 1 << 11 | 1 << 13 | 7 << 15 | 1 << 19 | 1 << 23 | 1 << 24 | 3 << 25;
/// The local APIC.
const ADDED_1_EDX: u32 = 1 << 9;
/// Leaf 1, EBX: the bytes that CLFLUSH flushes. The number of the CPU is above.
const ALLOWED_1_EBX: u32 = 0xff00;
const NUMBER_1_EBX: u32 = 24;
/// Leaf 6, EAX: the APIC timer always runs.
const ADDED_6_EAX: u32 = 1 << 2;
/// Leaf 7, EBX: FSGSBASE, SMEP, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const ALLOWED_7_EBX: u32 = 1 | 1 << 7 | 1 << 9 | 7 << 18 | 1 << 23 | 1 << 24 | 1 << 29;
/// Leaf 7, ECX: UMIP.
const ALLOWED_7_ECX: u32 = 1 << 2;
/// Leaf 8000_0001h, ECX: LAHF, LZCNT, SSE4A, misaligned SSE, PREFETCH. Not SVM.
const ALLOWED_EXTENDED_ECX: u32 = 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
/// Leaf 8000_0001h, EDX: what leaf 1 has, SYSCALL, NX, MMX extensions, 1 GiB pages, long mode. Not RDTSCP.
const ALLOWED_EXTENDED_EDX: u32 = 0x0183_a37f | 1 << 11 | 1 << 20 | 1 << 22 | 1 << 26 | 1 << 29;
/// Leaf 8000_0007h, EDX: the counter's rate does not change.
const ALLOWED_7_POWER: u32 = 1 << 8;

/// What CPU `number` of the guest is shown of leaf `leaf`, `sub`, with a counter of this rate; `host` reads a leaf of the
/// host's CPU.
pub(crate) fn shown(
    (leaf, sub): (u32, u32),
    number: u32,
    kilohertz: u32,
    host: impl Fn(u32, u32) -> Leaf,
) -> Leaf {
    let [eax, ebx, ecx, edx] = host(leaf, sub);
    match (leaf, sub) {
        (0, _) => [eax.min(LAST), ebx, ecx, edx],
        (FEATURES, _) => [
            eax,
            ebx & ALLOWED_1_EBX | number << NUMBER_1_EBX,
            ecx & ALLOWED_1_ECX | ADDED_1_ECX,
            edx & ALLOWED_1_EDX | ADDED_1_EDX,
        ],
        (POWER, _) => [ADDED_6_EAX, 0, 0, 0],
        (MORE_FEATURES, 0) => [0, ebx & ALLOWED_7_EBX, ecx & ALLOWED_7_ECX, 0],
        // Two levels, thread and core, with one CPU each: every CPU is a package of its own.
        (TOPOLOGY, 0) => [0, 1, 0x100, number],
        (TOPOLOGY, 1) => [0, 1, 0x201, number],
        (TOPOLOGY, _) => [0, 0, sub & 0xff, number],
        // Linux keeps an x2APIC without interrupt remapping under this hypervisor: none of its features is offered.
        (HYPERVISOR, _) => {
            let name = |bytes: [u8; 4]| u32::from_le_bytes(bytes);
            [TIMING, name(*b"KVMK"), name(*b"VMKV"), name(*b"M\0\0\0")]
        }
        (TIMING, _) => [kilohertz, 0, 0, 0],
        (EXTENDED, _) => [eax.min(SIZES), ebx, ecx, edx],
        (EXTENDED_FEATURES, _) => [eax, 0, ecx & ALLOWED_EXTENDED_ECX, edx & ALLOWED_EXTENDED_EDX],
        (BRAND..=CACHES, _) => [eax, ebx, ecx, edx],
        (TIMESTAMP, _) => [0, 0, 0, edx & ALLOWED_7_POWER],
        // The sizes of addresses, but no features and no other CPU.
        (SIZES, _) => [eax & 0xffff, 0, 0, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests;
