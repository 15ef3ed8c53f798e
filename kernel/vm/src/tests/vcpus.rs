//! Virtual CPUs: who starts and stops them, and what a guest is told.

use super::*;
use crate::exits::After;
use crate::switch::OwnVcpu;
use crate::{MAX_VCPUS, Power, Slice, VcpuId};
use hotmem::testing::{Random, on_wait};
use hotmem_arch::contract::{
    CpuReply, CpuRequest, CpuSet, CpuStart, GuestCall, GuestExit, PAYLOAD_DONE, PAYLOAD_ROUND,
};
use std::sync::mpsc;
use std::thread;

/// A guest with so many virtual CPUs, which runs on CPUs 1 and up.
fn several(vms: &Vms<Fake, Soft>, vcpus: usize) -> VmId {
    let name = Name::new("a").unwrap();
    let id = vms.create(name, MIB / 4, Order::ZERO, None, vcpus, &Program::Payload).unwrap();
    let cpus: Vec<usize> = (1..=vcpus).collect();
    vms.start(id, 0, Misdeed::None, &cpus).unwrap();
    KICKED.set(0);
    id
}

fn powers(vms: &Vms<Fake, Soft>) -> Vec<Power> {
    let status = vms.status().next().unwrap();
    status.vcpus.iter().map(|vcpu| vcpu.power).collect()
}

/// Has CPU `number` of a guest leave it by `exit`, as its CPU would.
fn leave(vms: &Vms<Fake, Soft>, vm: VmId, number: usize, exit: GuestExit) -> After {
    let at = VcpuId { vm, number };
    let place = vms.host.vcpu(at).unwrap();
    let mut vcpu = place.lock().take().unwrap();
    let after = vms.handle(at, &mut vcpu, exit);
    if let After::Stop(why, code) = after {
        vms.stop(at, &vcpu, why, code);
    }
    *place.lock() = Some(vcpu);
    after
}

/// The reply to a request of a CPU.
fn reply(vms: &Vms<Fake, Soft>, vm: VmId, request: CpuRequest) -> CpuReply {
    vms.reply_of(vm, request)
}

const ENTRY: CpuStart = CpuStart { entry: GuestAddr::new(RAM * PAGE + 64), context: 7 };

fn start(cpus: CpuSet) -> CpuRequest {
    CpuRequest::Start { cpus, start: ENTRY }
}

#[test]
fn a_cpu_is_started_once_where_the_guest_has_memory_and_its_own_cpu_is_interrupted() {
    let (_, vms) = machine();
    let id = several(&vms, 3);
    assert_eq!(powers(&vms), [Power::On, Power::Off, Power::Off]);
    for entry in [0, RAM * PAGE - 4, RAM * PAGE + MIB / 4, !3] {
        let wrong = CpuStart { entry: GuestAddr::new(entry), context: 0 };
        let request = CpuRequest::Start { cpus: CpuSet::one(1), start: wrong };
        assert_eq!(reply(&vms, id, request), CpuReply::BadEntry, "{entry:#x}");
    }
    for number in [3, 63, 64, u64::MAX] {
        assert_eq!(reply(&vms, id, start(CpuSet::one(number))), CpuReply::NoCpu);
        assert_eq!(reply(&vms, id, CpuRequest::State(CpuSet::one(number))), CpuReply::NoCpu);
    }
    assert_eq!(KICKED.get(), 0);
    assert_eq!(reply(&vms, id, CpuRequest::State(CpuSet::one(2))), CpuReply::IsOff);
    assert_eq!(reply(&vms, id, start(CpuSet::one(2))), CpuReply::Done);
    assert_eq!((KICKED.get(), powers(&vms)), (1 << 3, vec![Power::On, Power::Off, Power::On]));
    for number in [0, 2] {
        assert_eq!(reply(&vms, id, start(CpuSet::one(number))), CpuReply::IsOn);
        assert_eq!(reply(&vms, id, CpuRequest::State(CpuSet::one(number))), CpuReply::IsOn);
    }
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}

#[test]
fn a_cpu_goes_off_unless_it_is_the_last_and_can_be_started_again() {
    let (_, vms) = machine();
    let id = several(&vms, 2);
    let stop = GuestExit::Cpus(CpuRequest::Stop);
    assert!(matches!(leave(&vms, id, 0, stop), After::GoOn), "the last one stays on");
    assert_eq!(reply(&vms, id, start(CpuSet::one(1))), CpuReply::Done);
    assert!(matches!(leave(&vms, id, 0, stop), After::End(Slice::Off)));
    // Its CPU has not put it back yet.
    assert_eq!(powers(&vms), [Power::Stopping, Power::On]);
    assert_eq!(reply(&vms, id, start(CpuSet::one(0))), CpuReply::IsOn);
    assert!(matches!(leave(&vms, id, 1, stop), After::GoOn), "the last one stays on");
    vms.slot(id).unwrap().life.lock().change(0, Power::Stopping, Power::Off);
    assert_eq!(reply(&vms, id, start(CpuSet::one(0))), CpuReply::Done);
    assert_eq!(powers(&vms), [Power::On, Power::On]);
    on_cpu(1, || assert!(!vms.is_off(VcpuId { vm: id, number: 0 })));
    vms.kill(id).unwrap();
}

#[test]
fn a_guest_is_done_with_its_last_cpu_and_all_cpus_look_at_its_state() {
    let (_, vms) = machine();
    let id = several(&vms, 3);
    assert_eq!(reply(&vms, id, start(CpuSet::one(1))), CpuReply::Done);
    KICKED.set(0);
    let call = |number, rounds, sum| {
        GuestExit::Call(GuestCall { number, arguments: [rounds, 0, sum, 0, 0] })
    };
    leave(&vms, id, 0, call(PAYLOAD_ROUND, 1, 3));
    assert!(matches!(leave(&vms, id, 0, call(PAYLOAD_DONE, 1, 3)), After::End(Slice::Off)));
    assert_eq!((vms.state(id), KICKED.get()), (State::Runs, 0));
    on_cpu(1, || assert!(vms.is_off(VcpuId { vm: id, number: 0 })));
    leave(&vms, id, 1, call(PAYLOAD_DONE, 1, 5));
    assert_eq!((vms.state(id), KICKED.get()), (State::Done, 1 << 1 | 1 << 3));
    on_cpu(1, || assert!(!vms.is_off(VcpuId { vm: id, number: 0 })));
    vms.kill(id).unwrap();
}

/// The CPU of one that is off, or has ended, sleeps until it is interrupted.
#[test]
fn a_guest_that_is_paused_or_killed_gives_back_the_cpus_of_those_that_are_off() {
    let (_, vms) = machine();
    let id = several(&vms, 3);
    on_cpu(3, || assert!(vms.is_off(VcpuId { vm: id, number: 2 })));
    vms.pause(id).unwrap();
    assert_eq!(KICKED.take(), 1 << 1 | 1 << 2 | 1 << 3);
    on_cpu(3, || assert!(!vms.is_off(VcpuId { vm: id, number: 2 })));
    vms.start(id, 0, Misdeed::None, &[1, 2, 4]).unwrap();
    on_cpu(4, || assert!(vms.is_off(VcpuId { vm: id, number: 2 })));
    vms.kill(id).unwrap();
    assert_eq!(KICKED.get(), 1 << 1 | 1 << 2 | 1 << 4);
    on_cpu(4, || assert!(!vms.is_off(VcpuId { vm: id, number: 2 })));
}

/// A CPU that read the state before the change would take it, and put it back when the guest is gone.
#[test]
fn a_virtual_cpu_in_its_place_stays_there_once_the_state_of_its_guest_has_changed() {
    let (_, vms) = machine();
    let vms: &'static Vms<Fake, Soft> = Box::leak(Box::new(vms));
    let at = VcpuId { vm: several(vms, 1), number: 0 };
    let place = vms.host.vcpu(at).unwrap().lock();
    let (waits, comes) = mpsc::channel();
    let other = thread::spawn(move || {
        on_wait(Box::leak(Box::new(move || waits.send(()).unwrap_or_default())));
        on_cpu(1, || (vms.slice(at), ENABLED.get()))
    });
    comes.recv().expect("a CPU waits for the place");
    vms.slot(at.vm).unwrap().life.lock().state = State::Paused;
    drop(place);
    assert_eq!(other.join().unwrap(), (Slice::Idle, 0), "the virtual CPU was taken");
    vms.kill(at.vm).unwrap();
}

#[test]
fn a_guest_that_goes_on_up_to_a_round_ends_when_each_cpu_has_done_it() {
    let (_, vms) = machine();
    let (id, name) = (several(&vms, 2), Name::new("a").unwrap());
    reply(&vms, id, start(CpuSet::one(1)));
    let round = |rounds| {
        GuestExit::Call(GuestCall { number: PAYLOAD_ROUND, arguments: [rounds, 0, 0, 0, 0] })
    };
    leave(&vms, id, 0, round(4));
    leave(&vms, id, 1, round(6));
    vms.pause(id).unwrap();
    let go_on = |rounds, misdeed| vms.start(id, rounds, misdeed, &[1, 2]);
    assert_eq!(go_on(6, Misdeed::None), Err(VmError::Rounds(name, 6)));
    assert_eq!(go_on(0, Misdeed::Store), Err(VmError::Begun(name)));
    go_on(7, Misdeed::None).unwrap();
    assert!(matches!(leave(&vms, id, 0, round(6)), After::GoOn));
    assert!(matches!(leave(&vms, id, 1, round(7)), After::End(Slice::Off)));
    assert_eq!(vms.state(id), State::Runs);
    leave(&vms, id, 0, round(7));
    assert_eq!((vms.state(id), vms.status().next().unwrap().figures.rounds), (State::Done, 7));
    vms.kill(id).unwrap();
}

#[test]
fn what_one_cpu_does_wrong_stops_all_and_is_named() {
    let (_, vms) = machine();
    let id = several(&vms, 2);
    let call = GuestCall { number: 0xbad, arguments: [0; 5] };
    leave(&vms, id, 1, GuestExit::Call(call));
    assert_eq!((vms.state(id), KICKED.get()), (State::Stopped, 1 << 1));
    assert_eq!(vms.log(id), "its call is unknown (0xbad), on its CPU 1");
    vms.kill(id).unwrap();
}

#[test]
fn numbers_of_virtual_cpus_that_cannot_be_are_refused_and_leave_nothing() {
    let (bench, vms) = machine();
    let before = bench.snapshot();
    let name = Name::new("a").unwrap();
    let create =
        |vcpus, program: &Program<'_>| vms.create(name, MIB / 4, Order::ZERO, None, vcpus, program);
    for vcpus in [0, 5, MAX_VCPUS + 1, usize::MAX] {
        assert_eq!(create(vcpus, &Program::Payload), Err(VmError::Vcpus(4)));
    }
    assert_eq!(VmError::Vcpus(4).to_string(), "a guest has 1 to 4 virtual CPUs");
    assert_eq!(bench.snapshot(), before);
    let id = create(4, &Program::Payload).unwrap();
    let few = vms.start(id, 0, Misdeed::None, &[1, 2, 3]);
    assert_eq!(few, Err(VmError::Cpus { needs: 4, has: 3 }));
    assert_eq!(vms.state(id), State::Ready);
    vms.kill(id).unwrap();
    assert_eq!(bench.snapshot(), before);
}

#[test]
fn a_virtual_cpu_that_another_one_calls_is_interrupted_and_does_not_sleep() {
    let (_, vms) = machine();
    let id = several(&vms, 3);
    KICKED.set(0);
    vms.wake_all(id, CpuSet::of_bits(0b101));
    assert_eq!(KICKED.get(), 1 << 1 | 1 << 3);
    let woken = || [0, 1, 2].map(|number| vms.is_woken(VcpuId { vm: id, number }));
    assert_eq!(woken(), [true, false, true]);
    // It runs.
    vms.answer(VcpuId { vm: id, number: 0 });
    assert_eq!(woken(), [false, false, true]);
    // CPUs that the guest does not have.
    vms.wake_all(id, CpuSet::of_bits(1 << 7));
    vms.kill(id).unwrap();
}

/// Whether a CPU of a guest that waits for others sleeps.
fn sleeps(vms: &Vms<Fake, Soft>, vm: VmId, number: usize) -> bool {
    let after = leave(vms, vm, number, GuestExit::WaitForCpus);
    matches!(after, After::End(Slice::Sleeps(u64::MAX)))
}

#[test]
fn cpus_that_all_wait_for_one_another_stop_their_guest() {
    let (_, vms) = machine();
    let id = several(&vms, 3);
    reply(&vms, id, start(CpuSet::one(1)));
    assert!(sleeps(&vms, id, 0));
    // The first one is called, and the other one, which is about to wait.
    vms.wake_all(id, CpuSet::of_bits(0b11));
    assert!(sleeps(&vms, id, 1));
    vms.answer(VcpuId { vm: id, number: 0 });
    assert!(sleeps(&vms, id, 0), "the other one was called, and has not run since");
    // It runs, for a reason of the host.
    vms.answer(VcpuId { vm: id, number: 1 });
    vms.answer(VcpuId { vm: id, number: 0 });
    assert!(sleeps(&vms, id, 1), "the first one runs");
    assert_eq!(vms.state(id), State::Runs);
    assert!(!sleeps(&vms, id, 0));
    assert_eq!(vms.state(id), State::Stopped);
    let log = vms.log(id);
    let why = "its CPUs wait for one another, and nothing can wake them, on its CPU 0";
    assert!(log.starts_with(why), "{log}");
    vms.kill(id).unwrap();
}

#[test]
fn the_last_cpu_that_goes_off_while_all_others_wait_stops_their_guest() {
    let (_, vms) = machine();
    let id = several(&vms, 2);
    reply(&vms, id, start(CpuSet::one(1)));
    let stop = GuestExit::Cpus(CpuRequest::Stop);
    assert!(sleeps(&vms, id, 1));
    leave(&vms, id, 0, stop);
    assert_eq!(vms.state(id), State::Stopped);
    vms.kill(id).unwrap();
}

#[test]
fn a_line_is_typed_at_a_serial_port_and_the_payload_has_none() {
    let (_, vms) = machine();
    let name = Name::new("a").unwrap();
    let id = vms.create(name, 8 * PAGE, Order::ZERO, None, 1, &Program::Payload).unwrap();
    assert_eq!(vms.type_line(id, b"x"), Err(VmError::NoPort(name)));
    vms.kill(id).unwrap();
    let files = LinuxFiles { kernel: b"kernel", initrd: b"fs", command_line: b"" };
    let id = vms.create(name, 8 * PAGE, Order::ZERO, None, 1, &Program::Linux(files)).unwrap();
    vms.type_line(id, b"x").unwrap();
    assert!(vms.is_woken(VcpuId { vm: id, number: 0 }));
    assert_eq!(vms.type_line(id, &[b'y'; 4096]), Err(VmError::Typed(name)));
    vms.start(id, 0, Misdeed::None, &[0]).unwrap();
    for state in [State::Done, State::Stopped] {
        vms.change_state(id, state);
        assert_eq!(vms.type_line(id, b"x"), Err(VmError::State(name, state)));
    }
    vms.kill(id).unwrap();
}

/// A guest with two virtual CPUs and a serial port, whose second CPU is on, too.
fn two_with_a_port(vms: &Vms<Fake, Soft>) -> VmId {
    let (name, files) = (
        Name::new("a").unwrap(),
        LinuxFiles { kernel: b"kernel", initrd: b"fs", command_line: b"" },
    );
    let id = vms.create(name, MIB / 4, Order::ZERO, None, 2, &Program::Linux(files)).unwrap();
    vms.start(id, 0, Misdeed::None, &[1, 2]).unwrap();
    assert_eq!(reply(vms, id, start(CpuSet::one(1))), CpuReply::Done);
    id
}

/// Has a CPU of a guest hand over what was typed.
fn hands(vms: &Vms<Fake, Soft>, vm: VmId, number: usize) -> bool {
    let at = VcpuId { vm, number };
    let place = vms.host.vcpu(at).unwrap();
    let vcpu = place.lock().take().unwrap();
    let got_any = vms.hand_typed(at, &vcpu);
    *place.lock() = Some(vcpu);
    got_any
}

#[test]
fn what_is_typed_is_handed_over_by_any_cpu_that_is_on_and_wakes_one() {
    let (_, vms) = machine();
    let id = two_with_a_port(&vms);
    leave(&vms, id, 0, GuestExit::Cpus(CpuRequest::Stop));
    vms.type_line(id, b"x").unwrap();
    assert_eq!([0, 1].map(|number| vms.is_woken(VcpuId { vm: id, number })), [false, true]);
    assert!(hands(&vms, id, 1));
    assert!(!hands(&vms, id, 1), "the port has room for one byte");
    vms.kill(id).unwrap();
}

#[test]
fn a_cpu_that_goes_on_with_what_was_typed_waits_for_no_other_one() {
    let (_, vms) = machine();
    let id = two_with_a_port(&vms);
    vms.type_line(id, b"x").unwrap();
    vms.answer(VcpuId { vm: id, number: 0 });
    assert!(sleeps(&vms, id, 0) && hands(&vms, id, 0));
    assert!(sleeps(&vms, id, 1), "the first one runs");
    assert_eq!(vms.state(id), State::Runs);
    vms.kill(id).unwrap();
}

#[test]
fn rounds_and_misdeeds_are_not_for_linux() {
    let (_, vms) = machine();
    let name = Name::new("a").unwrap();
    let files = LinuxFiles { kernel: b"kernel", initrd: b"fs", command_line: b"" };
    let id = vms.create(name, 8 * PAGE, Order::ZERO, None, 1, &Program::Linux(files)).unwrap();
    for (rounds, misdeed) in [(3, Misdeed::None), (0, Misdeed::Wait)] {
        assert_eq!(vms.start(id, rounds, misdeed, &[0]), Err(VmError::NoPayload(name)));
    }
    assert_eq!(vms.state(id), State::Ready);
    vms.start(id, 0, Misdeed::None, &[0]).unwrap();
    vms.kill(id).unwrap();
}

#[test]
fn a_reset_of_cpus_that_are_off_has_no_effect_and_that_of_one_that_runs_stops_the_guest() {
    let (_, vms) = machine();
    let id = several(&vms, 3);
    let reset = |cpus| GuestExit::Cpus(CpuRequest::Reset(cpus));
    assert!(matches!(leave(&vms, id, 0, reset(CpuSet::one(0).complement())), After::GoOn));
    assert_eq!((vms.state(id), KICKED.get()), (State::Runs, 0));
    reply(&vms, id, start(CpuSet::of_bits(u64::MAX)));
    assert_eq!(powers(&vms), [Power::On; 3]);
    leave(&vms, id, 0, reset(CpuSet::one(2)));
    let log = vms.log(id);
    assert!(log.starts_with("it resets a CPU that runs (0x2), on its CPU 0\n"), "{log}");
    vms.kill(id).unwrap();
}

/// Any request, of any CPU, in any state.
#[test]
fn no_request_of_a_guest_harms_the_host_or_starts_a_cpu_that_it_lacks() {
    let (_, vms) = machine();
    let id = several(&vms, 4);
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let running: Vec<usize> = powers(&vms)
            .iter()
            .enumerate()
            .filter_map(|(number, power)| (*power == Power::On).then_some(number))
            .collect();
        let cpus = CpuSet::one(random.bits() >> random.below(64));
        let entry = [RAM * PAGE, RAM * PAGE + random.below(MIB), random.bits()];
        let entry = GuestAddr::new(*random.pick(&entry));
        let request = match random.below(4) {
            0 => CpuRequest::State(cpus),
            3 => CpuRequest::Reset(CpuSet::of_bits(random.bits() & !0xf)),
            1 => CpuRequest::Stop,
            _ => CpuRequest::Start { cpus, start: CpuStart { entry, context: random.bits() } },
        };
        let number = *random.pick(&running);
        leave(&vms, id, number, GuestExit::Cpus(request));
        vms.slot(id).unwrap().life.lock().change(number, Power::Stopping, Power::Off);
        assert!(powers(&vms).contains(&Power::On), "{request:?} turned the last one off");
        assert_eq!(vms.state(id), State::Runs);
    }
    vms.kill(id).unwrap();
    vms.verify().unwrap();
}

#[test]
fn a_cpu_that_never_began_does_not_run() {
    let (_, vms) = machine();
    let id = several(&vms, 2);
    let at = VcpuId { vm: id, number: 1 };
    on_cpu(2, || assert_eq!(vms.slice(at), Slice::Off));
    let mut vcpu = vms.host.vcpu(at).unwrap().lock().take().unwrap();
    let exit = {
        let vcpu: &mut OwnVcpu<Fake, Soft> = &mut vcpu;
        vcpu.run(
            crate::stops::Moment::default,
            &vms.enabled.enable::<Fake, Soft>(vms.mm()).ok().unwrap(),
        )
    };
    assert_eq!(exit, Some(GuestExit::Stopped("its CPU never began", 1)));
    *vms.host.vcpu(at).unwrap().lock() = Some(vcpu);
    vms.kill(id).unwrap();
}
