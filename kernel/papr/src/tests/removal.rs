//! Requests to give up memory: of several devices, of parts, and of blocks that do not exist.

use super::hypervisor::{AWAY, HERE};
use super::log_entry::log;
use super::source::Rig;
use super::tree::{FIRST, lmbs};
use hotmem_hotplug::{DeviceId, HotplugSource, Outcome, Refusal, Request};

/// A machine with two devices in use, one behind the other: of one block and of two.
fn two_pieces() -> (Rig, [DeviceId; 2]) {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [1, FIRST]));
    rig.send(log(1, 4, [2, FIRST + 1]));
    let devices = [rig.inserted().0, rig.inserted().0];
    (rig, devices)
}

/// The device that is to go next.
fn to_go(rig: &mut Rig) -> DeviceId {
    assert!(rig.source.has_work());
    let event = rig.source.next_event().unwrap();
    assert!(matches!(event.request, Request::Eject), "{event:?}");
    event.device
}

#[test]
fn a_request_over_two_pieces_ejects_both_and_gives_the_rest_up() {
    let (mut rig, devices) = two_pieces();
    rig.send(log(2, 4, [4, FIRST]));
    for device in devices {
        assert_eq!(to_go(&mut rig), device);
        rig.source.eject(device).unwrap();
    }
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.states(4), [AWAY; 4]);
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn a_request_over_two_pieces_is_cancelled_whole_while_nothing_is_gone() {
    let (mut rig, devices) = two_pieces();
    rig.send(log(2, 4, [3, FIRST]));
    assert_eq!(to_go(&mut rig), devices[0]);
    rig.source.reply(devices[0], Outcome::EjectRefused(Refusal::InUse)).unwrap();
    assert!(rig.source.next_event().is_none(), "the second one is not asked for any more");
    assert_eq!(rig.fake.0.borrow().kept, [FIRST, FIRST + 1]);
    assert_eq!(rig.states(3), [HERE; 3]);
}

#[test]
fn a_device_that_cannot_be_refused_does_not_keep_the_others_from_it() {
    let (mut rig, devices) = two_pieces();
    rig.send(log(2, 4, [3, FIRST]));
    assert_eq!(to_go(&mut rig), devices[0]);
    rig.fake.0.borrow_mut().shut = Some(FIRST);
    let refused = Outcome::EjectRefused(Refusal::InUse);
    assert!(rig.source.reply(devices[0], refused).is_err());
    assert_eq!(rig.fake.0.borrow().kept, [FIRST + 1]);
}

#[test]
fn a_request_over_two_pieces_is_not_cancelled_when_one_is_gone() {
    let (mut rig, devices) = two_pieces();
    rig.send(log(2, 4, [3, FIRST]));
    assert_eq!(to_go(&mut rig), devices[0]);
    rig.source.eject(devices[0]).unwrap();
    assert_eq!(to_go(&mut rig), devices[1]);
    rig.source.reply(devices[1], Outcome::EjectRefused(Refusal::InUse)).unwrap();
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
    // Asked again, the rest goes.
    rig.send(log(2, 4, [3, FIRST]));
    assert_eq!(to_go(&mut rig), devices[1]);
    rig.source.eject(devices[1]).unwrap();
    assert_eq!(rig.states(3), [AWAY; 3]);
}

#[test]
fn a_refusal_for_a_part_of_a_device_whose_rest_is_gone_does_not_cancel() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [2, FIRST]));
    let (device, ..) = rig.inserted();
    rig.send(log(2, 4, [4, FIRST]));
    assert_eq!(to_go(&mut rig), device);
    rig.source.reply(device, Outcome::EjectRefused(Refusal::InUse)).unwrap();
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn a_refusal_that_crosses_the_log_of_a_larger_device_does_not_cancel() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [2, FIRST]));
    let (device, ..) = rig.inserted();
    rig.send(log(2, 4, [2, FIRST]));
    assert_eq!(to_go(&mut rig), device);
    rig.send(log(1, 4, [4, FIRST]));
    rig.source.reply(device, Outcome::EjectRefused(Refusal::InUse)).unwrap();
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn a_request_that_names_no_connector_does_not_cancel_one_that_does() {
    let (mut rig, devices) = two_pieces();
    for first in [3, 4] {
        rig.send(log(1, 2, [FIRST + first, 0]));
        rig.inserted();
    }
    rig.send(log(2, 4, [3, FIRST]));
    assert_eq!(to_go(&mut rig), devices[0]);
    // One request is under way, and one waits.
    rig.send(log(2, 2, [FIRST + 3, 0]));
    rig.send(log(2, 3, [2, 0]));
    assert!(rig.source.next_insert(Some(devices[0])).is_none());
    assert_eq!(rig.fake.0.borrow().kept, [FIRST + 4]);
    rig.source.eject(devices[0]).unwrap();
    while rig.source.has_work() {
        if let Some(event) = rig.source.next_event() {
            rig.source.eject(event.device).unwrap();
        }
    }
    assert_eq!(rig.states(5), [AWAY, AWAY, AWAY, AWAY, HERE]);
    // A request that has got its reply is not pending any more.
    rig.send(log(1, 4, [2, FIRST]));
    rig.inserted();
    rig.fake.0.borrow_mut().kept.clear();
    rig.send(log(2, 3, [2, 0]));
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.fake.0.borrow().kept, [FIRST, FIRST + 4]);
}

#[test]
fn a_request_for_more_memory_than_there_can_be_ends_at_once() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [2, FIRST]));
    rig.inserted();
    rig.fake.0.borrow_mut().changes.clear();
    for (count, first) in [(u32::MAX, FIRST), (u32::MAX, 0), (1 << 30, FIRST + 2)] {
        rig.send(log(2, 4, [count, first]));
        assert!(rig.source.next_event().is_none());
    }
    assert_eq!(rig.fake.0.borrow().changes, []);
    assert_eq!(rig.states(2), [HERE; 2]);
}

/// A device in use that is asked for, and the eject of it is under way.
fn going() -> (Rig, DeviceId) {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [4, FIRST]));
    let (device, ..) = rig.inserted();
    rig.send(log(2, 4, [4, FIRST]));
    assert_eq!(to_go(&mut rig), device);
    (rig, device)
}

#[test]
fn an_add_is_served_while_another_device_is_given_up() {
    let (mut rig, device) = going();
    assert!(rig.source.next_insert(Some(device)).is_none());
    rig.send(log(1, 4, [2, FIRST + 4]));
    // What cannot be read, or is not described, is refused at once, too.
    rig.send(log(1, 4, [4, FIRST + 6]));
    let event = rig.source.next_insert(Some(device)).unwrap();
    assert!(matches!(event.request, Request::Insert { .. }) && event.device != device);
    let event = rig.source.next_insert(Some(device)).unwrap();
    assert!(matches!(event.request, Request::Unreadable(_)), "{event:?}");
    assert!(rig.source.next_insert(Some(device)).is_none());
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(6), [AWAY, AWAY, AWAY, AWAY, HERE, HERE]);
    assert!(rig.source.next_event().is_none());
}

#[test]
fn an_add_is_served_while_a_device_of_another_source_is_given_up() {
    let mut rig = Rig::new(0);
    assert!(rig.source.next_insert(None).is_none());
    rig.send(log(1, 4, [2, FIRST + 4]));
    rig.send(log(2, 4, [2, FIRST + 4]));
    rig.send(log(1, 4, [2, FIRST]));
    // The removal of the first one is requested already, and pending.
    let event = rig.source.next_insert(None);
    assert!(event.is_none(), "{event:?}");
    let event = rig.source.next_insert(None).unwrap();
    assert!(matches!(event.request, Request::Insert { .. }), "{event:?}");
    assert!(rig.source.next_insert(None).is_none());
}

#[test]
fn an_add_in_the_place_of_the_device_that_is_given_up_waits_for_its_end() {
    let (mut rig, device) = going();
    // The same connectors come again, and go, and come.
    for action in [1, 2, 1] {
        rig.send(log(action, 4, [2, FIRST]));
        assert!(rig.source.next_insert(Some(device)).is_none());
    }
    rig.send(log(2, 4, [2, FIRST + 4]));
    rig.send(log(1, 4, [2, FIRST + 4]));
    assert!(
        rig.source.next_insert(Some(device)).is_none(),
        "an older log is about the same memory"
    );
    rig.source.eject(device).unwrap();
    let mut inserted = Vec::new();
    while rig.source.has_work() {
        match rig.source.next_event().map(|event| event.request) {
            Some(Request::Insert { ranges, .. }) => inserted.push(ranges.as_slice().to_vec()),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    assert_eq!(inserted, [[lmbs(0, 2)], [lmbs(4, 2)]]);
    assert_eq!(rig.states(6), [HERE, HERE, AWAY, AWAY, HERE, HERE]);
}
