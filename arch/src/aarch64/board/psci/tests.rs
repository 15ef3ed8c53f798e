use super::*;
use hotmem_paging::testing::Random;

/// The exit and the result of a call.
fn calls(function: u64, arguments: [u64; 3]) -> (GuestExit, u64) {
    let mut x = [0; 31];
    x[0] = function;
    x[1..4].copy_from_slice(&arguments);
    (call(&mut x), x[0])
}

fn start(cpu: u64, entry: u64, context: u64) -> GuestExit {
    let start = CpuStart { entry: GuestAddr::new(entry), context };
    GuestExit::Cpus(CpuRequest::Start { cpus: CpuSet::one(cpu), start })
}

#[test]
fn linux_gets_version_1_0_and_an_error_for_what_is_not_there() {
    assert_eq!(calls(VERSION, [0; 3]), (GuestExit::Emulated, 0x1_0000));
    assert_eq!(calls(MIGRATE_INFO_TYPE, [0; 3]), (GuestExit::Emulated, 2));
    for function in [SYSTEM_RESET, CPU_OFF, CPU_ON, 0xc400_0003, AFFINITY_INFO, 0xc400_0004] {
        assert_eq!(calls(FEATURES, [function, 0, 0]), (GuestExit::Emulated, 0));
    }
    // CPU_SUSPEND, CPU_OFF with wide arguments, and a call of something else.
    for function in [0xc400_0001, 0xc400_0002, 0x8000_0000, u64::MAX] {
        assert_eq!(calls(function, [0; 3]), (GuestExit::Emulated, u64::MAX));
        assert_eq!(calls(FEATURES, [function, 0, 0]), (GuestExit::Emulated, u64::MAX));
    }
}

#[test]
fn the_end_of_the_machine_is_an_exit() {
    assert_eq!(calls(SYSTEM_OFF, [0; 3]).0, GuestExit::Off);
    let stopped = GuestExit::Stopped("it restarted its machine", SYSTEM_RESET);
    assert_eq!(calls(SYSTEM_RESET, [0; 3]).0, stopped);
}

#[test]
fn a_start_names_a_cpu_by_its_affinity_and_narrow_arguments_have_32_bits() {
    let wide = 0x7_8000_1000;
    assert_eq!(calls(CPU_ON_WIDE, [1, wide, u64::MAX]).0, start(1, wide, u64::MAX));
    let narrow = calls(CPU_ON, [1 << 32 | 1, wide, u64::MAX]).0;
    assert_eq!(narrow, start(1, 0x8000_1000, 0xffff_ffff));
    // The upper half of the function's register is not its number.
    assert_eq!(calls(1 << 32 | CPU_ON_WIDE, [2, 0x4000_0000, 7]).0, start(2, 0x4000_0000, 7));
    // A CPU of another cluster, and one with what MPIDR_EL1 has besides.
    for affinity in [0x100, 1 << 31 | 1, 1 << 32 | 1, 64, u64::MAX] {
        let GuestExit::Cpus(CpuRequest::Start { cpus, .. }) =
            calls(CPU_ON_WIDE, [affinity, 0, 0]).0
        else {
            panic!("{affinity:#x}")
        };
        assert_eq!(cpus.iter().count(), 0, "{affinity:#x}");
    }
}

#[test]
fn an_entry_that_is_no_instruction_is_refused_at_once() {
    assert_eq!(calls(CPU_ON_WIDE, [1, 0x4000_0002, 0]), (GuestExit::Emulated, -9_i64 as u64));
}

#[test]
fn the_state_of_a_cpu_is_asked_for_and_that_of_a_cluster_is_not_there() {
    let asked = GuestExit::Cpus(CpuRequest::State(CpuSet::one(3)));
    assert_eq!(calls(AFFINITY_INFO_WIDE, [3, 0, 0]).0, asked);
    assert_eq!(calls(AFFINITY_INFO, [1 << 32 | 3, 1 << 32, 0]).0, asked);
    assert_eq!(calls(AFFINITY_INFO, [3, 1, 0]), (GuestExit::Emulated, -2_i64 as u64));
    assert_eq!(calls(CPU_OFF, [0; 3]).0, GuestExit::Cpus(CpuRequest::Stop));
}

#[test]
fn each_reply_has_its_number_and_that_of_a_query_is_a_state() {
    use CpuReply::{BadEntry, Denied, Done, IsOff, IsOn, IsStarting, NoCpu};
    for (function, reply, number) in [
        (CPU_ON_WIDE, Done, 0),
        (CPU_ON_WIDE, NoCpu, -2),
        (CPU_OFF, Denied, -3),
        (CPU_ON, IsOn, -4),
        (CPU_ON_WIDE, IsStarting, -5),
        (CPU_ON_WIDE, BadEntry, -9),
        (AFFINITY_INFO_WIDE, IsOn, 0),
        (AFFINITY_INFO, IsOff, 1),
        (1 << 32 | AFFINITY_INFO, IsStarting, 2),
        (AFFINITY_INFO, NoCpu, -2),
    ] {
        assert_eq!(result(function, reply), number as u64, "{function:#x} {reply:?}");
    }
}

#[test]
fn a_guest_without_a_board_reaches_psci_by_hvc_and_keeps_its_own_calls() {
    let hvc = Cause { vector: 8, syndrome: 0x5a00_0000, address: 0, page: 0 };
    let exits = |cause, function| {
        let mut x = [0; 31];
        x[0] = function;
        exit(cause, &mut x)
    };
    assert_eq!(exits(hvc, VERSION), Some((GuestExit::Emulated, Next::Same)));
    assert_eq!(exits(hvc, 0xc400_001f), Some((GuestExit::Emulated, Next::Same)));
    for own in [0, 0x686d_0001, FIRST - 1, LAST + 1, 0xc400_0020] {
        assert_eq!(exits(hvc, own), None, "{own:#x}");
    }
    // SMC, and an interrupt.
    assert_eq!(exits(Cause { syndrome: 0x5e00_0000, ..hvc }, VERSION), None);
    assert_eq!(exits(Cause { vector: 9, ..hvc }, VERSION), None);
}

#[test]
fn no_call_causes_a_panic_or_names_a_cpu_above_63() {
    let mut random = Random::new(7);
    for _ in 0..300_000 {
        let mut x = [0; 31];
        for register in x.iter_mut().take(4) {
            *register = random.bits() >> random.below(64);
        }
        if random.below(2) == 0 {
            x[0] = x[0] & !0xffff_ffff | 0x8400_0000 | random.below(2) << 30 | random.below(0x24);
        }
        let before = x;
        match call(&mut x) {
            GuestExit::Emulated | GuestExit::Off | GuestExit::Stopped(..) => {}
            GuestExit::Cpus(CpuRequest::Start { cpus, start }) => {
                assert!(cpus.iter().count() <= 1 && start.entry.is_aligned(4), "{before:x?}");
            }
            GuestExit::Cpus(CpuRequest::State(cpus)) => assert!(cpus.iter().count() <= 1),
            GuestExit::Cpus(CpuRequest::Stop) => {}
            other => panic!("{before:x?}: {other:?}"),
        }
        assert_eq!(before[1..], x[1..]);
    }
}
