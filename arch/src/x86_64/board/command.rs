//! What a CPU of a guest sends to others by the command register of its local APIC, in x2APIC mode (Intel SDM vol. 3A,
//! 12.6.1 and 12.12.9): interrupts, and what starts CPUs, INIT and the start-up interrupt (SIPI).

use super::refusal::Refusal;
use crate::contract::{CpuRequest, CpuSet, CpuStart};
use hotmem_paging::addr::GuestAddr;

/// The delivery mode: INIT, and the start-up interrupt with the page where a CPU begins as its vector.
const DELIVERY: u64 = 7 << 8;
const INIT: u64 = 5 << 8;
const STARTUP: u64 = 6 << 8;
/// The destination is a set of a cluster; the level is asserted; the shorthand for a destination.
const LOGICAL: u64 = 1 << 11;
const ASSERT: u64 = 1 << 14;
const SHORTHAND: u64 = 3 << 18;
const TO_DESTINATION: u64 = 0;
const TO_SELF: u64 = 1 << 18;
const TO_ALL: u64 = 2 << 18;
/// The destination of every CPU.
const BROADCAST: u64 = 0xffff_ffff;
/// CPUs of a cluster.
const CLUSTER: u64 = 16;

/// The CPUs that a command of CPU `own` is for.
const fn destination(command: u64, own: u64) -> CpuSet {
    let to = command >> 32;
    match command & SHORTHAND {
        TO_DESTINATION if to == BROADCAST => CpuSet::of_bits(u64::MAX),
        TO_DESTINATION if command & LOGICAL != 0 => {
            let first = (to >> 16) * CLUSTER;
            CpuSet::of_bits(if first < u64::BITS as u64 { (to & 0xffff) << first } else { 0 })
        }
        TO_DESTINATION => CpuSet::one(to),
        TO_SELF => CpuSet::one(own),
        TO_ALL => CpuSet::of_bits(u64::MAX),
        _ => CpuSet::one(own).complement(),
    }
}

/// The vector of the interrupt that a command sends, and the CPUs that get it; `None` for another command.
pub(crate) const fn interrupt(command: u64, own: u64) -> Option<(CpuSet, u8)> {
    if command & DELIVERY == 0 { Some((destination(command, own), command as u8)) } else { None }
}

/// What the command of CPU `own` asks of other CPUs; `None` for one that has no effect.
///
/// # Errors
///
/// [`Refusal::Stop`] for any other command: it sends an interrupt that the guest's CPUs cannot take.
pub(crate) const fn request(command: u64, own: u64) -> Result<Option<CpuRequest>, Refusal> {
    let cpus = destination(command, own);
    match command & DELIVERY {
        INIT if command & ASSERT == 0 => Ok(None),
        INIT => Ok(Some(CpuRequest::Reset(cpus))),
        STARTUP => {
            let entry = GuestAddr::new((command & 0xff) << 12);
            let start = CpuStart { entry, context: 0 };
            Ok(Some(CpuRequest::Start { cpus, start }))
        }
        _ => Err(Refusal::Stop("it sends an interrupt, which it could not take", command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem_paging::testing::Random;
    use std::vec::Vec;

    extern crate std;

    fn cpus(command: u64) -> Vec<usize> {
        destination(command, 2).iter().collect()
    }

    #[test]
    fn a_command_is_for_one_cpu_a_set_of_a_cluster_all_itself_or_the_others() {
        assert_eq!(cpus(3 << 32), [3]);
        assert_eq!(cpus(0x0001_0005 << 32 | LOGICAL), [16, 18]);
        assert_eq!(cpus(7 << 32 | TO_SELF), [2]);
        assert_eq!((cpus(BROADCAST << 32).len(), cpus(TO_ALL).len()), (64, 64));
        assert_eq!(cpus(BROADCAST << 32 | LOGICAL).len(), 64);
        let others = cpus(SHORTHAND);
        assert!(others.len() == 63 && !others.contains(&2));
        for none in [64, 0xffff_fffe] {
            assert!(cpus(none << 32).is_empty(), "{none:#x}");
        }
        assert!(cpus(0x0004_ffff << 32 | LOGICAL).is_empty());
    }

    #[test]
    fn init_resets_and_a_startup_interrupt_starts_at_the_page_of_its_vector() {
        let one = CpuSet::one(1);
        assert_eq!(request(1 << 32 | 0x4500, 0), Ok(Some(CpuRequest::Reset(one))));
        // De-assert: no effect.
        assert_eq!(request(1 << 32 | 0x8500, 0), Ok(None));
        let start = CpuStart { entry: GuestAddr::new(0x8000), context: 0 };
        let starts = Ok(Some(CpuRequest::Start { cpus: one, start }));
        assert_eq!(request(1 << 32 | 0x4608, 0), starts);
        assert_eq!(request(1 << 32 | 0x0608, 0), starts);
    }

    #[test]
    fn an_interrupt_has_a_vector_and_its_destinations() {
        assert_eq!(interrupt(3 << 32 | 0x40fb, 0), Some((CpuSet::one(3), 0xfb)));
        let (others, vector) = interrupt(SHORTHAND | 0xfd, 1).unwrap();
        assert_eq!((others.contains(0), others.contains(1), vector), (true, false, 0xfd));
        assert_eq!([interrupt(0x4500, 0), interrupt(0x4608, 0), interrupt(0x4402, 0)], [None; 3]);
    }

    #[test]
    fn an_interrupt_stops_the_guest_and_no_command_causes_a_panic_or_names_a_page_above_1_mib() {
        let mut random = Random::new(3);
        for _ in 0..200_000 {
            let command = (random.bits() >> random.below(64)) << (random.below(2) * 32);
            match request(command, random.below(8)) {
                Ok(Some(CpuRequest::Start { start, .. })) => {
                    assert!(start.entry.get() < 1 << 20 && start.entry.is_aligned(4096));
                    assert_eq!(command & DELIVERY, STARTUP);
                }
                Ok(Some(CpuRequest::Reset(_)) | None) => assert_eq!(command & DELIVERY, INIT),
                Err(Refusal::Stop(_, code)) => {
                    assert!(code == command && !matches!(command & DELIVERY, INIT | STARTUP));
                }
                other => panic!("{command:#x}: {other:?}"),
            }
        }
    }
}
