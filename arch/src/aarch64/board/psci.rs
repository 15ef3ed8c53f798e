//! PSCI for guests (Arm DEN 0022F): the calls of a machine with one CPU, by HVC.

use crate::contract::GuestExit;

const VERSION: u64 = 0x8400_0000;
const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;
const FEATURES: u64 = 0x8400_000a;

/// Version 1.0.
const VERSION_1_0: u64 = 0x1_0000;
/// What MIGRATE_INFO_TYPE returns where no Trusted OS runs: nothing has to be migrated.
const NOTHING_TO_MIGRATE: u64 = 2;
const NOT_SUPPORTED: u64 = -1_i64 as u64;

/// Whether a function is there.
const fn has(function: u64) -> bool {
    matches!(function, VERSION | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | FEATURES)
}

/// Carries out the call in the registers of a guest; functions that are not there return an error, as firmware does.
pub(super) fn call(x: &mut [u64; 31]) -> GuestExit {
    let [result, argument, ..] = x;
    *result = match *result & 0xffff_ffff {
        VERSION => VERSION_1_0,
        MIGRATE_INFO_TYPE => NOTHING_TO_MIGRATE,
        FEATURES if has(*argument & 0xffff_ffff) => 0,
        SYSTEM_OFF => return GuestExit::Off,
        SYSTEM_RESET => return GuestExit::Stopped("it restarted its machine", *result),
        _ => NOT_SUPPORTED,
    };
    GuestExit::Emulated
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exit and the result of a call.
    fn calls(function: u64, argument: u64) -> (GuestExit, u64) {
        let mut x = [0; 31];
        (x[0], x[1]) = (function, argument);
        (call(&mut x), x[0])
    }

    #[test]
    fn linux_gets_version_1_0_and_an_error_for_what_is_not_there() {
        assert_eq!(calls(VERSION, 0), (GuestExit::Emulated, 0x1_0000));
        assert_eq!(calls(MIGRATE_INFO_TYPE, 0), (GuestExit::Emulated, 2));
        assert_eq!(calls(FEATURES, SYSTEM_RESET), (GuestExit::Emulated, 0));
        // CPU_ON, CPU_SUSPEND, and a call of something else.
        for function in [0xc400_0003, 0xc400_0001, 0x8000_0000, u64::MAX] {
            assert_eq!(calls(function, 0), (GuestExit::Emulated, u64::MAX));
        }
        assert_eq!(calls(FEATURES, 0xc400_0003), (GuestExit::Emulated, u64::MAX));
    }

    #[test]
    fn the_end_of_the_machine_is_an_exit() {
        assert_eq!(calls(SYSTEM_OFF, 0).0, GuestExit::Off);
        let stopped = GuestExit::Stopped("it restarted its machine", SYSTEM_RESET);
        assert_eq!(calls(SYSTEM_RESET, 0).0, stopped);
    }
}
