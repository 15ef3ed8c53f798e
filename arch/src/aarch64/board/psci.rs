//! PSCI for guests (Arm DEN 0022F), by HVC: what a guest asks of its machine and of its CPUs.

use crate::aarch64::exits::{Cause, Next};
use crate::aarch64::syndrome::class;
use crate::contract::{CpuReply, CpuRequest, CpuSet, CpuStart, GuestExit};
use hotmem_paging::addr::GuestAddr;

const VERSION: u64 = 0x8400_0000;
const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0x8400_0003;
const AFFINITY_INFO: u64 = 0x8400_0004;
const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;
const FEATURES: u64 = 0x8400_000a;
/// In the number of a function with arguments of 64 bits.
const WIDE: u64 = 1 << 30;
const CPU_ON_WIDE: u64 = CPU_ON | WIDE;
const AFFINITY_INFO_WIDE: u64 = AFFINITY_INFO | WIDE;
/// The numbers that belong to PSCI, but for WIDE.
const FIRST: u64 = VERSION;
const LAST: u64 = 0x8400_001f;

/// Version 1.0.
const VERSION_1_0: u64 = 0x1_0000;
/// What MIGRATE_INFO_TYPE returns where no Trusted OS runs: nothing has to be migrated.
const NOTHING_TO_MIGRATE: u64 = 2;
/// States of a CPU.
const ON: u64 = 0;
const OFF: u64 = 1;
const PENDING: u64 = 2;
/// Errors.
const NOT_SUPPORTED: u64 = -1_i64 as u64;
const INVALID_PARAMETERS: u64 = -2_i64 as u64;
const DENIED: u64 = -3_i64 as u64;
const ALREADY_ON: u64 = -4_i64 as u64;
const ON_PENDING: u64 = -5_i64 as u64;
const INVALID_ADDRESS: u64 = -9_i64 as u64;

/// Whether a function is there.
const fn has(function: u64) -> bool {
    let of_cpus =
        matches!(function, CPU_OFF | CPU_ON | CPU_ON_WIDE | AFFINITY_INFO | AFFINITY_INFO_WIDE);
    let others =
        matches!(function, VERSION | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | FEATURES);
    of_cpus || others
}

/// The exit of a guest without a board that `cause` describes, if it is a call of PSCI.
pub fn exit(cause: Cause, x: &mut [u64; 31]) -> Option<(GuestExit, Next)> {
    let is_call = cause.vector.is_multiple_of(4) && class(cause.syndrome) == 0x16;
    let [function, ..] = x;
    let is_own = (FIRST..=LAST).contains(&(*function & 0xffff_ffff & !WIDE));
    (is_call && is_own).then(|| (call(x), Next::Same))
}

/// Carries out the call in the registers of a guest; functions that are not there return an error, as firmware does.
pub(super) fn call(x: &mut [u64; 31]) -> GuestExit {
    let [result, first, second, third, ..] = x;
    let function = *result & 0xffff_ffff;
    // A function with narrow arguments does not see the upper halves of the registers.
    let narrow = if function & WIDE == 0 { 0xffff_ffff } else { u64::MAX };
    let [first, second, third] = [*first & narrow, *second & narrow, *third & narrow];
    let reply = match function {
        VERSION => VERSION_1_0,
        MIGRATE_INFO_TYPE => NOTHING_TO_MIGRATE,
        FEATURES if has(first & 0xffff_ffff) => 0,
        CPU_ON | CPU_ON_WIDE if !second.is_multiple_of(4) => INVALID_ADDRESS,
        CPU_ON | CPU_ON_WIDE => {
            let start = CpuStart { entry: GuestAddr::new(second), context: third };
            let cpus = CpuSet::one(first);
            return GuestExit::Cpus(CpuRequest::Start { cpus, start });
        }
        CPU_OFF => return GuestExit::Cpus(CpuRequest::Stop),
        // Levels of affinity above that of CPUs are optional.
        AFFINITY_INFO | AFFINITY_INFO_WIDE if second != 0 => INVALID_PARAMETERS,
        AFFINITY_INFO | AFFINITY_INFO_WIDE => {
            return GuestExit::Cpus(CpuRequest::State(CpuSet::one(first)));
        }
        SYSTEM_OFF => return GuestExit::Off,
        SYSTEM_RESET => return GuestExit::Stopped("it restarted its machine", *result),
        _ => NOT_SUPPORTED,
    };
    *result = reply;
    GuestExit::Emulated
}

/// The number that PSCI returns for `reply` to a request of `function`.
pub fn result(function: u64, reply: CpuReply) -> u64 {
    let is_query = function & 0xffff_ffff & !WIDE == AFFINITY_INFO;
    match reply {
        CpuReply::Done => 0,
        CpuReply::NoCpu => INVALID_PARAMETERS,
        CpuReply::IsOn if is_query => ON,
        CpuReply::IsOn => ALREADY_ON,
        CpuReply::IsStarting if is_query => PENDING,
        CpuReply::IsStarting => ON_PENDING,
        CpuReply::IsOff => OFF,
        CpuReply::BadEntry => INVALID_ADDRESS,
        CpuReply::Denied => DENIED,
    }
}

#[cfg(test)]
mod tests;
