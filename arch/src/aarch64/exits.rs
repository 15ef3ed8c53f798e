//! The reasons why a guest's CPU came back to EL2, from the registers that the CPU leaves (Arm ARM D17.2.37, ESR_EL2).

use super::syndrome::class;
use crate::contract::{Access, GuestCall, GuestExit};
use hotmem_paging::addr::GuestAddr;

/// The registers of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The vector: 8 to 11 from AArch64, 12 to 15 from AArch32 (Arm ARM table D1-5).
    pub vector: u64,
    /// ESR_EL2.
    pub syndrome: u64,
    /// FAR_EL2.
    pub address: u64,
    /// HPFAR_EL2.
    pub page: u64,
}

/// The instruction where the guest continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The one at its program counter.
    Same,
    /// The one after that.
    Following,
}

/// The exit that `cause` describes, of a guest with the registers `x`, and where the guest continues.
pub fn decode(cause: Cause, x: &[u64; 31]) -> (GuestExit, Next) {
    let stopped = |why| (GuestExit::Stopped(why, cause.syndrome), Next::Same);
    match cause.vector % 4 {
        0 => synchronous(cause, x),
        1 => (GuestExit::Interrupt, Next::Same),
        2 => stopped("a fast interrupt arrived"),
        _ => stopped("a system error arrived"),
    }
}

fn synchronous(cause: Cause, x: &[u64; 31]) -> (GuestExit, Next) {
    let stopped = |why| (GuestExit::Stopped(why, cause.syndrome), Next::Same);
    match class(cause.syndrome) {
        0x01 => (GuestExit::Wait, Next::Following),
        // HVC leaves the program counter behind the instruction, SMC at it.
        0x16 => (GuestExit::Call(call(x)), Next::Same),
        0x17 => stopped("it called secure firmware (SMC)"),
        0x20 => abort(cause, Access::Fetch),
        0x24 if cause.syndrome & WRITE != 0 && cause.syndrome & MAINTENANCE == 0 => {
            abort(cause, Access::Write)
        }
        0x24 => abort(cause, Access::Read),
        0x18 if is_translation_control(cause.syndrome) => {
            stopped("it changed its own translation, which is not supported")
        }
        0x18 => stopped("it accessed a system register that it does not have"),
        0x07 => stopped("it used floating point, which it does not have"),
        0x19 | 0x1d => stopped("it used vectors, which it does not have"),
        0x09 => stopped("it used pointer authentication, which it does not have"),
        0x12 | 0x13 | 0x03..=0x06 | 0x08 | 0x0c => stopped("it ran 32-bit code"),
        _ => stopped("its exception is unknown"),
    }
}

/// WnR: the abort was a store.
const WRITE: u64 = 1 << 6;
/// CM: the abort was cache maintenance, which is reported as a store.
const MAINTENANCE: u64 = 1 << 8;
/// S1PTW: the abort was an access to the guest's own tables.
const WALK: u64 = 1 << 7;

/// A system register whose writes HCR_EL2.TVM traps: op0 3, op1 0, CRn 1, 2, 5, 6, 10 or 13; read or write in bit 0.
const fn is_translation_control(syndrome: u64) -> bool {
    let (op0, op1, crn) = (syndrome >> 20 & 3, syndrome >> 14 & 7, syndrome >> 10 & 0xf);
    op0 == 3 && op1 == 0 && matches!(crn, 1 | 2 | 5 | 6 | 10 | 13) && syndrome & 1 == 0
}

/// A stage-2 abort: its status code (bits 5..0) says whether a leaf is missing, or forbids the access.
fn abort(cause: Cause, access: Access) -> (GuestExit, Next) {
    let at = match cause.syndrome & 0x3c {
        // Translation fault, access flag fault: HPFAR_EL2 has bits 47..12 of the guest address.
        0x04 | 0x08 => cause.page >> 4 << 12 & ((1 << 48) - 1) | cause.address & 0xfff,
        // Permission fault: HPFAR_EL2 is only valid for accesses to the guest's tables. Without translation of its
        // own, addresses are guest addresses.
        0x0c if cause.syndrome & WALK == 0 => cause.address & ((1 << 48) - 1),
        0x0c => cause.page >> 4 << 12 & ((1 << 48) - 1),
        // Address size fault: above the tables' reach.
        0x00 => cause.address & ((1 << 48) - 1),
        _ => return (GuestExit::Stopped("memory failed", cause.syndrome), Next::Same),
    };
    (GuestExit::Fault { at: GuestAddr::new(at), access }, Next::Same)
}

/// The call with its number in x0 and its arguments in x1 to x5.
fn call(x: &[u64; 31]) -> GuestCall {
    let [number, first, second, third, fourth, fifth, ..] = *x;
    GuestCall { number, arguments: [first, second, third, fourth, fifth] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem_paging::testing::Random;

    const X: [u64; 31] = {
        let mut x = [0; 31];
        let mut index = 0;
        while index < x.len() {
            x[index] = 100 + index as u64;
            index += 1;
        }
        x
    };

    fn exit(syndrome: u64, address: u64, page: u64) -> (GuestExit, Next) {
        decode(Cause { vector: 8, syndrome, address, page }, &X)
    }

    fn fault(at: u64, access: Access) -> (GuestExit, Next) {
        (GuestExit::Fault { at: GuestAddr::new(at), access }, Next::Same)
    }

    #[test]
    fn a_call_has_its_number_and_arguments_in_the_first_registers() {
        let call = GuestCall { number: 100, arguments: [101, 102, 103, 104, 105] };
        assert_eq!(exit(0x5a00_0000, 0, 0), (GuestExit::Call(call), Next::Same));
    }

    #[test]
    fn stage_2_faults_have_the_guests_address_and_the_kind_of_access() {
        // HPFAR_EL2 has the page from bit 4 on.
        assert_eq!(exit(0x93c2_8007, 0x8012_3458, 0x80_1230), fault(0x8012_3458, Access::Read));
        assert_eq!(exit(0x9382_0047, 0x8012_3458, 0x80_1230), fault(0x8012_3458, Access::Write));
        assert_eq!(exit(0x8200_0007, 0x8012_3000, 0x80_1230), fault(0x8012_3000, Access::Fetch));
        // A permission fault has no HPFAR_EL2.
        assert_eq!(exit(0x9382_004f, 0x8012_3458, 0xdead_0000), fault(0x8012_3458, Access::Write));
        // Cache maintenance needs no permission to write.
        assert_eq!(exit(0x9200_0147, 0x8012_3458, 0x80_1230), fault(0x8012_3458, Access::Read));
        // An access beyond the tables' reach.
        assert_eq!(exit(0x9300_0040, 0x20_0000_0000, 0), fault(0x20_0000_0000, Access::Write));
    }

    #[test]
    fn a_wait_continues_behind_its_instruction() {
        assert_eq!(exit(0x07e0_0000, 0, 0), (GuestExit::Wait, Next::Following));
    }

    #[test]
    fn what_the_host_does_not_emulate_stops_the_guest_by_name() {
        let why = |syndrome| match exit(syndrome, 0, 0) {
            (GuestExit::Stopped(why, code), Next::Same) => {
                assert_eq!(code, syndrome);
                why
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(why(0x5e00_0000), "it called secure firmware (SMC)");
        // msr sctlr_el1, x0; mrs x0, cntp_ctl_el0.
        assert_eq!(why(0x6230_0400), "it changed its own translation, which is not supported");
        assert_eq!(why(0x6234_f841), "it accessed a system register that it does not have");
        assert_eq!(why(0x1fe0_0000), "it used floating point, which it does not have");
        // A synchronous external abort.
        assert_eq!(why(0x9200_0010), "memory failed");
    }

    #[test]
    fn interrupts_of_the_host_are_exits_and_other_vectors_stop_the_guest() {
        let from = |vector| decode(Cause { vector, syndrome: 0, address: 0, page: 0 }, &X).0;
        assert_eq!(from(9), GuestExit::Interrupt);
        assert_eq!(from(13), GuestExit::Interrupt);
        assert_eq!(from(10), GuestExit::Stopped("a fast interrupt arrived", 0));
        assert_eq!(from(15), GuestExit::Stopped("a system error arrived", 0));
    }

    #[test]
    fn no_contents_of_the_registers_cause_a_panic_or_an_address_of_more_than_48_bits() {
        let mut random = Random::new(1);
        for _ in 0..200_000 {
            let (syndrome, address) = (random.bits() & 0xffff_ffff, random.bits());
            let cause = Cause { vector: random.below(16), syndrome, address, page: random.bits() };
            if let (GuestExit::Fault { at, .. }, next) = decode(cause, &X) {
                assert!(at.get() < 1 << 48 && next == Next::Same, "{cause:x?}");
            }
        }
    }
}
