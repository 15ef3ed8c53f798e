//! The reason why a guest stopped, from the result of H_ENTER_NESTED.

use super::state::NestedState;
use crate::contract::{Access, GuestCall, GuestExit};
use hotmem_paging::addr::GuestAddr;

/// Interrupts by their vectors (book III, 6.5), which are the results of the call.
const SYSTEM_RESET: u64 = 0x100;
const MACHINE_CHECK: u64 = 0x200;
const EXTERNAL: u64 = 0x500;
const HYPERVISOR_DECREMENTER: u64 = 0x980;
const SYSTEM_CALL: u64 = 0xc00;
const HYPERVISOR_DATA: u64 = 0xe00;
const HYPERVISOR_INSTRUCTION: u64 = 0xe20;
const EMULATION_ASSISTANCE: u64 = 0xe40;
const HYPERVISOR_DOORBELL: u64 = 0xe80;
const HYPERVISOR_VIRTUALIZATION: u64 = 0xea0;
const HYPERVISOR_FACILITY: u64 = 0xf80;
/// Results from here on are vectors, others are statuses of hypercalls.
const FIRST_VECTOR: u64 = 0x100;
const LAST_VECTOR: u64 = 0x1fff;

/// HDSISR (book III, 6.5.16): the entry is absent; the entry does not allow the access; it was a store; the tables are
/// not of a supported kind; R or C is clear in the entry.
const NO_ENTRY: u64 = 1 << 30;
const PROTECTED: u64 = 1 << 27;
const STORE: u64 = 1 << 25;
const BAD_TABLES: u64 = 1 << 19;
const UNTOUCHED: u64 = 1 << 18;

/// The call by which a guest waits for an interrupt (LoPAR 14.11.1).
const H_CEDE: u64 = 0xe0;

/// The exit that `result`, the result of H_ENTER_NESTED, reports with the registers of `state`.
pub fn decode(result: u64, state: &NestedState) -> GuestExit {
    let hv = &state.hypervisor;
    match result {
        EXTERNAL | HYPERVISOR_DECREMENTER | HYPERVISOR_DOORBELL | HYPERVISOR_VIRTUALIZATION => {
            GuestExit::Interrupt
        }
        SYSTEM_CALL => call(state),
        HYPERVISOR_DATA => data(hv.hdsisr, address(hv.asdr, hv.hdar)),
        HYPERVISOR_INSTRUCTION => {
            GuestExit::Fault { at: address(hv.asdr, state.registers.nip), access: Access::Fetch }
        }
        EMULATION_ASSISTANCE => {
            GuestExit::Stopped("it executed an instruction that the CPU does not have", hv.heir)
        }
        HYPERVISOR_FACILITY => {
            GuestExit::Stopped("it used a facility that guests do not have", hv.hfscr >> 56)
        }
        SYSTEM_RESET => GuestExit::Stopped("its CPU was reset", result),
        MACHINE_CHECK => GuestExit::Stopped("its CPU had a machine check", result),
        _ if (FIRST_VECTOR..=LAST_VECTOR).contains(&result) => {
            GuestExit::Stopped("it raised an interrupt that this host does not serve", result)
        }
        _ => GuestExit::Stopped("the hypervisor refused to run it", result),
    }
}

/// ASDR names the page only, the address of the access has the rest.
fn address(asdr: u64, access: u64) -> GuestAddr {
    GuestAddr::new(asdr & !0xfff | access & 0xfff)
}

/// An access to data at `at`.
fn data(cause: u64, at: GuestAddr) -> GuestExit {
    if cause & BAD_TABLES != 0 {
        return GuestExit::Stopped("it translates by tables that the CPU does not support", cause);
    }
    if cause & UNTOUCHED != 0 {
        // No leaf of the format has either bit clear.
        return GuestExit::Stopped("a reference or change bit of its memory is clear", cause);
    }
    if cause & (NO_ENTRY | PROTECTED) == 0 {
        return GuestExit::Stopped("its access to memory failed for no known cause", cause);
    }
    let access = if cause & STORE == 0 { Access::Read } else { Access::Write };
    GuestExit::Fault { at, access }
}

/// A hypercall: the number is in r3, the arguments in r4 and on.
fn call(state: &NestedState) -> GuestExit {
    if state.is_problem_state() {
        let at = state.registers.nip;
        return GuestExit::Stopped("it made a hypercall in problem state", at);
    }
    let [_, _, _, number, a, b, c, d, e, ..] = state.registers.gpr;
    match number {
        H_CEDE => GuestExit::Wait,
        _ => GuestExit::Call(GuestCall { number, arguments: [a, b, c, d, e] }),
    }
}
