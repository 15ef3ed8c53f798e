//! The system registers of a guest that are trapped (Arm ARM D17): what its CPU can do, and registers without a use.
//!
//! The guest must not use state that the host does not switch between guests, so its CPU lacks SVE, SME, pointer
//! authentication, memory tags, performance counters and 32-bit code. An identification register that is not listed here reads as zero, so what
//! a newer CPU adds is not seen either.

/// The identification registers that guests may see a part of, as the CPU has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// ID_AA64PFR0_EL1.
    pub pfr0: u64,
    /// ID_AA64PFR1_EL1.
    pub pfr1: u64,
    /// ID_AA64ISAR0_EL1.
    pub isar0: u64,
    /// ID_AA64ISAR1_EL1.
    pub isar1: u64,
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
    /// ID_AA64MMFR2_EL1.
    pub mmfr2: u64,
}

/// What follows a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing.
    Ignored,
    /// The guest sends an interrupt: ICC_SGI1R_EL1.
    Send,
}

/// The operands of MRS and MSR: op0, op1, CRn, CRm, op2.
const fn operands(syndrome: u64) -> [u64; 5] {
    [
        syndrome >> 20 & 3,
        syndrome >> 14 & 7,
        syndrome >> 10 & 0xf,
        syndrome >> 1 & 0xf,
        syndrome >> 17 & 7,
    ]
}

/// The four-bit fields with these numbers.
const fn fields(numbers: &[u32]) -> u64 {
    let (mut mask, mut index) = (0, 0);
    while index < numbers.len() {
        mask |= 0xf << (4 * numbers[index]);
        index += 1;
    }
    mask
}

/// PFR0: FP, AdvSIMD, GIC, DIT.
const PFR0: u64 = fields(&[4, 5, 6, 12]);
/// PFR0: EL0 and EL1, in AArch64 only. CSV2 and CSV3 (fields 14 and 15) beyond one mean registers that guests lack.
const EL0_EL1: u64 = 0x11;
/// PFR1: BT, SSBS.
const PFR1: u64 = fields(&[0, 1]);
/// DFR0: the debug architecture of Armv8, with the fewest breakpoints; they do nothing.
const DFR0: u64 = 6;
/// ISAR0: all but TME.
const ISAR0: u64 = !fields(&[6]);
/// ISAR1: all but pointer authentication, XS and LS64.
const ISAR1: u64 = !fields(&[1, 2, 6, 7, 14, 15]);
/// MMFR0: ASIDBits, BigEnd, SNSMem, BigEndEL0, the three granules, ExS.
const MMFR0: u64 = fields(&[1, 2, 3, 4, 5, 6, 7, 11]);
/// MMFR0: physical addresses of 36 bits, which is what the second stage has.
const MMFR0_SET: u64 = 1;
/// MMFR1: HAFDBS, HPDS, PAN, SpecSEI, XNX, ETS.
const MMFR1: u64 = fields(&[0, 3, 5, 6, 7, 9]);
/// MMFR2: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD.
const MMFR2: u64 = fields(&[0, 1, 2, 4, 5, 7, 8, 9, 12, 13, 15]);

/// The value of a register; `None` for one that guests do not have.
pub(super) fn read(syndrome: u64, ids: &IdRegisters) -> Option<u64> {
    match operands(syndrome) {
        [3, 0, 0, 4, 0] => {
            Some(ids.pfr0 & PFR0 | EL0_EL1 | capped(ids.pfr0, 14) | capped(ids.pfr0, 15))
        }
        [3, 0, 0, 4, 1] => Some(ids.pfr1 & PFR1),
        [3, 0, 0, 5, 0] => Some(DFR0),
        [3, 0, 0, 6, 0] => Some(ids.isar0 & ISAR0),
        [3, 0, 0, 6, 1] => Some(ids.isar1 & ISAR1),
        [3, 0, 0, 7, 0] => Some(ids.mmfr0 & MMFR0 | MMFR0_SET),
        [3, 0, 0, 7, 1] => Some(ids.mmfr1 & MMFR1),
        [3, 0, 0, 7, 2] => Some(ids.mmfr2 & MMFR2),
        // Other identification registers, those of debugging, and ACTLR_EL1.
        [3, 0, 0, 1..=7, _] | [2, ..] | [3, 0, 1, 0, 1] => Some(0),
        _ => None,
    }
}

/// A field, at most one.
const fn capped(word: u64, field: u32) -> u64 {
    if word >> (4 * field) & 0xf == 0 { 0 } else { 1 << (4 * field) }
}

/// What a write does; `None` for a register that guests do not have.
pub(super) fn write(syndrome: u64) -> Option<Outcome> {
    match operands(syndrome) {
        [3, 0, 12, 11, 5] => Some(Outcome::Send),
        [2, ..] | [3, 0, 1, 0, 1] => Some(Outcome::Ignored),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem_paging::testing::Random;

    /// The syndrome of an access to a register.
    fn syndrome([op0, op1, crn, crm, op2]: [u64; 5], load: bool) -> u64 {
        let place = op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1;
        0x18 << 26 | 1 << 25 | place | u64::from(load)
    }

    const ALL: IdRegisters = IdRegisters {
        pfr0: u64::MAX,
        pfr1: u64::MAX,
        isar0: u64::MAX,
        isar1: u64::MAX,
        mmfr0: u64::MAX,
        mmfr1: u64::MAX,
        mmfr2: u64::MAX,
    };

    fn id(crm: u64, op2: u64, ids: &IdRegisters) -> u64 {
        read(syndrome([3, 0, 0, crm, op2], true), ids).unwrap()
    }

    #[test]
    fn a_cpu_with_everything_shows_only_what_guests_may_use() {
        // EL3, EL2, RAS, SVE, SEL2, MPAM and AMU are hidden; no AArch32.
        assert_eq!(id(4, 0, &ALL), 0x110f_0000_0fff_0011);
        // MTE, SME.
        assert_eq!(id(4, 1, &ALL), 0xff);
        // ID_AA64ZFR0_EL1, ID_AA64SMFR0_EL1, ID_AA64ISAR2_EL1, ID_AA64MMFR3_EL1, ID_PFR0_EL1.
        for (crm, op2) in [(4, 4), (4, 5), (6, 2), (7, 3), (1, 0)] {
            assert_eq!(id(crm, op2, &ALL), 0);
        }
        // No performance counters.
        assert_eq!(id(5, 0, &ALL) >> 8, 0);
        // Pointer authentication of all kinds.
        assert_eq!(id(6, 1, &ALL) & 0xff00_0ff0, 0);
        assert_eq!(id(7, 0, &ALL) & 0xf, 1);
        // VH.
        assert_eq!(id(7, 1, &ALL) & 0xf00, 0);
    }

    #[test]
    fn a_cpu_with_nothing_is_not_given_anything() {
        let none = IdRegisters::default();
        assert_eq!((id(4, 0, &none), id(4, 1, &none), id(7, 0, &none)), (0x11, 0, 1));
        assert_eq!((id(6, 0, &none), id(6, 1, &none), id(7, 2, &none)), (0, 0, 0));
    }

    #[test]
    fn registers_of_debugging_do_nothing_and_a_call_is_sent() {
        // OSLAR_EL1, MDSCR_EL1, DBGBVR0_EL1, ACTLR_EL1.
        for place in [[2, 0, 1, 0, 4], [2, 0, 0, 2, 2], [2, 0, 0, 0, 4], [3, 0, 1, 0, 1]] {
            assert_eq!(write(syndrome(place, false)), Some(Outcome::Ignored));
            assert_eq!(read(syndrome(place, true), &ALL), Some(0));
        }
        assert_eq!(write(syndrome([3, 0, 12, 11, 5], false)), Some(Outcome::Send));
        // PMCR_EL0, LORC_EL1.
        for place in [[3, 3, 9, 12, 0], [3, 0, 10, 4, 3]] {
            assert_eq!(write(syndrome(place, false)), None);
            assert_eq!(read(syndrome(place, true), &ALL), None);
        }
    }

    #[test]
    fn no_syndrome_causes_a_panic() {
        let mut random = Random::new(5);
        for _ in 0..100_000 {
            let (word, bits) = (random.bits(), random.bits());
            let ids = IdRegisters { pfr0: bits, mmfr0: !bits, ..ALL };
            read(word, &ids);
            write(word);
        }
    }
}
