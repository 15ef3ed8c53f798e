//! What a CPU with every feature shows of itself.

use super::*;
use hotmem_paging::testing::Random;

const ALL: Leaf = [u32::MAX; 4];
const KILOHERTZ: u32 = 2_400_000;

fn of_all(leaf: u32, sub: u32) -> Leaf {
    shown((leaf, sub), 0, KILOHERTZ, |_, _| ALL)
}

fn has(word: u32, bits: &[u32]) -> bool {
    bits.iter().all(|bit| word & 1 << bit != 0)
}

fn lacks(word: u32, bits: &[u32]) -> bool {
    bits.iter().all(|bit| word & 1 << bit == 0)
}

#[test]
fn state_that_no_switch_saves_is_not_shown() {
    let [_, ebx, ecx, edx] = of_all(1, 0);
    // MONITOR, VMX, FMA, PCID, XSAVE, OSXSAVE, AVX, F16C; MCE, MTRR, MCA, ACPI, HTT.
    assert!(lacks(ecx, &[3, 5, 12, 17, 26, 27, 28, 29]), "{ecx:#x}");
    assert!(lacks(edx, &[7, 12, 14, 22, 28]), "{edx:#x}");
    assert_eq!(ebx, 0xff00, "CPU 0, and no other");
    let [eax, ebx, ecx, edx] = of_all(7, 0);
    // HLE, AVX2, INVPCID, RTM, MPX, AVX512F; PKU, CET, LA57, RDPID.
    assert!(lacks(ebx, &[1, 4, 5, 10, 11, 14, 16]), "{ebx:#x}");
    assert!(lacks(ecx, &[3, 4, 7, 16, 22]), "{ecx:#x}");
    assert_eq!((eax, edx), (0, 0));
    let [_, _, ecx, edx] = of_all(0x8000_0001, 0);
    // SVM, XOP, FMA4, TCE, MONITORX; MCE, MTRR, MCA, FFXSR, RDTSCP.
    assert!(lacks(ecx, &[2, 11, 16, 17, 29]), "{ecx:#x}");
    assert!(lacks(edx, &[7, 12, 14, 25, 27]), "{edx:#x}");
    for leaf in [0xd, 0xf, 0x8000_000a, 0x8000_001d, 0x8000_001f, 0x4000_0001, 0x2000_0000] {
        assert_eq!(of_all(leaf, 0), [0; 4], "{leaf:#x}");
    }
}

#[test]
fn what_the_board_emulates_is_shown_on_any_cpu() {
    let none = |leaf, sub| shown((leaf, sub), 0, KILOHERTZ, |_, _| [0; 4]);
    let [_, _, ecx, edx] = none(1, 0);
    assert!(has(ecx, &[21, 24, 31]) && has(edx, &[9]));
    assert_eq!(none(6, 0), [4, 0, 0, 0]);
    assert_eq!(none(0x4000_0000, 0)[0], 0x4000_0010);
    assert_eq!(none(0x4000_0010, 0), [KILOHERTZ, 0, 0, 0]);
    let [_, name @ ..] = none(0x4000_0000, 0);
    let bytes = name.map(u32::to_le_bytes);
    assert_eq!(bytes.as_flattened(), b"KVMKVMKVM\0\0\0");
    assert_eq!([none(0xb, 0), none(0xb, 1), none(0xb, 2)][1], [0, 1, 0x201, 0]);
    assert_eq!(none(0xb, 2), [0, 0, 2, 0]);
    let third = |leaf, sub| shown((leaf, sub), 3, KILOHERTZ, |_, _| [0; 4]);
    assert_eq!((third(1, 0)[1], third(0xb, 1)), (3 << 24, [0, 1, 0x201, 3]));
}

// What Linux needs of a 64-bit CPU: arch/x86/include/asm/required-features.h.
#[test]
fn a_64_bit_kernel_finds_what_it_requires() {
    let [_, _, _, edx] = of_all(1, 0);
    assert!(has(edx, &[0, 3, 4, 5, 6, 8, 13, 15, 24, 25, 26]), "{edx:#x}");
    let [_, _, _, edx] = of_all(0x8000_0001, 0);
    assert!(has(edx, &[11, 20, 29]), "{edx:#x}");
}

#[test]
fn no_leaf_shows_more_than_the_host_has_and_the_board_adds() {
    let mut random = Random::new(5);
    for _ in 0..100_000 {
        let base = *random.pick(&[0, 0x4000_0000, 0x8000_0000_u32]);
        let (leaf, sub) = (base | random.below(0x30) as u32, random.below(4) as u32);
        let host = core::array::from_fn(|_| random.bits() as u32);
        let seen = shown((leaf, sub), 0, KILOHERTZ, |_, _| host);
        let added = shown((leaf, sub), 0, KILOHERTZ, |_, _| [0; 4]);
        let is_number = matches!(leaf, 0 | 0x8000_0000);
        let all = seen.iter().zip(host).zip(added);
        assert!(
            is_number || all.into_iter().all(|((seen, host), added)| seen & !(host | added) == 0)
        );
    }
}
