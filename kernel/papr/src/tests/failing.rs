//! Each call of a service fails once, while memory comes, goes and stays: what the kernel uses is configured, and the same
//! request is served when it comes again.

use super::hypervisor::{AWAY, HERE};
use super::log_entry::log;
use super::source::Rig;
use super::tree::FIRST;
use hotmem_hotplug::{DeviceId, HotplugSource, Outcome, Refusal, Request};

const BLOCKS: u32 = 3;
/// More looks than it takes until a source has no work.
const LOOKS: u32 = 20;

/// Has the `nth` call from now on fail.
fn fail(rig: &Rig, nth: u64) {
    let mut hypervisor = rig.fake.0.borrow_mut();
    (hypervisor.calls, hypervisor.fails) = (0, Some(nth));
}

/// Whether one has failed; no other does.
fn has_failed(rig: &Rig) -> bool {
    let mut hypervisor = rig.fake.0.borrow_mut();
    let calls = hypervisor.calls;
    hypervisor.fails.take().is_some_and(|nth| calls >= nth)
}

/// The device that is announced, if one is, once the source has no work.
fn arrival(rig: &mut Rig) -> Option<DeviceId> {
    let mut found = None;
    for _ in 0..LOOKS {
        match rig.source.next_event().map(|event| (event.device, event.request)) {
            Some((device, Request::Insert { .. })) => found = Some(device),
            Some((_, Request::Unreadable(error))) => assert!(!error.to_string().is_empty()),
            Some((_, other)) => panic!("{other:?}"),
            None if !rig.source.has_work() => return found,
            None => {}
        }
    }
    panic!("the source has work for ever");
}

#[test]
fn memory_comes_whichever_call_failed_when_it_was_announced_first() {
    for nth in 1.. {
        let mut rig = Rig::new(0);
        fail(&rig, nth);
        rig.send(log(1, 4, [BLOCKS, FIRST]));
        let mut device = arrival(&mut rig);
        let failed = has_failed(&rig);
        if device.is_none() {
            assert!(failed, "call {nth}");
            rig.send(log(1, 4, [BLOCKS, FIRST]));
            device = arrival(&mut rig);
        }
        let device = device.unwrap_or_else(|| panic!("call {nth}: it does not come"));
        assert_eq!(rig.states(BLOCKS), [HERE; BLOCKS as usize], "call {nth}");
        rig.source.eject(device).unwrap();
        assert_eq!(rig.states(BLOCKS), [AWAY; BLOCKS as usize], "call {nth}");
        if !failed {
            assert!(nth > 20, "only {} calls", nth - 1);
            return;
        }
    }
}

#[test]
fn memory_goes_or_stays_whole_whichever_call_of_an_eject_fails() {
    for nth in 1.. {
        let mut rig = Rig::new(BLOCKS);
        let (device, ..) = rig.inserted();
        fail(&rig, nth);
        let gone = rig.source.eject(device);
        let failed = has_failed(&rig);
        match gone {
            // The kernel uses it again.
            Err(error) => {
                assert_eq!(rig.states(BLOCKS), [HERE; BLOCKS as usize], "call {nth}: {error}");
                rig.source.eject(device).unwrap();
            }
            // What the hypervisor did not take comes with the next request for it.
            Ok(()) if failed => {
                rig.send(log(1, 4, [BLOCKS, FIRST]));
                let device = arrival(&mut rig).unwrap();
                assert_eq!(rig.states(BLOCKS), [HERE; BLOCKS as usize], "call {nth}");
                rig.source.eject(device).unwrap();
            }
            Ok(()) => {}
        }
        assert_eq!(rig.states(BLOCKS), [AWAY; BLOCKS as usize], "call {nth}");
        if !failed {
            assert!(nth > 5, "only {} calls", nth - 1);
            return;
        }
    }
}

#[test]
fn a_refusal_that_does_not_reach_the_hypervisor_is_an_error_and_the_memory_stays() {
    let mut errors = 0;
    for nth in 1.. {
        let mut rig = Rig::new(BLOCKS);
        let (device, ..) = rig.inserted();
        fail(&rig, nth);
        let refused = rig.source.reply(device, Outcome::EjectRefused(Refusal::InUse));
        let failed = has_failed(&rig);
        assert_eq!(rig.states(BLOCKS), [HERE; BLOCKS as usize], "call {nth}");
        // The first block says that the device stays.
        assert_eq!(rig.fake.0.borrow().kept.is_empty(), refused.is_err(), "call {nth}");
        errors += u64::from(refused.is_err());
        if !failed {
            // The other call fetches logs, and is repeated later.
            assert_eq!((errors, nth), (1, 3));
            return;
        }
    }
}

#[test]
fn memory_that_did_not_come_is_given_back_whichever_call_failed() {
    for nth in 1.. {
        let mut rig = Rig::new(0);
        fail(&rig, nth);
        rig.send(log(1, 4, [BLOCKS, FIRST]));
        // QEMU gives a block back only when that is requested.
        rig.fake.0.borrow_mut().withdrawn = true;
        let device = arrival(&mut rig);
        if !has_failed(&rig) {
            assert!(nth > 20, "only {} calls", nth - 1);
            return;
        }
        rig.fake.0.borrow_mut().withdrawn = false;
        if device.is_none() {
            rig.send(log(2, 4, [BLOCKS, FIRST]));
            assert_eq!(arrival(&mut rig), None);
            assert_eq!(rig.states(BLOCKS), [AWAY; BLOCKS as usize], "call {nth}");
        }
    }
}
